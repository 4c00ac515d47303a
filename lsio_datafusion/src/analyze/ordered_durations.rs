//! Windows ordered by durations, times of day and other types that DataFusion's frames don't know.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::{
    common::{Result, config::ConfigOptions, plan_err, tree_node::Transformed},
    functions_window::nth_value::NthValue,
    logical_expr::{
        Expr, ExprSchemable as _, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits,
        WindowFunctionDefinition, cast,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};

use super::{
    Scope,
    literals::{duration, interval_nanos},
    rewrite_expressions,
};

/// Casts durations and times of day to integers where windows are ordered by them, in plans that read a Zarr
/// table; intervals in their frames become integers of the same unit. DataFusion 55.2 runs no RANGE frame
/// over those, nor over binaries, structures and intervals, and RANGE is the frame of every `OVER (ORDER BY
/// …)`: where it has no distances, it is a frame of GROUPS.
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
    if let WindowFunctionDefinition::WindowUDF(own) = &function.fun
        && own.inner().is::<NthValue>()
        && function.params.args.is_empty()
    {
        // DataFusion 55.2 plans such a call, and panics.
        return plan_err!("{}() lacks its argument: write {0}(column)", own.name());
    }
    let mut changed = false;
    for (at, sort) in function.params.order_by.iter_mut().enumerate() {
        let data_type = sort.expr.get_type(scope.schema)?;
        let Some(unit) = unit(&data_type) else {
            if at == 0 && !has_ranges(&data_type) {
                changed |= as_groups(&mut function.params.window_frame, &data_type)?;
            }
            continue;
        };
        changed = true;
        sort.expr = cast(std::mem::take(&mut sort.expr), DataType::Int64);
        let frame = &mut function.params.window_frame;
        if at == 0 && frame.units == WindowFrameUnits::Range {
            convert(&mut frame.start_bound, unit)?;
            convert(&mut frame.end_bound, unit)?;
        }
    }
    Ok(Transformed::new_transformed(Expr::WindowFunction(function), changed))
}

/// Unit of a type that is stored as integers of the same order.
fn unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Duration(unit) | DataType::Time32(unit) | DataType::Time64(unit) => Some(*unit),
        _ => None,
    }
}

/// Whether DataFusion runs RANGE frames over a type.
fn has_ranges(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || data_type.is_string()
        || matches!(
            data_type,
            DataType::Null
                | DataType::Boolean
                | DataType::Timestamp(..)
                | DataType::Date32
                | DataType::Date64
                | DataType::List(_)
                | DataType::LargeList(_)
                | DataType::Dictionary(..)
        )
}

/// Turns a RANGE frame without distances into the equal one of GROUPS.
fn as_groups(frame: &mut WindowFrame, data_type: &DataType) -> Result<bool> {
    if frame.units != WindowFrameUnits::Range {
        return Ok(false);
    }
    let mut groups = frame.clone();
    for bound in [&mut groups.start_bound, &mut groups.end_bound] {
        match bound {
            WindowFrameBound::CurrentRow => {}
            WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value)
                if value.is_null() =>
            {
                *value = ScalarValue::UInt64(None);
            }
            _ => {
                return plan_err!(
                    "there are no distances between values of type {data_type}: order the window by a number or a \
                     time, or write ROWS or GROUPS in place of RANGE"
                );
            }
        }
    }
    groups.units = WindowFrameUnits::Groups;
    *frame = groups;
    Ok(true)
}

/// Converts a frame's bound to a number of units.
fn convert(bound: &mut WindowFrameBound, unit: TimeUnit) -> Result<()> {
    let (WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value)) = bound else {
        return Ok(());
    };
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
    *value = duration(nanos, unit)?.cast_to(&DataType::Int64)?;
    Ok(())
}
