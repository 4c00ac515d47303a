//! [`ZarrSource`]: what a scan reads, as DataFusion's `DataSourceExec` wants to know it.

use std::{
    any::Any,
    fmt::{self, Formatter},
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
    read::{Scan, ScanOptions},
};

use super::{
    metrics::Metrics,
    order::visits,
    queue::{TileNumbers, TileQueues},
    reader::{TileReader, Work},
    stream::rows,
};
use crate::{
    error::external,
    expression::{union, with_columns},
    predicate::{Predicate, is_deferred, select_loaded},
    statistics::column_statistics,
};

/// A scan of some columns of a Zarr table.
#[derive(Clone, Debug)]
pub struct ZarrSource {
    /// The store, as the user wrote it.
    store: Arc<str>,
    table: Arc<Table>,
    table_schema: SchemaRef,
    options: ScanOptions,
    /// The columns of the output by their positions in the table; the same may be there twice.
    output: Vec<usize>,
    schema: SchemaRef,
    /// The selected indices of each dimension.
    selection: Vec<Selection>,
    /// What decides on rows, beside the selection. Like all predicates here they name columns by
    /// their positions in the table, whatever the output is.
    filters: Vec<Predicate>,
    /// What the operators above will know when the query runs.
    deferred: Vec<Arc<dyn PhysicalExpr>>,
    /// The dimensions in whose order tiles are visited first.
    order: Vec<(usize, bool)>,
    /// The order in which rows come out, if one was asked for and can be given.
    ordering: Option<LexOrdering>,
    limit: Option<usize>,
    partitions: usize,
    /// What the user should know of the query.
    notes: Vec<String>,
    /// Why the aggregate above isn't part of the scan.
    refusal: Option<Arc<str>>,
    scan: Arc<Scan>,
    /// The columns that are read, by their positions in the table: the output's, and the filters'.
    columns: Vec<usize>,
    statistics: OnceLock<Arc<Statistics>>,
    metrics: ExecutionPlanMetricsSet,
}

impl ZarrSource {
    /// A scan of the columns at these positions of a table, whose schema is `table_schema`.
    ///
    /// # Errors
    /// [`lsio_core::Error::Unreadable`] if one of the columns can't be read.
    pub(crate) fn try_new(
        store: &str,
        table: Arc<Table>,
        table_schema: SchemaRef,
        output: Vec<usize>,
        selection: Vec<Selection>,
        options: ScanOptions,
    ) -> Result<Self> {
        let scan = Scan::new(&table, &output, selection.clone(), &options).map_err(external)?;
        let schema = Arc::new(table_schema.project(&output)?);
        Self {
            store: store.into(),
            table,
            table_schema,
            options,
            output,
            schema,
            selection,
            filters: Vec::new(),
            deferred: Vec::new(),
            order: Vec::new(),
            ordering: None,
            limit: None,
            partitions: 1,
            notes: Vec::new(),
            refusal: None,
            scan: Arc::new(scan),
            columns: Vec::new(),
            statistics: OnceLock::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        }
        .replanned()
    }

    /// Reads the tiles of these numbers, as one of so many partitions.
    pub(crate) fn reader(
        &self,
        tiles: TileNumbers,
        partition: usize,
        partitions: usize,
        context: &TaskContext,
        metrics: &ExecutionPlanMetricsSet,
    ) -> TileReader {
        let scan_position = |position| self.columns.binary_search(position).ok();
        let work = Work {
            scan: Arc::clone(&self.scan),
            columns: self.columns.clone(),
            output: self.output.iter().filter_map(scan_position).collect(),
            filters: self.filters.clone(),
            deferred: self.deferred.clone(),
            table: Arc::clone(&self.table),
            table_schema: Arc::clone(&self.table_schema),
            partitions,
        };
        let metrics = Metrics::new(metrics, partition, Arc::clone(&self.store));
        TileReader::new(work, tiles, context, metrics)
    }

    pub(crate) fn with_limit(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        // What is left out by a deferred predicate must not count, and what counts is decided here.
        if limit.is_some() {
            self.deferred.clear();
        }
        self.statistics = OnceLock::new();
        self
    }

    /// The table that is read.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The selected indices of each dimension.
    #[must_use]
    pub fn selection(&self) -> &[Selection] {
        &self.selection
    }

    /// The schema of the table.
    pub(crate) fn table_schema(&self) -> &SchemaRef {
        &self.table_schema
    }

