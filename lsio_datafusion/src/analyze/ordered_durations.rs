//! Windows ordered by durations.

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::{
    common::{Result, config::ConfigOptions, plan_err, tree_node::Transformed},
    logical_expr::{
        Expr, ExprSchemable as _, LogicalPlan, WindowFrameBound, WindowFrameUnits, cast,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};

use super::{
    Scope,
    literals::{duration, interval_nanos},
    rewrite_expressions,
};

/// Orders windows by the integers that durations are, in plans that read a Zarr table; intervals in their
/// frames become integers of the same unit. DataFusion 55.2 runs no RANGE frame over durations, which is the
/// frame of every `OVER (ORDER BY …)`.
#[derive(Debug)]
pub struct OrderedDurations;

impl AnalyzerRule for OrderedDurations {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, rewrite)
    }

    fn name(&self) -> &'static str {
        "zarr_ordered_durations"
    }
}

fn rewrite(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(mut function) = expr else { return Ok(Transformed::no(expr)) };
    let mut changed = false;
    for (at, sort) in function.params.order_by.iter_mut().enumerate() {
        let data_type = sort.expr.get_type(scope.schema)?;
        if !matches!(data_type, DataType::Duration(_)) {
            continue;
        }
        changed = true;
        sort.expr = cast(std::mem::take(&mut sort.expr), DataType::Int64);
        let frame = &mut function.params.window_frame;
        if at == 0 && frame.units == WindowFrameUnits::Range {
            convert(&mut frame.start_bound, &data_type)?;
            convert(&mut frame.end_bound, &data_type)?;
        }
    }
    Ok(Transformed::new_transformed(Expr::WindowFunction(function), changed))
}

/// Counts a bound in the unit of a duration.
fn convert(bound: &mut WindowFrameBound, data_type: &DataType) -> Result<()> {
    let (WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value)) = bound else {
        return Ok(());
    };
    let DataType::Duration(unit) = data_type else { return Ok(()) };
    if value.is_null() {
        // UNBOUNDED.
        *value = ScalarValue::Int64(None);
        return Ok(());
    }
    let interval = value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano))?;
    let Some(nanos) = interval_nanos(&interval)? else {
        return plan_err!(
            "the frame of a window ordered by durations must be of intervals, not {value}"
        );
    };
    *value = duration(nanos, *unit)?.cast_to(&DataType::Int64)?;
    Ok(())
}
