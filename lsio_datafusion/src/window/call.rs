//! The function of a window expression.

use std::{any::Any, sync::Arc};

use datafusion::{
    functions_aggregate::{
        average::Avg,
        count::Count,
        min_max::{Max, Min},
        stddev::{Stddev, StddevPop},
        sum::Sum,
        variance::{VariancePopulation, VarianceSample},
    },
    functions_window::{lead_lag::WindowShift, nth_value::NthValue},
    logical_expr::WindowUDF,
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateFunctionExpr,
        window::{
            PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, WindowExpr,
        },
    },
    physical_plan::windows::WindowUDFExpr,
};
use lsio_core::running::RunningFunction;

use crate::{
    functions::aggregate::{Collect, CollectKind, Statistic, StatisticKind},
    refusal::Refusal,
};

/// A window expression.
pub(super) type WindowExprRef = Arc<dyn WindowExpr>;

/// What a window expression computes.
#[derive(Debug)]
pub(super) enum WindowCall<'a> {
    /// A function that picks a row of the partition, or none.
    Pick {
        function: &'a Arc<WindowUDF>,
        /// All arguments: the value, and literals.
        args: &'a [Arc<dyn PhysicalExpr>],
        /// Whether the third argument is the value where there is no such row.
        has_default: bool,
    },
    /// An aggregate that kernels compute.
    Running { function: RunningFunction, arg: Arc<dyn PhysicalExpr> },
    /// Any other function.
    Other,
}

impl<'a> WindowCall<'a> {
    /// Tells the function.
    ///
    /// # Errors
    /// [`Refusal::Unsupported`] for clauses that the scan doesn't know.
    pub(super) fn of(expr: &'a WindowExprRef) -> Result<Self, Refusal> {
        let any = expr.as_any();
        if let Some(standard) = any.downcast_ref::<StandardWindowExpr>() {
            let function = standard.get_standard_func_expr().as_any();
            let Some(function) = function.downcast_ref::<WindowUDFExpr>() else {
                return Err(Refusal::unsupported("its function is of an unknown kind"));
            };
            if !respects_nulls(function) {
                return Err(Refusal::unsupported("it leaves out NULL (IGNORE NULLS)"));
            }
            // Compares types: a user's function may have the same name.
            let own: &dyn Any = function.fun().inner().as_ref();
            let has_default = own.is::<WindowShift>();
            if has_default || own.is::<NthValue>() {
                let (function, args) = (function.fun(), function.args());
                return Ok(Self::Pick { function, args, has_default });
            }
            return Ok(Self::Other);
        }
        let plain =
            any.downcast_ref::<PlainAggregateWindowExpr>().map(|own| own.get_aggregate_expr());
        let sliding =
            || any.downcast_ref::<SlidingAggregateWindowExpr>().map(|own| own.get_aggregate_expr());
        let Some(aggregate) = plain.or_else(sliding) else {
            return Err(Refusal::unsupported("its function is of an unknown kind"));
        };
        if !has_no_filter(expr) {
            return Err(Refusal::unsupported("it has a FILTER clause"));
        }
        if aggregate.is_distinct() || aggregate.ignore_nulls() || !aggregate.order_bys().is_empty()
        {
            return Err(Refusal::unsupported(
                "it has DISTINCT, IGNORE NULLS or an order of its own",
            ));
        }
        let exprs = aggregate.expressions();
        match (running(aggregate), exprs.as_slice()) {
            (Some(function), [arg]) => Ok(Self::Running { function, arg: Arc::clone(arg) }),
            _ => Ok(Self::Other),
        }
    }
}

/// The aggregate that kernels compute.
fn running(aggregate: &AggregateFunctionExpr) -> Option<RunningFunction> {
    let kind: &dyn Any = aggregate.fun().inner().as_ref();
    if let Some(own) = kind.downcast_ref::<Statistic>() {
        return match own.kind() {
            StatisticKind::Sum => Some(RunningFunction::Sum),
            StatisticKind::Avg => Some(RunningFunction::Avg),
            StatisticKind::Variance { sample, root } => {
                Some(RunningFunction::Variance { sample, root })
            }
            _ => None,
        };
    }
    if let Some(own) = kind.downcast_ref::<Collect>() {
        return (own.kind() == CollectKind::WideSum).then_some(RunningFunction::Sum);
    }
    let variance = |sample, root| Some(RunningFunction::Variance { sample, root });
    if kind.is::<Count>() {
        Some(RunningFunction::Count)
    } else if kind.is::<Sum>() {
        Some(RunningFunction::Sum)
    } else if kind.is::<Avg>() {
        Some(RunningFunction::Avg)
    } else if kind.is::<Min>() {
        Some(RunningFunction::Min)
    } else if kind.is::<Max>() {
        Some(RunningFunction::Max)
    } else if kind.is::<VarianceSample>() {
        variance(true, false)
    } else if kind.is::<VariancePopulation>() {
        variance(false, false)
    } else if kind.is::<Stddev>() {
        variance(true, true)
    } else if kind.is::<StddevPop>() {
        variance(false, true)
    } else {
        None
    }
}

/// Whether a function sees NULL. DataFusion 55.2 shows it in its debug output alone.
fn respects_nulls(function: &WindowUDFExpr) -> bool {
    format!("{function:?}").ends_with(", is_reversed: false, ignore_nulls: false }")
}

/// Whether an aggregate has no FILTER clause. DataFusion 55.2 shows it in its debug output alone.
fn has_no_filter(expr: &WindowExprRef) -> bool {
    format!("{expr:?}").ends_with(", filter: None }")
}
