//! [`ZarrSource`]: a scan as data source of DataFusion's `DataSourceExec`.

use std::{
    any::Any,
    fmt::{self, Formatter},
    ops::Range,
    sync::{Arc, OnceLock},
};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{Statistics, config::ConfigOptions, stats::Precision, tree_node::TreeNodeRecursion},
    datasource::source::{DataSource, OpenArgs},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr, expressions::Column,
        projection::ProjectionExprs, utils::collect_columns,
    },
    physical_plan::{
        DisplayFormatType, Partitioning, SortOrderPushdownResult, apply_expression_roots,
        filter_pushdown::{FilterPushdownPropagation, PushedDown},
        metrics::ExecutionPlanMetricsSet,
    },
};
use lsio_core::{
    Selection, Table,
    read::{DimOrder, Scan, ScanOptions, Tiles},
};

use super::{
    metrics::Metrics,
    order::visits,
    queue::{Partition, TileNumbers, TileQueues},
    reader::{PartitionScan, TileReader},
    spec::ScanSpec,
    stream::rows,
};
use crate::{
    error::external,
    expression::{union, with_columns},
    predicate::{ColumnPredicate, Predicate, is_deferred, select_loaded},
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
    /// Positions in the table of the columns that are read: the output's, and the filters'.
    columns: Vec<usize>,
    tiles: Tiles,
    /// Built on first use.
    scan: OnceLock<Arc<Scan>>,
    statistics: OnceLock<Arc<Statistics>>,
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
            columns,
            tiles,
            scan: OnceLock::new(),
            statistics: OnceLock::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Specification of the scan, as plain data. It lacks filters on the values of chunks: whoever sends it
    /// sends them beside it, or applies them to its rows.
    #[must_use]
    pub fn spec(&self) -> &ScanSpec {
        &self.spec
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
        let end = self.tiles.len();
        match &self.spec.tiles {
            Some(tiles) => tiles.start.min(end)..tiles.end.min(end),
            None => 0..end,
        }
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
        let scan = Scan::new(&self.table, &self.columns, selection, &self.options);
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
        column.variable.is_some() && !column.is_held(rank, self.options.held_bytes)
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
        match variable.and_then(|column| column.variable.as_ref()) {
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
        let widths = self.columns.iter().map(|&position| {
            self.table.columns[position].variable.as_ref().map_or(8, |v| v.value_bytes())
        });
        self.rows()
            .saturating_mul(widths.fold(0, u64::saturating_add))
            .max(self.scan().map_or(0, |scan| scan.decoded_bytes()))
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

    /// Reason why a filter isn't a selection.
    fn reason(&self, filter: &Predicate) -> &'static str {
        let local = |&position: &usize| !self.is_chunked(position);
        if !filter.columns().iter().all(local) {
            "on the values of chunks"
        } else if filter.dims().len() > 1 {
            "on several dimensions, before chunks are read"
        } else {
            "before chunks are read"
        }
    }

    /// Details that `EXPLAIN` shows, one for each line.
    fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = Vec::new();
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        details.push(("columns", format!("[{}]", names.join(", "))));
        let dims = self.table.dims.iter();
        let grid: Vec<String> = dims.clone().map(|d| format!("{}={}", d.name, d.size)).collect();
        details.push(("grid", format!("[{}]", grid.join(", "))));
        let selected: Vec<String> = dims
            .zip(&self.spec.selection)
            .filter(|(dim, selection)| selection.len() < dim.size)
            .map(|(dim, selection)| {
                let ranges = selection.ranges().len();
                let parts = if ranges > 1 { format!(" in {ranges} ranges") } else { String::new() };
                format!("{}={}/{}{parts}", dim.name, selection.len(), dim.size)
            })
            .collect();
        let (wanted, all) = (self.chunks(), self.scan().map_or(0, |scan| scan.all_chunks()));
        if selected.is_empty() {
            details.push(("chunks", wanted.to_string()));
        } else {
            details.push(("selection", format!("[{}]", selected.join(", "))));
            details.push(("chunks", format!("{wanted}/{all}")));
        }
        for filter in &self.filters {
            details.push(("filter", format!("{} ({})", filter.expr(), self.reason(filter))));
        }
        for filter in &self.deferred {
            details.push(("filter", format!("{filter} (as far as known when the query runs)")));
        }
        if let Some(tiles) = &self.spec.tiles {
            details
                .push(("tiles", format!("{}..{} of {}", tiles.start, tiles.end, self.tiles.len())));
        }
        if !self.spec.order.is_empty() {
            let order: Vec<String> = self
                .spec
                .order
                .iter()
                .map(|&DimOrder { dim, reversed }| {
                    let from_end = if reversed { " from the end" } else { "" };
                    format!("{}{from_end}", self.table.dims[dim].name)
                })
                .collect();
            let sorted = if self.ordering.is_some() { ", sorted" } else { "" };
            details.push(("order", format!("[{}{sorted}]", order.join(", "))));
        }
        if let Some(limit) = self.spec.limit {
            details.push(("limit", limit.to_string()));
        }
        if let Some(reason) = &self.refusal {
            details.push(("aggregate not pushed down", reason.to_string()));
        }
        details
    }
}

