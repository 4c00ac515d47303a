//! Rows in the order of the grid, where no order is asked for: always the same.

use std::{
    fmt::{self, Formatter},
    sync::Arc,
};

use arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::{
    common::{Statistics, config::ConfigOptions, internal_err, tree_node::TreeNodeRecursion},
    datasource::{sink::DataSinkExec, source::DataSourceExec},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, Partitioning,
        PlanProperties, analyze::AnalyzeExec, coalesce_partitions::CoalescePartitionsExec,
        coop::CooperativeExec, execution_plan::ReplaceChildrenOptions, limit::GlobalLimitExec,
        projection::ProjectionExec, repartition::RepartitionExec, replace_children_if_necessary,
        statistics::StatisticsArgs,
    },
};

use super::in_order::Compute;
use crate::ZarrSource;

/// Gives the rows of a scan to whoever takes all of them in the order of the grid.
///
/// Partitions end in the order in which their chunks come, so that two runs would give the same rows in two orders. Runs
/// last: it takes the place of what brings partitions together.
#[derive(Debug)]
pub(crate) struct GridOrder;

impl PhysicalOptimizerRule for GridOrder {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Off where partitions may run in different processes.
        if !config.execution.enable_file_stream_work_stealing {
            return Ok(plan);
        }
        Ok(in_order(&plan)?.unwrap_or(plan))
    }

    fn name(&self) -> &'static str {
        "zarr_grid_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan with its rows in order; `None` if they aren't those of a scan, or have an order.
fn in_order(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(ordered) = GridOrderExec::new(plan) {
        return Ok(Some(Arc::new(ordered)));
    }
    let children = plan.children();
    let [input] = children.as_slice() else { return Ok(None) };
    if let Some(coalesced) = plan.downcast_ref::<CoalescePartitionsExec>() {
        let Some(ordered) = GridOrderExec::new(input) else { return Ok(None) };
        let ordered: Arc<dyn ExecutionPlan> = Arc::new(ordered);
        return Ok(Some(match coalesced.fetch() {
            Some(fetch) => Arc::new(GlobalLimitExec::new(ordered, 0, Some(fetch))),
            None => ordered,
        }));
    }
    let passes = plan.downcast_ref::<DataSinkExec>().is_some()
        || plan.downcast_ref::<AnalyzeExec>().is_some()
        || plan.downcast_ref::<GlobalLimitExec>().is_some()
        || plan.downcast_ref::<CooperativeExec>().is_some()
        || plan.downcast_ref::<ProjectionExec>().is_some();
    if !passes {
        return Ok(None);
    }
    let Some(input) = in_order(input)? else { return Ok(None) };
    replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some)
}

/// Rows of the partitions of a scan in the order of the grid, with what is computed of each batch.
#[derive(Debug)]
pub(crate) struct GridOrderExec {
    /// The scan, below projections.
    input: Arc<dyn ExecutionPlan>,
    source: ZarrSource,
    /// Partitions of the scan.
    workers: usize,
    /// The lowest first.
    projections: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
}

impl GridOrderExec {
    /// `None` if the plan isn't a scan below projections, of several partitions.
    fn new(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        if plan.output_partitioning().partition_count() <= 1 {
            return None;
        }
        let mut projections = Vec::new();
        let mut below = plan;
        let (source, workers) = loop {
            if let Some(scan) = below.downcast_ref::<DataSourceExec>() {
                let source = scan.data_source().downcast_ref::<ZarrSource>()?;
                break (source.clone(), below.output_partitioning().partition_count());
            }
            if below.downcast_ref::<ProjectionExec>().is_some() {
                projections.push(Arc::clone(below));
            } else if below.downcast_ref::<CooperativeExec>().is_none() && !is_dealt(below) {
                return None;
            }
            let [input] = below.children()[..] else { return None };
            below = input;
        };
        projections.reverse();
        if source.is_of_execution() || source.is_ordered() {
            return None;
        }
        let properties = plan.properties().as_ref().clone();
        let properties = properties.with_partitioning(Partitioning::UnknownPartitioning(1));
        let properties = Arc::new(properties);
        Some(Self { input: Arc::clone(plan), source, workers, projections, properties })
    }

    /// The same over another input.
    fn over(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Arc<dyn ExecutionPlan> {
        let Some(input) = children.pop() else { return self };
        match Self::new(&input) {
            Some(ordered) => Arc::new(ordered),
            // Another rule has changed what is below.
            None => Arc::new(CoalescePartitionsExec::new(input)),
        }
    }
}

/// Whether a plan deals batches to partitions, so that more tasks compute what is above.
fn is_dealt(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let dealt = plan.downcast_ref::<RepartitionExec>();
    dealt.is_some_and(|dealt| matches!(dealt.partitioning(), Partitioning::RoundRobinBatch(_)))
}

/// What projections compute, one after the other.
fn compute(projections: &[Arc<dyn ExecutionPlan>]) -> Option<Compute> {
    if projections.is_empty() {
        return None;
    }
    let projections = projections.to_vec();
    Some(Arc::new(move |mut batch: RecordBatch| {
        for plan in &projections {
            let Some(projection) = plan.downcast_ref::<ProjectionExec>() else { continue };
            let rows = batch.num_rows();
            let columns = projection
                .expr()
                .iter()
                .map(|expr| expr.expr.evaluate(&batch)?.into_array(rows))
                .collect::<Result<_>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            batch = RecordBatch::try_new_with_options(plan.schema(), columns, &options)?;
        }
        Ok(batch)
    }))
}

impl DisplayAs for GridOrderExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(f, "GridOrderExec"),
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for GridOrderExec {
    fn name(&self) -> &'static str {
        "GridOrderExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![true]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.over(children))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.over(children))
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("GridOrderExec has one partition, not {partition}");
        }
        let compute = compute(&self.projections);
        self.source.in_order(self.workers, compute, &self.input.schema(), &context)
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let unknown = || Arc::new(Statistics::new_unknown(&self.input.schema()));
        Ok(inputs.first().map_or_else(unknown, Arc::clone))
    }
}
