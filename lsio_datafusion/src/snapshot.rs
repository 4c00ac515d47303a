//! The store as one query sees it. Others may write to it: each query opens it again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lsio_core::{Dataset, Error, Result, Table};
use tokio::sync::Mutex;

/// How old a snapshot may be that was made for a query which hasn't used it yet.
const FRESH: Duration = Duration::from_secs(1);

/// For how long what looks like the same query is it: a DataFrame that is run again can't be told from
/// one that scans a table twice.
const SAME_QUERY: Duration = Duration::from_millis(200);

/// A store at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) table: Arc<Table>,
}

/// The snapshots that queries of one table see. All have the columns of the first.
#[derive(Debug)]
pub(crate) struct Snapshots {
    first: Snapshot,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    snapshot: Snapshot,
    /// When it was made, or used last.
    made: Instant,
    use_by: Use,
}

/// Who a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nobody: the next query makes its own.
    Nobody,
    /// The first query that asks.
    First,
    /// The query that began at this time.
    Query(Option<i64>),
}

impl Snapshots {
    /// Those of a table that stays.
    pub(crate) fn new(dataset: Dataset, table: Table) -> Self {
        let first = Snapshot { dataset: Arc::new(dataset), table: Arc::new(table) };
        Self::starting_with(first, Use::Nobody)
    }

    /// The same, where the first was made for the query that comes next.
    pub(crate) fn for_a_query(self) -> Self {
        Self::starting_with(self.first, Use::First)
    }

    fn starting_with(first: Snapshot, use_by: Use) -> Self {
        let last = Last { snapshot: first.clone(), made: Instant::now(), use_by };
        Self { first, last: Mutex::new(last) }
    }

    pub(crate) fn first(&self) -> &Snapshot {
        &self.first
    }

    /// The store as the query sees it that began at this time, in microseconds.
    ///
    /// # Errors
    /// Those of [`Dataset::open`], and [`Error::Metadata`] if the columns aren't those of the first
    /// snapshot.
    pub(crate) async fn of(&self, query: Option<i64>) -> Result<Snapshot> {
        let mut last = self.last.lock().await;
        let age = last.made.elapsed();
        let is_good = match last.use_by {
            Use::Nobody => false,
            Use::First => age < FRESH,
            Use::Query(known) => known == query && age < SAME_QUERY,
        };
        if !is_good {
            let dataset = self.first.dataset.reopen().await?;
            let table = same_columns(&self.first.table, dataset.table()?).map_err(|reason| {
                Error::Metadata { key: dataset.location().name().to_owned(), reason }
            })?;
            last.snapshot = Snapshot { dataset: Arc::new(dataset), table: Arc::new(table) };
        }
        last.made = Instant::now();
        last.use_by = Use::Query(query);
        Ok(last.snapshot.clone())
    }

    /// Says that the query is still being planned, however long that took by now: the next scan in it
    /// sees the same snapshot.
    pub(crate) async fn keep_for(&self, query: Option<i64>) {
        let mut last = self.last.lock().await;
        if last.use_by == Use::Query(query) {
            last.made = Instant::now();
        }
    }
}

/// The table with the columns of the one before in their order. What was added to the store since is
/// left out.
fn same_columns(before: &Table, mut now: Table) -> std::result::Result<Table, String> {
    let dims =
        |table: &Table| -> Vec<String> { table.dims.iter().map(|dim| dim.name.clone()).collect() };
    let again = "register the table again";
    if dims(before) != dims(&now) {
        return Err(format!(
            "its dimensions are {} now and were {} when the table was registered: {again}",
            dims(&now).join(", "),
            dims(before).join(", ")
        ));
    }
    let mut columns = Vec::with_capacity(before.columns.len());
    for old in &before.columns {
        let Some(at) = now.columns.iter().position(|column| column.name == old.name) else {
            return Err(format!("the column '{}' isn't there any more: {again}", old.name));
        };
        let new = now.columns.swap_remove(at);
        if new.data_type() != old.data_type() || new.dims != old.dims {
            return Err(format!(
                "the column '{}' is {} along other dimensions or of another type than {}, which it \
                 was when the table was registered: {again}",
                old.name,
                new.data_type(),
                old.data_type()
            ));
        }
        columns.push(new);
    }
    Ok(Table { columns, ..now })
}
