//! DataFusion's operators for windows, as one.

use std::sync::Arc;

use datafusion::{
    error::Result,
    physical_plan::{
        ExecutionPlan, InputOrderMode,
        windows::{BoundedWindowAggExec, WindowAggExec},
    },
};

use super::call::WindowExprRef;

/// An operator that adds the values of window expressions to its input's rows.
#[derive(Debug)]
pub(super) struct WindowNode<'a> {
    pub(super) exprs: &'a [WindowExprRef],
    pub(super) input: &'a Arc<dyn ExecutionPlan>,
    pub(super) plan: &'a Arc<dyn ExecutionPlan>,
}

impl<'a> WindowNode<'a> {
    /// The operator, if it is one for windows.
    pub(super) fn of(plan: &'a Arc<dyn ExecutionPlan>) -> Option<Self> {
        if let Some(bounded) = plan.downcast_ref::<BoundedWindowAggExec>() {
            // Somebody looks at the states of this operator.
            let observed = bounded.state_observer().is_some();
            let (exprs, input) = (bounded.window_expr(), bounded.input());
            return (!observed).then_some(Self { exprs, input, plan });
        }
        let whole = plan.downcast_ref::<WindowAggExec>()?;
        Some(Self { exprs: whole.window_expr(), input: whole.input(), plan })
    }

    /// The operator for some of the expressions, over other rows that have the same columns first.
    pub(super) fn with(
        &self,
        exprs: Vec<WindowExprRef>,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let has_keys = exprs.iter().all(|expr| !expr.partition_by().is_empty());
        Ok(match self.plan.downcast_ref::<BoundedWindowAggExec>() {
            Some(_) => {
                let mode = InputOrderMode::Sorted;
                Arc::new(BoundedWindowAggExec::try_new(exprs, input, mode, has_keys)?)
            }
            None => Arc::new(WindowAggExec::try_new(exprs, input, has_keys)?),
        })
    }
}
