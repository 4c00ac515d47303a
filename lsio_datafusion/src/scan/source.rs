//! [`ZarrSource`]: a scan as data source of DataFusion's `DataSourceExec`.

mod data_source;
mod explain;

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, OnceLock},
};

use arrow::{array::Array as _, datatypes::SchemaRef};
use datafusion::{
    common::{Statistics, stats::Precision},
    error::Result,
    execution::{TaskContext, memory_pool::MemoryReservation},
    physical_expr::{LexOrdering, PhysicalExpr, expressions::Column, utils::collect_columns},
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use lsio_core::{
    Selection, Table,
    dataset::Continues,
    read::{DimOrder, Scan, ScanOptions, Tiles},
};

use super::{
    metrics::Metrics,
    queue::{Partition, TileNumbers},
    reader::{LastTile, PartitionScan, TileReader},
    spec::ScanSpec,
};
use crate::{
    error::external,
    expression::{union, with_columns},
    predicate::{ColumnPredicate, Predicate, is_deferred, select_loaded},
    prepared::PreparedLookup,
    statistics::column_statistics,
};

/// Scan of some columns of a Zarr table: a specification, and what a session adds to it.
#[derive(Clone, Debug)]
pub struct ZarrSource {
    spec: ScanSpec,
    /// Name of the store, as the user wrote it.
    store: Arc<str>,
    table: Arc<Table>,
    table_schema: SchemaRef,
    options: ScanOptions,
    schema: SchemaRef,
    /// Predicates that decide on rows beside the selection. Like all predicates here they name columns by
    /// their positions in the table, whatever the output is.
    filters: Vec<Predicate>,
    /// Predicates that operators above complete at run time.
    deferred: Vec<Arc<dyn PhysicalExpr>>,
    /// Order of the rows, if one was requested and can be given.
    ordering: Option<LexOrdering>,
    partitions: usize,
    /// Notes for the user on the query.
    notes: Vec<String>,
    /// Reason why the aggregate above isn't part of the scan.
    refusal: Option<Arc<str>>,
    /// Reason why the join above isn't part of the scan.
    join_refusal: Option<Arc<str>>,
    /// Reason why the window above isn't part of the scan.
    window_refusal: Option<Arc<str>>,
    /// Window functions that the scan computes, for people.
    windows: Vec<String>,
    /// Whether the table has further columns than the dataset's.
    is_related: bool,
    /// What is looked up in the rows of plans that run before.
    waiting: Vec<PreparedLookup>,
    /// What is looked up, for people.
    lookups: Vec<String>,
    /// Positions in the table of the columns that are read: the output's, and the filters'.
    columns: Vec<usize>,
    tiles: Tiles,
    /// Built on first use.
    scan: OnceLock<Arc<Scan>>,
    statistics: OnceLock<Arc<Statistics>>,
    /// Memory of what one execution looks up.
    _held: Vec<Arc<MemoryReservation>>,
    metrics: ExecutionPlanMetricsSet,
}

impl ZarrSource {
    /// Scans a table with this schema. `store` is its name for people.
    ///
    /// # Errors
    /// [`lsio_core::Error::Unreadable`] if one of the columns can't be read.
    pub(crate) fn try_new(
        mut spec: ScanSpec,
        store: &str,
        table: Arc<Table>,
        table_schema: SchemaRef,
        options: ScanOptions,
    ) -> Result<Self> {
        (spec.held_bytes, spec.tile_bytes) = (options.held_bytes, options.tile_bytes);
        let (tiles, columns) = plan(&spec, &table, &[], &options)?;
        let schema = Arc::new(table_schema.project(&spec.output)?);
        Ok(Self {
            spec,
            store: store.into(),
            table,
            table_schema,
            options,
            schema,
            filters: Vec::new(),
            deferred: Vec::new(),
            ordering: None,
            partitions: 1,
            notes: Vec::new(),
            refusal: None,
            join_refusal: None,
            window_refusal: None,
            windows: Vec::new(),
            is_related: false,
            waiting: Vec::new(),
            lookups: Vec::new(),
            columns,
            tiles,
            scan: OnceLock::new(),
            statistics: OnceLock::new(),
            _held: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Specification of the scan, as plain data; `None` if columns of other scans, results of plans or windows are
    /// among its own, which a specification can't say. It lacks filters on the values of chunks: whoever sends it
    /// sends them beside it, or applies them to its rows.
    #[must_use]
    pub fn spec(&self) -> Option<&ScanSpec> {
        (!self.is_related).then_some(&self.spec)
    }

    /// Whether columns of other scans, or computed ones, are among the table's.
    pub(crate) fn is_related(&self) -> bool {
        self.is_related
    }

    /// Whether rows come in a declared order.
    pub(crate) fn is_ordered(&self) -> bool {
        self.ordering.is_some()
    }

    /// Columns of the output, by their positions in the table.
    pub(crate) fn output(&self) -> &[usize] {
        &self.spec.output
    }

    /// Reader of these tiles for one partition.
    pub(crate) fn reader(
        &self,
        tiles: TileNumbers,
        partition: Partition,
        context: &TaskContext,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<TileReader> {
        let scan_position = |position| self.columns.binary_search(position).ok();
        let work = PartitionScan {
            scan: Arc::clone(self.scan()?),
            columns: self.columns.clone(),
            output: self.spec.output.iter().filter_map(scan_position).collect(),
            filters: self.filters.clone(),
            deferred: self.deferred.clone(),
            table: Arc::clone(&self.table),
            table_schema: Arc::clone(&self.table_schema),
            partitions: partition.count,
            last: self.last_tile(),
        };
        let metrics = Metrics::new(metrics, partition.index, Arc::clone(&self.store));
        Ok(TileReader::new(work, tiles, context, metrics))
    }

    pub(crate) fn with_limit(mut self, limit: Option<usize>) -> Self {
        self.spec.limit = limit;
        // Rows that a deferred predicate drops must not count for the limit, and the limit is applied here.
        if limit.is_some() {
            self.deferred.clear();
        }
        self.statistics = OnceLock::new();
        self
    }

    /// Table that is read.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Selected indices of each dimension.
    #[must_use]
    pub fn selection(&self) -> &[Selection] {
        &self.spec.selection
    }

    /// Schema of the table.
    pub(crate) fn table_schema(&self) -> &SchemaRef {
        &self.table_schema
    }

    /// Limit on the rows of the output.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.spec.limit
    }

    /// All tiles.
    pub(crate) fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    /// Numbers of the tiles that are read.
    fn tile_range(&self) -> Range<u64> {
        let Range { start, end } = self.all_tiles();
        match self.last_tile() {
            Some(last) => start..end.min(last.number + 1),
            None => start..end,
        }
    }

    /// Numbers of the tiles that would be read without a limit.
    fn all_tiles(&self) -> Range<u64> {
        let end = self.tiles.len();
        match &self.spec.tiles {
            Some(tiles) => tiles.start.min(end)..tiles.end.min(end),
            None => 0..end,
        }
    }

    /// The last tile that the limit needs, if all rows of the tiles before count for it.
    fn last_tile(&self) -> Option<LastTile> {
        /// Tiles that are looked at. A limit that needs more of them ends within a small part of what is read.
        const MOST: usize = 4096;

        let mut rows = self.spec.limit?;
        if self.leaves_out_rows() || self.continues() {
            return None;
        }
        for number in self.all_tiles().take(MOST) {
            let own = self.tiles.block(number).rows();
            if own >= rows {
                return Some(LastTile { number, rows: rows.max(1) });
            }
            rows -= own;
        }
        None
    }

    /// Whether only some of the tiles are read.
    pub(crate) fn is_part(&self) -> bool {
        self.spec.tiles.is_some()
    }

    /// Scan of lsio_core.
    fn scan(&self) -> Result<&Arc<Scan>> {
        if let Some(scan) = self.scan.get() {
            return Ok(scan);
        }
        let selection = self.spec.selection.clone();
        let table = scanned(&self.spec, &self.table);
        let scan = Scan::new(&table, &self.columns, selection, &self.options);
        let scan = Arc::new(scan.map_err(external)?.with_order(&self.spec.order));
        // All partitions share the first one.
        Ok(self.scan.get_or_init(|| scan))
    }

    /// Maps a column of the output to one of the table.
    pub(crate) fn column(&self, index: usize) -> Option<Column> {
        let position = *self.spec.output.get(index)?;
        // Projections may have changed the name.
        Some(Column::new(&self.table.columns[position].name, position))
    }

    /// Dimensions along which the predicates beside the selection vary.
    pub(crate) fn filter_dims(&self) -> Vec<usize> {
        let filters = self.filters.iter().flat_map(Predicate::columns).copied();
        let deferred = self.deferred.iter().flat_map(collect_columns).map(|c| c.index());
        let columns: Vec<usize> = filters.chain(deferred).collect();
        union(columns.iter().map(|&c| self.table.columns[c].dims.as_slice()))
    }

    /// Whether filters may drop selected rows.
    pub(crate) fn leaves_out_rows(&self) -> bool {
        !self.filters.is_empty() || !self.deferred.is_empty()
    }

    /// Whether a column of the table is read chunk by chunk.
    pub(crate) fn is_chunked(&self, position: usize) -> bool {
        let column = &self.table.columns[position];
        let rank = self.table.dims.len();
        !column.is_local(rank, self.options.held_bytes)
    }

    /// The filters, if each compares a column that is read chunk by chunk with a number.
    pub(crate) fn comparisons(&self) -> Option<Vec<ColumnPredicate>> {
        if self.filters.is_empty() || !self.deferred.is_empty() {
            return None;
        }
        let compared = self.filters.iter().map(|filter| {
            let column = filter.compared_column(&self.table).filter(|&c| self.is_chunked(c))?;
            Some(ColumnPredicate { predicate: filter.clone(), column })
        });
        compared.collect()
    }

    /// Removes the filters, for a caller that applies them.
    pub(crate) fn without_filters(mut self) -> Result<Self> {
        self.filters.clear();
        self.replanned()
    }

    /// Reads other columns, by their positions in the table, with another selection and additional filters.
    pub(crate) fn reading(
        mut self,
        columns: Vec<usize>,
        selection: Vec<Selection>,
        filters: Vec<Predicate>,
    ) -> Result<Self> {
        self.schema = Arc::new(self.table_schema.project(&columns)?);
        self.spec.output = columns;
        self.spec.selection = selection;
        self.filters.extend(filters);
        self.replanned()
    }

    /// Visits tiles in this order.
    pub(crate) fn visiting(mut self, order: Vec<DimOrder>) -> Result<Self> {
        self.spec.order = order;
        self.replanned()
    }

    /// Adds a predicate over the table that may drop rows as far as it is known at run time.
    pub(crate) fn with_deferred(mut self, predicate: Arc<dyn PhysicalExpr>) -> Self {
        self.deferred.push(predicate);
        self
    }

    /// Notes why the aggregate above isn't part of the scan.
    pub(crate) fn with_refusal(mut self, reason: &str) -> Self {
        self.refusal = Some(reason.into());
        self
    }

    /// Notes why the join above isn't part of the scan.
    pub(crate) fn with_join_refusal(mut self, reason: &str) -> Self {
        self.join_refusal = Some(reason.into());
        self
    }

    /// Name of the store, as the user wrote it.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// Predicates that decide on rows beside the selection.
    pub(crate) fn filters(&self) -> &[Predicate] {
        &self.filters
    }

    /// Reads a table that has further columns, of the scan `other` among them.
    pub(crate) fn joined(
        mut self,
        table: Arc<Table>,
        table_schema: SchemaRef,
        other: &Self,
        selection: Vec<Selection>,
    ) -> Result<Self> {
        (self.table, self.table_schema) = (table, table_schema);
        self.is_related = true;
        self.spec.selection = selection;
        if self.options.store.is_none() {
            // Files are local on one side only.
            self.options.store.clone_from(&other.options.store);
            self.options.page_cache.clone_from(&other.options.page_cache);
        }
        self.lookups.extend(other.lookups.iter().cloned());
        self.windows.extend(other.windows.iter().cloned());
        self.refusal = None;
        self = self.with_notes(&other.notes);
        self.replanned()
    }

    /// Notes why the window above isn't part of the scan.
    pub(crate) fn with_window_refusal(mut self, reason: &str) -> Self {
        self.window_refusal = Some(reason.into());
        self
    }

    /// Notes which window functions are computed.
    pub(crate) fn with_windows(mut self, names: &[String]) -> Self {
        self.windows.extend(names.iter().cloned());
        self
    }

    /// Reads a table that has further columns.
    pub(crate) fn with_table(mut self, table: Arc<Table>, table_schema: SchemaRef) -> Result<Self> {
        (self.table, self.table_schema) = (table, table_schema);
        self.is_related = true;
        self.refusal = None;
        self.replanned()
    }

    /// Reads a table that has further columns, looked up in the rows of a plan that runs before.
    pub(crate) fn looking_up(
        mut self,
        table: Arc<Table>,
        table_schema: SchemaRef,
        lookup: PreparedLookup,
    ) -> Result<Self> {
        (self.table, self.table_schema) = (table, table_schema);
        self.is_related = true;
        self.waiting.push(lookup);
        self.refusal = None;
        self.replanned()
    }

    /// Whether columns are looked up in the rows of plans that run before.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether an execution has a source of its own: see [`ZarrSource::for_execution`].
    pub(crate) fn is_of_execution(&self) -> bool {
        self.waits() || self.continues()
    }

    /// Whether values of a tile continue those of the tile before.
    pub(crate) fn continues(&self) -> bool {
        self.scan().is_ok_and(|scan| scan.continues())
    }

    /// Whether they do so from the last tile to the first.
    pub(crate) fn continues_backward(&self) -> bool {
        self.scan().is_ok_and(|scan| scan.continues_backward())
    }

    /// Source of one execution: waits for what it looks up, and shares no tiles' states with other executions.
    pub(crate) async fn for_execution(&self, context: &Arc<TaskContext>) -> Result<Self> {
        let mut table = (*self.table).clone();
        let mut held = Vec::with_capacity(self.waiting.len());
        for lookup in &self.waiting {
            held.push(Arc::new(lookup.bind(&mut table, context).await?));
        }
        let mut source =
            Self { table: Arc::new(table), waiting: Vec::new(), _held: held, ..self.clone() };
        source.scan = OnceLock::new();
        if self.waits() {
            // What is there now may vary along fewer dimensions, or not at all.
            let mut filters = Vec::with_capacity(self.filters.len());
            for filter in &self.filters {
                let expr = Arc::clone(filter.expr());
                let filter = Predicate::new(expr, &source.table, &source.table_schema)?;
                if !is_always_true(&filter, &source.table)? {
                    filters.push(filter);
                }
            }
            source.filters = filters;
        }
        Ok(source)
    }

    /// Notes what is looked up.
    pub(crate) fn with_lookup(mut self, lookup: String) -> Self {
        self.lookups.push(lookup);
        self
    }

    /// Returns the columns at these positions in the table, with a schema of their own, of the rows for which
    /// the predicates over the table hold.
    pub(crate) fn with_output(
        mut self,
        output: Vec<usize>,
        schema: SchemaRef,
        filters: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Self> {
        (self.spec.output, self.schema) = (output, schema);
        for filter in filters {
            let known_later = is_deferred(&filter);
            let predicate = Predicate::new(filter, &self.table, &self.table_schema)?;
            let selected = if known_later { None } else { select_loaded(&predicate, &self.table)? };
            match selected {
                Some((dim, selection)) => {
                    self.spec.selection[dim] = self.spec.selection[dim].intersect(&selection);
                }
                None => self.filters.push(predicate),
            }
        }
        self.replanned()
    }

    /// Number of chunks with selected cells, in columns that are read chunk by chunk.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.scan().map_or(0, |scan| scan.chunks())
    }

    /// Notes for the user on the query.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn with_notes(mut self, notes: &[String]) -> Self {
        for note in notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
        self
    }

    /// Path of a variable's own table.
    pub(crate) fn variable_path(&self, name: &str) -> String {
        let variable = self.table.columns.iter().find(|column| column.name == name);
        match variable.and_then(lsio_core::Column::variable) {
            Some(variable) => variable.location().name().to_owned(),
            None => name.to_owned(),
        }
    }

    /// Plans the tiles anew after a change.
    fn replanned(mut self) -> Result<Self> {
        (self.tiles, self.columns) = plan(&self.spec, &self.table, &self.filters, &self.options)?;
        self.scan = OnceLock::new();
        self.statistics = OnceLock::new();
        Ok(self)
    }

    /// Number of selected cells, which fits 63 bits as that of the table does.
    fn rows(&self) -> u64 {
        self.spec.selection.iter().map(Selection::len).fold(1, u64::saturating_mul)
    }

    /// Bytes of all selected rows, or of their chunks, decoded.
    fn bytes(&self) -> u64 {
        let widths =
            self.columns.iter().map(|&position| self.table.columns[position].value_bytes());
        self.rows()
            .saturating_mul(widths.fold(0, u64::saturating_add))
            .max(self.scan().map_or(0, |scan| scan.decoded_bytes()))
    }

    /// Bytes whose decoding takes about as long as what is read: a small chunk takes longer than its bytes.
    fn work(&self) -> u64 {
        /// Bytes that are decoded while a small file is opened and read.
        const CHUNK_BYTES: u64 = 8 << 10;

        self.bytes().max(self.chunks().saturating_mul(CHUNK_BYTES))
    }

    fn statistics(&self) -> Result<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Ok(rows) = usize::try_from(self.rows()) {
            statistics.num_rows = Precision::Exact(rows);
        }
        statistics.column_statistics = self
            .spec
            .output
            .iter()
            .map(|&position| {
                column_statistics(&self.table, &self.table.columns[position], &self.spec.selection)
            })
            .collect::<Result<_>>()?;
        statistics.calculate_total_byte_size(&self.schema);
        if self.leaves_out_rows() || self.is_part() {
            statistics = statistics.to_inexact();
        }
        statistics.with_fetch(self.spec.limit, 0, self.partitions)
    }

    /// Rewrites a predicate over the output as one over the table.
    fn over_table(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        with_columns(expr, |column| self.column(column.index()))
    }
}

/// Whether a predicate is known to be true for all cells.
fn is_always_true(filter: &Predicate, table: &Table) -> Result<bool> {
    let &[column] = filter.columns() else { return Ok(false) };
    match table.columns[column].loaded() {
        Some(values) if filter.dims().is_empty() => {
            let holds = filter.evaluate(vec![Arc::clone(values)], 1)?;
            Ok(holds.is_valid(0) && holds.value(0))
        }
        _ => Ok(false),
    }
}

/// Table as a scan reads it: with columns whose values continue from tile to tile, in one direction along a dimension.
fn scanned<'a>(spec: &ScanSpec, table: &'a Table) -> Cow<'a, Table> {
    let mut scanned = Cow::Borrowed(table);
    if spec.tiles.is_some() {
        return scanned;
    }
    let mut known: Vec<Continues> = Vec::new();
    for (position, column) in table.columns.iter().enumerate() {
        let Some(continued) = column.continued(&spec.selection) else { continue };
        let Some(own) = continued.continues() else { continue };
        if known.iter().all(|other| other.dim != own.dim || other.reversed == own.reversed) {
            known.push(own);
            scanned.to_mut().columns[position] = continued;
        }
    }
    scanned
}

/// Plans the tiles of a specification, and the columns to read for its output and filters.
fn plan(
    spec: &ScanSpec,
    table: &Table,
    filters: &[Predicate],
    options: &ScanOptions,
) -> Result<(Tiles, Vec<usize>)> {
    let mut columns = spec.output.clone();
    columns.extend(filters.iter().flat_map(Predicate::columns));
    columns.sort_unstable();
    columns.dedup();
    let tiles = Scan::plan(table, &columns, spec.selection.clone(), options).map_err(external)?;
    Ok((tiles.with_order(&spec.order), columns))
}
