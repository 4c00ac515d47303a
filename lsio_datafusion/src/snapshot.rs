//! Snapshots of a store: each query opens the store again, as others may write to it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::{join, join_all};
use lsio_core::{Column, Dataset, Error, Result, Table};
use tokio::sync::Mutex;

/// Maximal age of a snapshot that was made for a query and not used yet.
const FRESH: Duration = Duration::from_secs(1);

/// Scope of one query's planning, an extension of its session's configuration: all scans in it see a store at
/// the same moment. Scopes are compared by address.
#[derive(Debug)]
pub(crate) struct QueryScope {
    // Values without a size may share an address.
    _byte: u8,
}

impl QueryScope {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { _byte: 0 })
    }
}

/// Store at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) table: Arc<Table>,
}

/// Snapshots of one table. All have the columns of the first.
#[derive(Debug)]
pub(crate) struct Snapshots {
    first: Snapshot,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    snapshot: Snapshot,
    made: Instant,
    use_by: SnapshotUse,
}

/// Query that a snapshot is for.
#[derive(Debug)]
enum SnapshotUse {
    /// None: the next query opens its own.
    Nobody,
    /// The next query.
    First,
    /// The query of this scope.
    Query(Weak<QueryScope>),
}

impl Snapshots {
    /// Snapshots of a registered table.
    pub(crate) fn new(dataset: Dataset, table: Table) -> Self {
        let first = Snapshot { dataset: Arc::new(dataset), table: Arc::new(table) };
        Self::starting_with(first, SnapshotUse::Nobody)
    }

    /// Reserves the first snapshot for the next query.
    pub(crate) fn for_a_query(self) -> Self {
        Self::starting_with(self.first, SnapshotUse::First)
    }

    fn starting_with(first: Snapshot, use_by: SnapshotUse) -> Self {
        let last = Last { snapshot: first.clone(), made: Instant::now(), use_by };
        Self { first, last: Mutex::new(last) }
    }

    pub(crate) fn first(&self) -> &Snapshot {
        &self.first
    }

    /// Snapshot of a query. Without a scope, as in a session with another planner, each scan opens the store. Meanwhile it
    /// reads the `early` columns by the metadata of the last snapshot: as they are now, and not as they were. What is read
    /// counts if the metadata turn out to be still the same.
    ///
    /// # Errors
    /// Those of [`Dataset::open`], and [`Error::Metadata`] if the columns aren't those of the first
    /// snapshot.
    pub(crate) async fn of(
        &self,
        scope: Option<&Arc<QueryScope>>,
        early: &[&Column],
    ) -> Result<Snapshot> {
        let mut last = self.last.lock().await;
        let is_good = match &last.use_by {
            SnapshotUse::Nobody => false,
            SnapshotUse::First => last.made.elapsed() < FRESH,
            SnapshotUse::Query(known) => {
                scope.is_some_and(|scope| known.as_ptr() == Arc::as_ptr(scope))
            }
        };
        if !is_good {
            let known = last.snapshot.table.columns.iter();
            let known = known.filter(|column| early.iter().any(|early| early.name == column.name));
            let early: Vec<Column> = known.map(Column::unread).collect();
            let reads = join_all(early.iter().map(Column::load));
            // Errors of reads say nothing before the metadata are known.
            let (dataset, _) = join(self.first.dataset.reopen(), reads).await;
            let dataset = dataset?;
            let table = same_columns(&self.first.table, dataset.table()?).map_err(|reason| {
                Error::Metadata { key: dataset.location().name().to_owned(), reason }
            })?;
            for read in &early {
                if let Some(column) = table.columns.iter().find(|column| column.name == read.name) {
                    column.take_loaded(read);
                }
            }
            last.snapshot = Snapshot { dataset: Arc::new(dataset), table: Arc::new(table) };
        }
        last.use_by =
            scope.map_or(SnapshotUse::Nobody, |scope| SnapshotUse::Query(Arc::downgrade(scope)));
        Ok(last.snapshot.clone())
    }
}

/// Restricts a table to the columns of an earlier snapshot, in their order. Columns added since are left out.
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
