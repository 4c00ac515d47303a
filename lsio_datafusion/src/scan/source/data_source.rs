//! DataFusion's `DataSource` over a [`ZarrSource`]: execution, `EXPLAIN`, push-downs.

use std::{
    any::Any,
    fmt::{self, Formatter},
    sync::Arc,
};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{Statistics, config::ConfigOptions, tree_node::TreeNodeRecursion},
    datasource::source::{DataSource, OpenArgs},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr, expressions::Column,
        projection::ProjectionExprs,
    },
    physical_plan::{
        DisplayFormatType, Partitioning, SortOrderPushdownResult, apply_expression_roots,
        filter_pushdown::{FilterPushdownPropagation, PushedDown},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{TryStreamExt as _, stream};

use super::ZarrSource;
use crate::{
    predicate::{Predicate, is_deferred, select_loaded},
    scan::{
        in_order::{Compute, TilesInOrder},
        order::visits,
        queue::{Partition, TileNumbers, TileQueues},
        stream::rows,
        tile_rows::TileRanges,
    },
};

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
        if self.is_of_execution() {
            let (source, schema) = (self.clone(), Arc::clone(&self.schema));
            let opened = stream::once(async move {
                let execution = Arc::clone(tiles.execution());
                let own = execution.source(source.for_execution(&context)).await?;
                own.rows_of(tiles, partition, &context)
            });
            let opened = opened.try_flatten();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, opened)));
        }
        self.rows_of(tiles, partition, &context)
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
        // order needs one partition. It has workers of its own.
        let in_order = self.spec.limit.is_some() && self.filters.is_empty();
        let small = self.work() < min_size as u64;
        // Tiles that continue each other come in order.
        let in_order = in_order || self.continues();
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
        let may_change = self.spec.limit.is_none() && !self.is_part() && !self.continues();
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
    /// Rows of these tiles.
    fn rows_of(
        &self,
        tiles: TileNumbers,
        partition: Partition,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let schema = || Arc::clone(&self.schema);
        let count = self.workers(partition, context);
        if count <= 1 {
            let reader = self.reader(tiles, partition, context, &self.metrics)?;
            return Ok(rows(reader, schema(), self.spec.limit, context));
        }
        self.tiles_in_order(tiles.in_turns(count), None, schema(), context)
    }

    /// Rows of all tiles in their order, read by `count` workers, of which each batch is passed to `compute`. `schema` is
    /// that of the result.
    pub(in crate::scan) fn in_order(
        &self,
        count: usize,
        compute: Option<Compute>,
        schema: &SchemaRef,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let whole = Partition { index: 0, count: 1 };
        let tiles = TileNumbers::strided(whole, self.tile_range());
        self.tiles_in_order(tiles.in_turns(count), compute, Arc::clone(schema), context)
    }

    fn tiles_in_order(
        &self,
        tiles: Vec<TileNumbers>,
        compute: Option<Compute>,
        schema: SchemaRef,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let count = tiles.len();
        let batch_size = context.session_config().batch_size().max(1);
        let workers = tiles.into_iter().enumerate().map(|(index, tiles)| {
            let first = tiles.first();
            let reader = self.reader(tiles, Partition { index, count }, context, &self.metrics)?;
            Ok((first, TileRanges::new(reader, Arc::clone(&self.schema), batch_size)))
        });
        let in_order = TilesInOrder {
            workers: workers.collect::<Result<_>>()?,
            compute,
            schema,
            limit: self.spec.limit,
            metrics: BaselineMetrics::new(&self.metrics, 0),
        };
        Ok(in_order.rows(context))
    }

    /// Number of workers that decode the tiles of a partition: several if it is the only one.
    fn workers(&self, partition: Partition, context: &TaskContext) -> usize {
        let config = context.session_config();
        let least = config.options().optimizer.repartition_file_min_size as u64;
        if partition.count > 1 || self.work() < least {
            return 1;
        }
        let range = self.tile_range();
        let tiles = range.end - range.start;
        config.target_partitions().min(usize::try_from(tiles).unwrap_or(usize::MAX))
    }

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
