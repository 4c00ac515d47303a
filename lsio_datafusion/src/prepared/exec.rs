//! [`ZarrPrepareExec`]: a plan, and the plans whose rows its scans look up.

use std::{
    fmt::{self, Formatter},
    sync::Arc,
};

use datafusion::{
    common::{Statistics, internal_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_optimizer::{PhysicalOptimizerRule, output_requirements::OutputRequirementExec},
    physical_plan::{
        DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, PlanProperties,
        analyze::AnalyzeExec,
        execute_stream,
        execution_plan::{
            CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions, reset_plan_states,
        },
        replace_children_if_necessary,
        statistics::{ChildStats, StatisticsArgs},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    slot::{PlanResults, PlanRows, Slot},
    unique::has_places,
};

/// Rows up to which a plan is looked up whose keys may be equal.
const MOST_ROWS: usize = 1 << 20;

/// A plan whose rows scans look up.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) slot: Arc<Slot>,
    /// The keys that must be different in each row, if only the rows can tell.
    pub(crate) unique: Option<Vec<Arc<dyn PhysicalExpr>>>,
}

/// The plan that runs instead if rows have equal keys, or are too many to be looked up.
#[derive(Clone, Debug)]
pub(crate) struct Fallback {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    /// The rules that make an executable plan of it.
    pub(crate) later: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
}

impl Fallback {
    /// The plan below the operator that analyses it.
    fn inside(self) -> Option<Self> {
        let plan = match self.plan.downcast_ref::<AnalyzeExec>() {
            Some(analyze) => Arc::clone(analyze.input()),
            None => return self.below(),
        };
        Some(Self { plan, ..self })
    }

    /// The fallback of the only child.
    fn below(self) -> Option<Self> {
        let plan = match self.plan.children().as_slice() {
            [child] => Arc::clone(child),
            _ => return None,
        };
        Self { plan, ..self }.inside()
    }

    fn execute(&self, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let config = context.session_config().options();
        // Its scans may be those of the rows that were looked at, which have been read.
        let mut plan = reset_plan_states(Arc::clone(&self.plan))?;
        for rule in &self.later {
            plan = rule.optimize(plan, config)?;
        }
        execute_stream(plan, context)
    }
}

/// Passes on the rows of its first child. The scans in it look up the rows of the other children, which run when the
/// first scan asks for them.
#[derive(Debug)]
pub struct ZarrPrepareExec {
    main: Arc<dyn ExecutionPlan>,
    prepared: Vec<Prepared>,
    fallback: Option<Fallback>,
}

impl ZarrPrepareExec {
    fn of_main(&self, main: bool) -> Vec<bool> {
        std::iter::once(main).chain(self.prepared.iter().map(|_| false)).collect()
    }
}

/// Puts prepared plans beside a plan whose scans look up their rows, below the operators that say what is asked of it
/// as a whole.
pub(crate) fn with_prepared(
    plan: Arc<dyn ExecutionPlan>,
    prepared: Vec<Prepared>,
    fallback: Option<Fallback>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if prepared.is_empty() {
        return Ok(plan);
    }
    let is_outside = plan.downcast_ref::<OutputRequirementExec>().is_some()
        || plan.downcast_ref::<AnalyzeExec>().is_some();
    match plan.children().as_slice() {
        [main] if is_outside => {
            // What analyses a plan isn't part of it.
            let fallback = match plan.downcast_ref::<AnalyzeExec>() {
                Some(_) => fallback.and_then(Fallback::inside),
                None => fallback,
            };
            let main = with_prepared(Arc::clone(main), prepared, fallback)?;
            replace_children_if_necessary(plan, vec![main])
        }
        _ => Ok(Arc::new(ZarrPrepareExec { main: plan, prepared, fallback })),
    }
}

impl DisplayAs for ZarrPrepareExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ZarrPrepareExec: looked up={}", self.prepared.len())?;
                match &self.fallback {
                    Some(_) => write!(f, ", if keys are unique"),
                    None => Ok(()),
                }
            }
            DisplayFormatType::TreeRender => writeln!(f, "looked up={}", self.prepared.len()),
        }
    }
}

impl ExecutionPlan for ZarrPrepareExec {
    fn name(&self) -> &'static str {
        "ZarrPrepareExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.main.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.main).chain(self.prepared.iter().map(|own| &own.plan)).collect()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut children = children.into_iter();
        let Some(main) = children.next() else {
            return internal_err!("ZarrPrepareExec has a main plan");
        };
        let prepared =
            self.prepared.iter().zip(children).map(|(own, plan)| Prepared { plan, ..own.clone() });
        let fallback = self.fallback.clone();
        Ok(Arc::new(Self { main, prepared: prepared.collect(), fallback }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
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
        let partitions = self.properties().output_partitioning().partition_count();
        // Opened before the scans, and held until all rows were read.
        let held: Vec<Arc<PlanRows>> = self
            .prepared
            .iter()
            .map(|own| {
                let most = own.unique.is_some().then_some(MOST_ROWS);
                own.slot.open(&own.plan, most, &context, partitions)
            })
            .collect();
        let schema = self.schema();
        let rows = match &self.fallback {
            None => self.main.execute(partition, context)?,
            Some(fallback) => {
                let checked: Vec<_> = self
                    .prepared
                    .iter()
                    .zip(&held)
                    .filter_map(|(own, rows)| Some((own.unique.clone()?, Arc::clone(rows))))
                    .collect();
                let (main, fallback) = (Arc::clone(&self.main), fallback.clone());
                let empty = Arc::clone(&schema);
                let rows = stream::once(async move {
                    for (keys, rows) in checked {
                        let is_checked = match &*rows.get().await? {
                            PlanResults::Rows(rows) => has_places(&keys, rows)?,
                            // Groups have different keys.
                            PlanResults::Dense(_) => true,
                        };
                        if is_checked {
                            continue;
                        }
                        // The first partition returns all rows.
                        return match partition {
                            0 => fallback.execute(context),
                            _ => Ok(Box::pin(EmptyRecordBatchStream::new(empty)) as _),
                        };
                    }
                    main.execute(partition, context)
                });
                Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows.try_flatten()))
            }
        };
        let rows = rows.inspect(move |_| {
            let _ = &held;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        // State belongs to an execution.
        Ok(self)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.of_main(true)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.of_main(false)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        let mut requests = vec![ChildStats::Skip; 1 + self.prepared.len()];
        requests[0] = ChildStats::At(partition);
        requests
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match inputs.first() {
            Some(main) => Ok(Arc::clone(main)),
            None => Ok(Arc::new(Statistics::new_unknown(&self.schema()))),
        }
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