impl DataSource for ZarrSource {
    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.open_with_args(OpenArgs::new(partition, context))
    }

    fn open_with_args(&self, args: OpenArgs) -> Result<SendableRecordBatchStream> {
        let OpenArgs { partition, context, sibling_state } = args;
        let range = self.tile_range();
        let queues = sibling_state.as_ref().and_then(|s| s.downcast_ref::<TileQueues>());
        let partition = Partition { index: partition, count: self.partitions };
        let tiles = match queues {
            Some(queues) => queues.open(partition, &context, range),
            None => TileNumbers::strided(partition, range),
        };
        let reader = self.reader(tiles, partition, &context, &self.metrics)?;
        Ok(rows(reader, Arc::clone(&self.schema), self.spec.limit, &context))
    }

    fn create_sibling_state(&self, config: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        // Off where partitions may run in different processes without shared state.
        let stealing = config.execution.enable_file_stream_work_stealing;
        stealing.then(|| Arc::new(TileQueues::default()) as _)
    }

    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter) -> fmt::Result {
        let details = self.details();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "zarr='{}'", self.store)?;
                details.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))?;
                self.notes.iter().try_for_each(|note| write!(f, ", note: {note}"))
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "format=zarr")?;
                details.iter().try_for_each(|(key, value)| {
                    writeln!(f, "{key}={}", value.trim_matches(['[', ']']))
                })?;
                self.notes.iter().try_for_each(|note| writeln!(f, "note={note}"))
            }
        }
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        min_size: usize,
        _output_ordering: Option<LexOrdering>,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        let range = self.tile_range();
        let tiles = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let partitions = target_partitions.min(tiles);
        // With a limit, one partition reads from the start of the grid, unless rows have to be searched. An
        // order needs one partition.
        let in_order = self.spec.limit.is_some() && self.filters.is_empty();
        let small = self.bytes() < min_size as u64;
        if in_order || self.ordering.is_some() || partitions <= 1 || small {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self { partitions, ..self.clone() })))
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        let mut properties = EquivalenceProperties::new(Arc::clone(&self.schema));
        properties.add_orderings(self.ordering.clone());
        // A column under two names, as a projection would report.
        for (index, position) in self.spec.output.iter().enumerate() {
            let first = self.spec.output.iter().position(|other| other == position);
            let Some(first) = first.filter(|first| *first < index) else { continue };
            let column = |index: usize| -> Arc<dyn PhysicalExpr> {
                Arc::new(Column::new(self.schema.field(index).name(), index))
            };
            // An equality that can't be added is left out: it is only of help.
            let _ = properties.add_equal_conditions(column(first), column(index));
        }
        properties
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        if partition.is_some() && self.partitions > 1 {
            // The tiles of a partition are known only at run time.
            return Ok(Arc::new(Statistics::new_unknown(&self.schema)));
        }
        if let Some(statistics) = self.statistics.get() {
            return Ok(Arc::clone(statistics));
        }
        let statistics = Arc::new(self.statistics()?);
        Ok(Arc::clone(self.statistics.get_or_init(|| statistics)))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(self.clone().with_limit(limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.spec.limit
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        // Picks, reorders and renames columns; expressions stay above.
        let mut picked = Vec::new();
        for expr in projection.iter() {
            match expr.expr.downcast_ref::<Column>() {
                Some(column) => picked.push(column.index()),
                None => return Ok(None),
            }
        }
        if self.ordering.is_some() {
            // The order names columns of the current output.
            return Ok(None);
        }
        let schema = Arc::new(projection.project_schema(&self.schema)?);
        let mut source = Self { schema, ..self.clone() };
        source.spec.output = picked.iter().map(|&index| self.spec.output[index]).collect();
        Ok(Some(Arc::new(source.replanned()?)))
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        let mut source = self.clone();
        let mut answers = Vec::with_capacity(filters.len());
        for filter in filters {
            answers.push(source.push(&filter)?);
        }
        let changed = source.filters.len() != self.filters.len()
            || source.deferred.len() != self.deferred.len()
            || source.notes.len() != self.notes.len()
            || source.spec.selection != self.spec.selection;
        let answers = FilterPushdownPropagation::with_parent_pushdown_result(answers);
        if !changed {
            return Ok(answers);
        }
        Ok(answers.with_updated_node(Arc::new(source.replanned()?)))
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn DataSource>>> {
        let visits = visits(order, &self.spec.output, &self.table, &self.tiles)?;
        // The tile numbers of a part are those of its order.
        let may_change = self.spec.limit.is_none() && !self.is_part();
        let Some(visits) = visits.filter(|_| may_change) else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let mut source = self.clone();
        source.spec.order = visits.order;
        source.ordering = None;
        if visits.exact {
            source.ordering = LexOrdering::new(order.to_vec());
            source.partitions = 1;
        }
        let inner: Arc<dyn DataSource> = Arc::new(source.replanned()?);
        Ok(if visits.exact {
            SortOrderPushdownResult::Exact { inner }
        } else {
            SortOrderPushdownResult::Inexact { inner }
        })
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        // Joins and sorts update a dynamic filter only if they find it here.
        apply_expression_roots(self.filters.iter().map(Predicate::expr).chain(&self.deferred), f)
    }
}

impl ZarrSource {
    /// Takes a filter over the output. Returns whether it is applied in full.
    fn push(&mut self, filter: &Arc<dyn PhysicalExpr>) -> Result<PushedDown> {
        let Some(expr) = self.over_table(filter)? else { return Ok(PushedDown::No) };
        if self.spec.limit.is_some() {
            // The limit counts rows that the filter would drop.
            self.notes.push(format!("not pushed below the limit: {filter}"));
            return Ok(PushedDown::No);
        }
        if is_deferred(&expr) {
            self.deferred.push(expr);
            return Ok(PushedDown::No);
        }
        let predicate = Predicate::new(expr, &self.table, &self.table_schema)?;
        match select_loaded(&predicate, &self.table)? {
            Some((dim, selection)) => {
                self.spec.selection[dim] = self.spec.selection[dim].intersect(&selection);
            }
            None => self.filters.push(predicate),
        }
        Ok(PushedDown::Yes)
    }
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
