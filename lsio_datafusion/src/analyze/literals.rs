//! Literals beside float32 columns and durations.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::{
    common::{Result, config::ConfigOptions, plan_err, tree_node::Transformed},
    logical_expr::{
        Between, BinaryExpr, Case, Expr, ExprSchemable as _, LogicalPlan, Operator, cast,
        expr::InList,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};

use super::{Scope, rewrite_expressions};
use crate::schema::is_zarr_field;

/// Converts literals to the type of the operand they are compared with:
///
/// - numbers to Float16 or Float32 beside a Zarr table's column of that type, so that
///   `latitude = 50.1` finds the row that xarray's `sel(latitude=50.1)` finds;
/// - intervals to durations beside durations, so that `lead_time <= INTERVAL '1 day'` means 24 hours.
///   (DataFusion compares the days and the nanoseconds of an interval one after the other.)
#[derive(Debug)]
pub struct ComparedLiterals;

impl AnalyzerRule for ComparedLiterals {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, convert_literals)
    }

    fn name(&self) -> &'static str {
        "zarr_compared_literals"
    }
}

fn convert_literals(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) if is_comparison(op) => {
            let mut transformed = false;
            if let Some(to) = target(&left, scope)? {
                transformed |= convert(&mut right, &to)?;
            }
            if let Some(to) = target(&right, scope)? {
                transformed |= convert(&mut left, &to)?;
            }
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(Transformed::new_transformed(expr, transformed))
        }
        Expr::Between(Between { expr, negated, mut low, mut high }) => {
            let mut transformed = false;
            if let Some(to) = target(&expr, scope)? {
                transformed |= convert(&mut low, &to)?;
                transformed |= convert(&mut high, &to)?;
            }
            let between = Expr::Between(Between { expr, negated, low, high });
            Ok(Transformed::new_transformed(between, transformed))
        }
        Expr::InList(InList { expr, mut list, negated }) => {
            let mut transformed = false;
            if let Some(to) = target(&expr, scope)? {
                for item in &mut list {
                    transformed |= convert(item, &to)?;
                }
            }
            let in_list = Expr::InList(InList { expr, list, negated });
            Ok(Transformed::new_transformed(in_list, transformed))
        }
        Expr::Case(Case { expr: Some(expr), mut when_then_expr, else_expr }) => {
            let mut transformed = false;
            if let Some(to) = target(&expr, scope)? {
                for (when, _) in &mut when_then_expr {
                    transformed |= convert(when, &to)?;
                }
            }
            let case = Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr });
            Ok(Transformed::new_transformed(case, transformed))
        }
        Expr::ScalarFunction(mut call) if call.func.name() == "nullif" => {
            let mut transformed = false;
            if let [value, null] = call.args.as_mut_slice()
                && let Some(to) = target(value, scope)?
            {
                transformed = convert(null, &to)?;
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), transformed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether an operator compares values.
pub(crate) fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};

    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Type that literals beside an expression are converted to: that of a duration, or of narrow floats of a
/// Zarr table.
fn target(expr: &Expr, scope: &Scope<'_>) -> Result<Option<DataType>> {
    if matches!(expr, Expr::Literal(..) | Expr::Placeholder(_)) {
        return Ok(None);
    }
    let (_, field) = expr.to_field(scope.schema)?;
    let converts = match field.data_type() {
        // Results of aggregates and functions have lost the mark of their column, but where all tables are
        // Zarr's they can be nobody else's.
        DataType::Float16 | DataType::Float32 => scope.only_zarr || is_zarr_field(&field),
        DataType::Duration(_) => true,
        _ => false,
    };
    Ok(converts.then(|| field.data_type().clone()))
}

/// Converts a literal, also with a minus in front, or arithmetic on literals beside floats. Returns whether
/// it was one.
fn convert(expr: &mut Expr, to: &DataType) -> Result<bool> {
    match (expr, to) {
        (Expr::Negative(inner), _) => convert(inner, to),
        (Expr::Literal(value, _), DataType::Duration(unit)) => {
            let Some(nanos) = interval_nanos(value)? else { return Ok(false) };
            *value = duration(nanos, *unit)?;
            Ok(true)
        }
        (Expr::Literal(value, _), _)
            if value.data_type().is_numeric() && value.data_type() != *to =>
        {
            *value = value.cast_to(to)?;
            Ok(true)
        }
        (expr @ Expr::BinaryExpr(_), DataType::Float16 | DataType::Float32)
            if is_constant(expr) =>
        {
            *expr = cast(std::mem::take(expr), to.clone());
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether an expression is arithmetic on number literals, such as `50 + 0.1`.
fn is_constant(expr: &Expr) -> bool {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};

    match expr {
        Expr::Literal(value, _) => value.data_type().is_numeric(),
        Expr::Negative(inner) => is_constant(inner),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Plus | Minus | Multiply | Divide | Modulo,
            right,
        }) => is_constant(left) && is_constant(right),
        _ => false,
    }
}

/// Length of an interval in nanoseconds; `None` with months, which have none.
pub(super) fn interval_nanos(value: &ScalarValue) -> Result<Option<i128>> {
    const DAY: i128 = 86_400_000_000_000;
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let IntervalMonthDayNano { months, days, nanoseconds } = *interval;
            if months != 0 {
                return plan_err!(
                    "a duration can't be compared with an interval of months or years, whose \
                     lengths differ: say it in days"
                );
            }
            Ok(Some(i128::from(days) * DAY + i128::from(nanoseconds)))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => Ok(Some(
            i128::from(interval.days) * DAY + i128::from(interval.milliseconds) * 1_000_000,
        )),
        _ => Ok(None),
    }
}

/// A duration of this length; one that is too long becomes the longest, which compares the same.
pub(super) fn duration(nanos: i128, unit: TimeUnit) -> Result<ScalarValue> {
    let unit_nanos = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    if nanos % unit_nanos != 0 {
        return plan_err!(
            "an interval of {nanos} nanoseconds is finer than the durations it is compared with, \
             which are in units of {unit_nanos} nanoseconds"
        );
    }
    let value = (nanos / unit_nanos).clamp(i64::MIN.into(), i64::MAX.into());
    let value = i64::try_from(value).ok();
    Ok(match unit {
        TimeUnit::Second => ScalarValue::DurationSecond(value),
        TimeUnit::Millisecond => ScalarValue::DurationMillisecond(value),
        TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(value),
        TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(value),
    })
}
