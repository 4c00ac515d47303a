//! [`ZarrAggregateExec`]: an aggregate and its scan in one.

use std::{
    fmt::{self, Formatter},
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{
        Statistics, config::ConfigOptions, internal_err, stats::Precision,
        tree_node::TreeNodeRecursion,
    },
    datasource::source::DataSource as _,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        apply_expression_roots,
        execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType},
        filter_pushdown::{
            ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
        },
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput as _},
        statistics::StatisticsArgs,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};

use super::{
    dense::DenseResults,
    keys::CellGroups,
    masks::Weights,
    plan::{Aggregation, ResultSource},
    reduce::{layout_along, shape_of},
    slabs::Slabs,
    start::{dense, passes_over, slab_groups, start},
};
use crate::{
    ZarrSource,
    expression::{Ranked, substituted},
    predicate::is_deferred,
};

/// Aggregate over a Zarr scan: a dense reduction of its chunks.
///
/// Returns the rows of DataFusion's final aggregate, or the states of its partial one, in one partition.
/// Inside it one worker for each partition of the session takes tiles from a common queue.
#[derive(Debug)]
pub struct ZarrAggregateExec {
    plan: Arc<Aggregation>,
    /// Keys and functions as DataFusion prints them.
    description: Arc<str>,
    /// The same aggregate by DataFusion's operators, for groups that don't fit the memory.
    fallback: Option<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ZarrAggregateExec {
    pub(super) fn new(
        plan: Aggregation,
        description: &str,
        fallback: Option<Arc<dyn ExecutionPlan>>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&plan.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            plan: Arc::new(plan),
            description: description.into(),
            fallback,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The scan.
    #[must_use]
    pub fn source(&self) -> &ZarrSource {
        &self.plan.source
    }

    /// Replaces NaN by NULL in these columns of the output.
    pub(super) fn without_nan(&self, columns: Vec<usize>) -> Self {
        self.with_plan(Aggregation { without_nan: columns, ..(*self.plan).clone() })
    }

    /// Notes for the user on the result, known when all rows are there.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.plan.weights.iter().filter_map(Weights::note).collect()
    }

    /// Runs the aggregate, with the results as arrays over its keys. `None` if they must come as rows: execute it.
    pub(crate) fn dense(
        &self,
        context: &Arc<TaskContext>,
    ) -> BoxFuture<'static, Result<Option<DenseResults>>> {
        let baseline = BaselineMetrics::new(&self.metrics, 0);
        let results = dense(Arc::clone(&self.plan), self.metrics.clone(), Arc::clone(context));
        Box::pin(async move {
            let results = results.await?;
            if let Some(results) = &results {
                baseline.record_output(results.count());
            }
            Ok(results)
        })
    }

    fn with_plan(&self, plan: Aggregation) -> Self {
        Self::new(plan, &self.description, self.fallback.clone())
    }

    /// Details that `EXPLAIN` shows beside those of the scan.
    fn details(&self) -> Vec<(&'static str, String)> {
        let plan = &self.plan;
        let mut details = Vec::new();
        if let Some(keys) = &plan.cell_keys {
            details.push(("numbered values", format!("[{}]", keys.names())));
        }
        match &plan.groups {
            Some(_) if plan.cell_keys.is_some() => {}
            Some(groups) => {
                let count = groups.len().map_or("more than 2⁶⁴".to_owned(), |n| n.to_string());
                details.push(("groups", count));
                let slabs = Slabs::new(groups, plan.source.tiles(), slab_groups(plan, groups));
                if slabs.len() > 1 {
                    details.push(("slabs", slabs.len().to_string()));
                }
                if plan.values_memory > 0 && !plan.pencils.is_empty() {
                    let passes = passes_over(plan, groups, plan.values_memory).len();
                    details.push(("passes", passes.to_string()));
                }
                if let Some(pattern) = pattern(plan, groups, &slabs) {
                    details.push(("pattern", pattern.to_owned()));
                }
            }
            None => details.push(("groups", "known when the query runs".to_owned())),
        }
        let of = |wanted: fn(&ResultSource) -> bool| {
            let names = plan.names.iter().zip(&plan.functions);
            let names: Vec<&str> =
                names.filter(|(_, f)| wanted(f)).map(|(name, _)| name.as_str()).collect();
            names.join(", ")
        };
        for (key, names) in [
            ("kernels", of(|f| matches!(f, ResultSource::Reduced { .. }))),
            ("pencils", of(|f| matches!(f, ResultSource::Ordered(_)))),
            ("accumulators", of(|f| matches!(f, ResultSource::Accumulated(_)))),
        ] {
            if !names.is_empty() {
                details.push((key, format!("[{names}]")));
            }
        }
        if plan.weight > 1 {
            details.push(("each cell counts", format!("{} times", plan.weight)));
        }
        if plan.states {
            details.push(("output", "states".to_owned()));
        }
        details
    }
}