    /// The most rows that are given out, if there is a limit.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.limit
    }

    pub(crate) fn scan(&self) -> &Arc<Scan> {
        &self.scan
    }

    /// A column of the output, as one of the table.
    pub(crate) fn column(&self, index: usize) -> Option<Column> {
        let position = *self.output.get(index)?;
        // Names may have been changed on the way.
        Some(Column::new(&self.table.columns[position].name, position))
    }

    /// The dimensions along which predicates vary that aren't part of the selection.
    pub(crate) fn filter_dims(&self) -> Vec<usize> {
        let filters = self.filters.iter().flat_map(Predicate::columns).copied();
        let deferred = self.deferred.iter().flat_map(collect_columns).map(|c| c.index());
        let columns: Vec<usize> = filters.chain(deferred).collect();
        union(columns.iter().map(|&c| self.table.columns[c].dims.as_slice()))
    }

    /// Whether some rows of what is selected may be left out.
    pub(crate) fn leaves_out_rows(&self) -> bool {
        !self.filters.is_empty() || !self.deferred.is_empty()
    }

    /// Whether a column of the table is read chunk by chunk.
    pub(crate) fn is_chunked(&self, position: usize) -> bool {
        let column = &self.table.columns[position];
        let rank = self.table.dims.len();
        column.variable.is_some() && !column.is_held(rank, self.options.held_bytes)
    }

    /// What decides on rows, if it is all comparisons of columns that are read chunk by chunk with
    /// numbers: each with its column.
    pub(crate) fn comparisons(&self) -> Option<Vec<(Predicate, usize)>> {
        if self.filters.is_empty() || !self.deferred.is_empty() {
            return None;
        }
        let compared = self.filters.iter().map(|filter| {
            let column = filter.compared_column(&self.table).filter(|&c| self.is_chunked(c))?;
            Some((filter.clone(), column))
        });
        compared.collect()
    }

    /// The same without what decides on rows, for who applies it.
    pub(crate) fn without_filters(mut self) -> Result<Self> {
        self.filters.clear();
        self.replanned()
    }

    /// The same rows with other columns, by their positions in the table: those at these indices, and
    /// as far as these predicates hold.
    pub(crate) fn reading(
        mut self,
        columns: Vec<usize>,
        selection: Vec<Selection>,
        filters: Vec<Predicate>,
    ) -> Result<Self> {
        self.schema = Arc::new(self.table_schema.project(&columns)?);
        self.output = columns;
        self.selection = selection;
        self.filters.extend(filters);
        self.replanned()
    }

    /// The same with tiles in the order of these dimensions.
    pub(crate) fn visiting(mut self, order: Vec<(usize, bool)>) -> Result<Self> {
        self.order = order;
        self.replanned()
    }

    /// The same with a predicate over the table, which may leave out rows as far as it is known when
    /// the query runs.
    pub(crate) fn with_deferred(mut self, predicate: Arc<dyn PhysicalExpr>) -> Self {
        self.deferred.push(predicate);
        self
    }

    /// The same, telling why an aggregate above it isn't part of the scan.
    pub(crate) fn with_refusal(mut self, reason: &str) -> Self {
        self.refusal = Some(reason.into());
        self
    }

    /// The chunks that hold selected cells, of the columns that are read chunk by chunk.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.scan.chunks()
    }

    /// What the user should know of the query.
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

    /// The path that names a variable's own table.
    pub(crate) fn variable_path(&self, name: &str) -> String {
        let variable = self.table.columns.iter().find(|column| column.name == name);
        match variable.and_then(|column| column.variable.as_ref()) {
            Some(variable) => variable.location().name().to_owned(),
            None => name.to_owned(),
        }
    }

    /// The same with the scan that fits what was changed.
    fn replanned(mut self) -> Result<Self> {
        self.columns = self.output.clone();
        self.columns.extend(self.filters.iter().flat_map(Predicate::columns));
        self.columns.sort_unstable();
        self.columns.dedup();
        let scan = Scan::new(&self.table, &self.columns, self.selection.clone(), &self.options)
            .map_err(external)?;
        self.scan = Arc::new(scan.with_order(&self.order));
        self.statistics = OnceLock::new();
        Ok(self)
    }

    /// The selected cells. They are part of a table whose cells 63 bits count.
    fn rows(&self) -> u64 {
        self.selection.iter().map(Selection::len).fold(1, u64::saturating_mul)
    }

    /// The bytes of all selected rows, or of the chunks that hold them, decoded.
    fn bytes(&self) -> u64 {
        let widths = self.columns.iter().map(|&position| {
            self.table.columns[position].variable.as_ref().map_or(8, |v| v.value_bytes())
        });
        self.rows()
            .saturating_mul(widths.fold(0, u64::saturating_add))
            .max(self.scan.decoded_bytes())
    }

    fn statistics(&self) -> Result<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Ok(rows) = usize::try_from(self.rows()) {
            statistics.num_rows = Precision::Exact(rows);
        }
        statistics.column_statistics = self
            .output
            .iter()
            .map(|&position| {
                column_statistics(&self.table, &self.table.columns[position], &self.selection)
            })
            .collect::<Result<_>>()?;
        statistics.calculate_total_byte_size(&self.schema);
        if !self.filters.is_empty() || !self.deferred.is_empty() {
            statistics = statistics.to_inexact();
        }
        statistics.with_fetch(self.limit, 0, self.partitions)
    }

    /// A predicate over the output as one over the table.
    fn over_table(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        with_columns(expr, |column| self.column(column.index()))
    }

    /// Why a filter decides on rows, and isn't a selection.
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

    /// What there is to tell, a line each.
    fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = Vec::new();
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        details.push(("columns", format!("[{}]", names.join(", "))));
        let dims = self.table.dims.iter();
        let grid: Vec<String> = dims.clone().map(|d| format!("{}={}", d.name, d.size)).collect();
        details.push(("grid", format!("[{}]", grid.join(", "))));
        let selected: Vec<String> = dims
            .zip(&self.selection)
            .filter(|(dim, selection)| selection.len() < dim.size)
            .map(|(dim, selection)| {
                let ranges = selection.ranges().len();
                let parts = if ranges > 1 { format!(" in {ranges} ranges") } else { String::new() };
                format!("{}={}/{}{parts}", dim.name, selection.len(), dim.size)
            })
            .collect();
        let (wanted, all) = (self.chunks(), self.scan.all_chunks());
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
        if !self.order.is_empty() {
            let order: Vec<String> = self
                .order
                .iter()
                .map(|&(dim, reversed)| {
                    let from_end = if reversed { " from the end" } else { "" };
                    format!("{}{from_end}", self.table.dims[dim].name)
                })
                .collect();
            let sorted = if self.ordering.is_some() { ", sorted" } else { "" };
            details.push(("order", format!("[{}{sorted}]", order.join(", "))));
        }
        if let Some(limit) = self.limit {
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
        let end = self.scan.tiles().len();
        let queues = sibling_state.as_ref().and_then(|s| s.downcast_ref::<TileQueues>());
        let tiles = match queues {
            Some(queues) => queues.open(partition, self.partitions, &context, end),
            None => TileNumbers::strided(partition, self.partitions, end),
        };
        let reader = self.reader(tiles, partition, self.partitions, &context, &self.metrics);
        Ok(rows(reader, Arc::clone(&self.schema), self.limit, &context))
    }

    fn create_sibling_state(&self, config: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        // Off where partitions may run in different processes, which share no state.
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
        let tiles = usize::try_from(self.scan.tiles().len()).unwrap_or(usize::MAX);
        let partitions = target_partitions.min(tiles);
        // The rows of a limit come from the start of the grid, which one partition reads, unless they
        // have to be looked for. An order is that of one partition.
        let in_order = self.limit.is_some() && self.filters.is_empty();
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
        // The same column under two names, as a projection would have told.
        for (index, position) in self.output.iter().enumerate() {
            let first = self.output.iter().position(|other| other == position);
            let Some(first) = first.filter(|first| *first < index) else { continue };
            let column = |index: usize| -> Arc<dyn PhysicalExpr> {
                Arc::new(Column::new(self.schema.field(index).name(), index))
            };
            // What can't be told is left out: it only helps.
            let _ = properties.add_equal_conditions(column(first), column(index));
        }
        properties
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        if partition.is_some() && self.partitions > 1 {
            // Which tiles a partition takes shows only when it runs.
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
        self.limit
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        // Columns may be picked, reordered and renamed here; expressions stay above.
        let mut picked = Vec::new();
        for expr in projection.iter() {
            match expr.expr.downcast_ref::<Column>() {
                Some(column) => picked.push(column.index()),
                None => return Ok(None),
            }
        }
        if self.ordering.is_some() {
            // It was asked for in terms of the output as it is.
            return Ok(None);
        }
        let schema = Arc::new(projection.project_schema(&self.schema)?);
        let output: Vec<usize> = picked.iter().map(|&index| self.output[index]).collect();
        Ok(Some(Arc::new(Self { output, schema, ..self.clone() }.replanned()?)))
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
            || source.selection != self.selection;
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
        let visits = visits(order, &self.output, &self.table, self.scan.tiles())?;
        let Some(visits) = visits.filter(|_| self.limit.is_none()) else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let mut source = self.clone();
        source.order = visits.dims;
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
        // Joins and sorts keep a filter up to date only if they find it here.
        apply_expression_roots(self.filters.iter().map(Predicate::expr).chain(&self.deferred), f)
    }
}

impl ZarrSource {
    /// Takes a filter over the output. The answer is whether nobody else has to apply it.
    fn push(&mut self, filter: &Arc<dyn PhysicalExpr>) -> Result<PushedDown> {
        let Some(expr) = self.over_table(filter)? else { return Ok(PushedDown::No) };
        if self.limit.is_some() {
            // The rows that it leaves out are among those that the limit counts.
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
                self.selection[dim] = self.selection[dim].intersect(&selection);
            }
            None => self.filters.push(predicate),
        }
        Ok(PushedDown::Yes)
    }
}
