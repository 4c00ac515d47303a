//! [`ZarrSource`]: what a scan reads, as DataFusion's `DataSourceExec` wants to know it.

use std::{
    any::Any,
    fmt::{self, Formatter},
    sync::{Arc, OnceLock},
};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{
    common::{Statistics, config::ConfigOptions, stats::Precision, tree_node::TreeNodeRecursion},
    datasource::source::{DataSource, OpenArgs},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        EquivalenceProperties, LexOrdering, PhysicalExpr, expressions, projection::ProjectionExprs,
    },
    physical_plan::{DisplayFormatType, Partitioning, metrics::ExecutionPlanMetricsSet},
};
use lsio_core::{Table, read::Scan};
use object_store::ObjectStore;

use super::{
    queue::{TileQueues, Tiles},
    stream::{Metrics, ZarrStream},
};
use crate::{error::external, statistics::column_statistics};

/// A scan of some columns of a Zarr table.
#[derive(Clone, Debug)]
pub struct ZarrSource {
    /// The store, as the user wrote it.
    store: Arc<str>,
    table: Arc<Table>,
    scan: Arc<Scan>,
    /// The positions of the columns in the table, in the order of the output; the same column may
    /// be there twice.
    columns: Vec<usize>,
    schema: SchemaRef,
    reading: Reading,
    limit: Option<usize>,
    partitions: usize,
    /// What the user should know of the query.
    notes: Vec<String>,
    statistics: OnceLock<Arc<Statistics>>,
    metrics: ExecutionPlanMetricsSet,
}

/// How a session's settings have a table read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The bytes up to which coordinates and their like are read as a whole.
    pub(crate) held_bytes: u64,
    /// Where chunks are read from, if not from where the table was opened.
    pub(crate) store: Option<Arc<dyn ObjectStore>>,
}

impl Reading {
    fn scan(&self, table: &Table, columns: &[usize]) -> Result<Arc<Scan>> {
        let scan = Scan::new(table, columns, self.held_bytes).map_err(external)?;
        Ok(Arc::new(scan.with_store(self.store.clone())))
    }
}

impl ZarrSource {
    /// A scan of the columns at these positions of a table, whose schema is `table_schema`.
    ///
    /// # Errors
    /// [`lsio_core::Error::Unreadable`] if one of the columns can't be read.
    pub(crate) fn try_new(
        store: &str,
        table: Arc<Table>,
        columns: Vec<usize>,
        table_schema: &Schema,
        reading: Reading,
    ) -> Result<Self> {
        let scan = reading.scan(&table, &columns)?;
        let schema = Arc::new(table_schema.project(&columns)?);
        Ok(Self {
            store: store.into(),
            table,
            scan,
            columns,
            schema,
            reading,
            limit: None,
            partitions: 1,
            notes: Vec::new(),
            statistics: OnceLock::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(crate) fn with_limit(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self.statistics = OnceLock::new();
        self
    }

    /// The table that is read.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
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

    /// The bytes of all rows, decoded.
    fn bytes(&self) -> u64 {
        let widths = self.columns.iter().map(|&position| {
            self.table.columns[position].data_type().primitive_width().unwrap_or(16) as u64
        });
        self.table.rows.saturating_mul(widths.sum())
    }

    fn statistics(&self) -> Result<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Ok(rows) = usize::try_from(self.table.rows) {
            statistics.num_rows = Precision::Exact(rows);
        }
        statistics.column_statistics = self
            .columns
            .iter()
            .map(|&position| column_statistics(&self.table, &self.table.columns[position]))
            .collect::<Result<_>>()?;
        statistics.calculate_total_byte_size(&self.schema);
        statistics.with_fetch(self.limit, 0, self.partitions)
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
        let end = self.scan.tiles().len();
        let queues = args.sibling_state.as_ref().and_then(|s| s.downcast_ref::<TileQueues>());
        let tiles = match queues {
            Some(queues) => queues.open(args.partition, &args.context, end),
            None => {
                Tiles::Strided { next: args.partition as u64, step: self.partitions as u64, end }
            }
        };
        Ok(Box::pin(ZarrStream::new(
            Arc::clone(&self.scan),
            tiles,
            Arc::clone(&self.schema),
            self.limit,
            args.context.session_config().batch_size(),
            self.partitions,
            Metrics::new(&self.metrics, args.partition),
        )))
    }

    fn create_sibling_state(&self, config: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        // Off where partitions may run in different processes, which share no state.
        let stealing = config.execution.enable_file_stream_work_stealing;
        stealing.then(|| Arc::new(TileQueues::default()) as _)
    }

    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter) -> fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let grid: Vec<String> =
            self.table.dims.iter().map(|d| format!("{}={}", d.name, d.size)).collect();
        let chunks = self.scan.chunks();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "zarr='{}', columns=[{}], grid=[{}], chunks={chunks}",
                    self.store,
                    columns.join(", "),
                    grid.join(", ")
                )?;
                if let Some(limit) = self.limit {
                    write!(f, ", limit={limit}")?;
                }
                for note in &self.notes {
                    write!(f, ", note: {note}")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "format=zarr")?;
                writeln!(f, "columns={}", columns.join(", "))?;
                writeln!(f, "grid={}", grid.join(", "))?;
                writeln!(f, "chunks={chunks}")?;
                if let Some(limit) = self.limit {
                    writeln!(f, "limit={limit}")?;
                }
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
        // The rows of a limit come from the start of the grid, which one partition reads.
        if self.limit.is_some() || partitions <= 1 || self.bytes() < min_size as u64 {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self { partitions, ..self.clone() })))
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
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
            match expr.expr.downcast_ref::<expressions::Column>() {
                Some(column) => picked.push(column.index()),
                None => return Ok(None),
            }
        }
        let schema = Arc::new(projection.project_schema(&self.schema)?);
        let columns: Vec<usize> = picked.iter().map(|&index| self.columns[index]).collect();
        let scan = self.reading.scan(&self.table, &columns)?;
        Ok(Some(Arc::new(Self {
            columns,
            schema,
            scan,
            statistics: OnceLock::new(),
            ..self.clone()
        })))
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}