/// Layout of the groups in the first tile.
fn pattern(plan: &Aggregation, groups: &CellGroups, slabs: &Slabs) -> Option<&'static str> {
    let tiles = plan.source.tiles();
    if tiles.is_empty() || plan.keys.exprs.is_empty() {
        return None;
    }
    slabs.most_groups()?;
    let block = tiles.block(0);
    let slab = slabs.slab(slabs.number(&block, tiles));
    let keys = groups.of_block(&block, &slab.sets);
    let mut dims = plan.keys.dims();
    let needs_rows = !plan.accumulated.is_empty() || !plan.pencils.is_empty();
    if plan.masked || needs_rows || !plan.filters.is_empty() {
        dims = (0..block.selections().len()).collect();
    }
    for argument in &plan.arguments {
        dims.extend(plan.dims_of(argument));
    }
    dims.sort_unstable();
    dims.dedup();
    Some(layout_along(&shape_of(&block), &keys, &dims).pattern())
}

impl DisplayAs for ZarrAggregateExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ZarrAggregateExec: {}", self.description)?;
                for (key, value) in self.details() {
                    write!(f, ", {key}={value}")?;
                }
                write!(f, ", ")?;
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "{}", self.description)?;
                for (key, value) in self.details() {
                    writeln!(f, "{key}={}", value.trim_matches(['[', ']']))?;
                }
            }
        }
        self.plan.source.fmt_as(t, f)
    }
}

impl ExecutionPlan for ZarrAggregateExec {
    fn name(&self) -> &'static str {
        "ZarrAggregateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let plan = &self.plan;
        let arguments = plan.arguments.iter().flat_map(|argument| argument.values.exprs());
        let accumulated = plan.accumulated.iter().flat_map(|own| &own.arguments);
        let kept = plan.pencils.iter().map(|own| &own.expr);
        let ranked: Vec<&Ranked> =
            arguments.chain(accumulated).chain(kept).chain(&plan.filters).collect();
        let cell_keys = plan.cell_keys.iter().flat_map(|keys| &keys.exprs);
        let ranked: Vec<&Ranked> = ranked.into_iter().chain(cell_keys).collect();
        let exprs = plan
            .keys
            .exprs
            .iter()
            .map(|(key, _)| key.expr())
            .chain(ranked.into_iter().map(|expr| expr.whole().expr()));
        match apply_expression_roots(exprs, f)? {
            TreeNodeRecursion::Stop => Ok(TreeNodeRecursion::Stop),
            _ => plan.source.apply_expressions(f),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("ZarrAggregateExec has one partition, not {partition}");
        }
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        // Dynamic filters are complete when the first row is asked for, not before.
        let rows = stream::once(start(
            Arc::clone(&self.plan),
            self.fallback.clone(),
            self.metrics.clone(),
            context,
        ))
        .try_flatten()
        .map(move |batch: Result<RecordBatch>| batch.map(|b| b.record_output(&baseline)));
        let schema: SchemaRef = Arc::clone(&self.plan.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        // State belongs to an execution.
        Ok(self)
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.plan.schema);
        if self.plan.keys.exprs.is_empty() {
            statistics.num_rows = Precision::Exact(1);
        } else if let Some(groups) = self.plan.groups.as_ref().and_then(|groups| groups.len()) {
            statistics.num_rows = Precision::Inexact(groups);
        }
        Ok(Arc::new(statistics))
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        results: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let keys = &self.plan.keys.exprs;
        let mut plan: Option<Aggregation> = None;
        let filters = results.parent_filters.iter().map(|result| &result.filter);
        let answers = filters.clone().map(|_| PushedDown::No).collect();
        for filter in filters {
            // A filter on keys alone keeps or drops whole groups. The operator above checks it again.
            let key = |index: usize| keys.get(index).map(|(key, _)| Arc::clone(key.expr()));
            let Some(filter) = substituted(filter, |column| key(column.index()))? else { continue };
            if keys.is_empty() || !is_deferred(&filter) {
                continue;
            }
            let changed = plan.get_or_insert_with(|| (*self.plan).clone());
            changed.source = changed.source.clone().with_deferred(filter);
            changed.compared.clear();
            changed.masked = true;
        }
        let propagation = FilterPushdownPropagation::with_parent_pushdown_result(answers);
        Ok(match plan {
            Some(plan) => propagation.with_updated_node(Arc::new(self.with_plan(plan))),
            None => propagation,
        })
    }
}
