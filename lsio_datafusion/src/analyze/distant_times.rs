//! Times outside the years 1677 to 2262, the range of nanosecond timestamps.
//!
//! DataFusion reads every time literal as nanoseconds, and converts what is compared with one to nanoseconds.
//! Climate models run from the year 1 to 9999.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::{Result, config::ConfigOptions, plan_err, tree_node::Transformed},
    logical_expr::{
        Between, BinaryExpr, Case, Cast, Expr, ExprSchemable as _, JoinConstraint, LogicalPlan,
        LogicalPlanBuilder, Operator, ScalarUDF, TryCast, WriteOp, cast,
        expr::{InList, InSubquery, ScalarFunction},
        lit,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};

use super::{
    Scope,
    instants::{Instant, coarse_unit, per_second},
    literals::is_comparison,
    rewrite_expressions_and_plans,
    time_functions::{TimeFunction, TimeKind},
};
use crate::functions::time::{CivilFunction, CivilTime, Word};

/// Compares and computes times of seconds, milliseconds and microseconds without nanoseconds, in plans that
/// read a Zarr table with such times:
///
/// - `TIMESTAMP '0850-01-01'`, `CAST(… AS TIMESTAMP)` and `to_timestamp(…)` give microseconds,
/// - texts and dates become microseconds beside such times,
/// - beside nanoseconds, such times are compared by the nearest nanosecond in range,
/// - `date_trunc` and `date_bin` compute in the times' own unit.
///
/// Beside text times, in calendars that SQL doesn't know, literals become text of the same form.
#[derive(Debug)]
pub struct DistantTimes;

impl AnalyzerRule for DistantTimes {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions_and_plans(plan, rewrite, rewrite_plan)
    }

    fn name(&self) -> &'static str {
        "zarr_distant_times"
    }
}

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Operand of an expression with times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeOperand {
    /// Timestamp of seconds, milliseconds or microseconds.
    Coarse,
    /// Timestamp of nanoseconds.
    Nanos,
    Date,
    Text,
    /// Text time in a calendar that SQL doesn't know.
    TextTime,
    Other,
}

fn kind(expr: &Expr, scope: &Scope<'_>) -> TimeOperand {
    // DataFusion's own rules report an expression without a type.
    let Ok((_, field)) = expr.to_field(scope.schema) else { return TimeOperand::Other };
    match field.data_type() {
        data_type if coarse_unit(data_type).is_some() => TimeOperand::Coarse,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => TimeOperand::Nanos,
        DataType::Date32 | DataType::Date64 => TimeOperand::Date,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            if scope.calendar(expr).is_some() { TimeOperand::TextTime } else { TimeOperand::Text }
        }
        _ => TimeOperand::Other,
    }
}

fn rewrite(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) => {
            let transformed = if is_comparison(op) {
                align(&mut [&mut *left, &mut *right], scope)?
            } else if matches!(op, Operator::Plus | Operator::Minus) {
                shift(&mut left, op, &mut right, scope)?
            } else {
                false
            };
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(Transformed::new_transformed(expr, transformed))
        }
        Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
            let transformed = align(&mut [&mut *expr, &mut *low, &mut *high], scope)?;
            let between = Expr::Between(Between { expr, negated, low, high });
            Ok(Transformed::new_transformed(between, transformed))
        }
        Expr::InList(InList { mut expr, mut list, negated }) => {
            let mut all: Vec<&mut Expr> = list.iter_mut().collect();
            all.push(&mut expr);
            let transformed = align(&mut all, scope)?;
            let in_list = Expr::InList(InList { expr, list, negated });
            Ok(Transformed::new_transformed(in_list, transformed))
        }
        Expr::InSubquery(InSubquery { mut expr, subquery, negated }) => {
            let among = subquery.subquery.schema().fields().first().map(|field| field.data_type());
            let is_nanos = matches!(among, Some(DataType::Timestamp(TimeUnit::Nanosecond, _)));
            let transformed = is_nanos && kind(&expr, scope) == TimeOperand::Coarse;
            if transformed {
                saturate(&mut expr);
            }
            let in_subquery = Expr::InSubquery(InSubquery { expr, subquery, negated });
            Ok(Transformed::new_transformed(in_subquery, transformed))
        }
        Expr::Case(Case { mut expr, mut when_then_expr, mut else_expr }) => {
            let mut transformed = false;
            if let Some(expr) = &mut expr {
                let mut compared: Vec<&mut Expr> =
                    when_then_expr.iter_mut().map(|(when, _)| &mut **when).collect();
                compared.push(expr);
                transformed |= align(&mut compared, scope)?;
            }
            let mut results: Vec<&mut Expr> =
                when_then_expr.iter_mut().map(|(_, then)| &mut **then).collect();
            results.extend(else_expr.as_deref_mut());
            transformed |= unify(&mut results, scope)?;
            let case = Expr::Case(Case { expr, when_then_expr, else_expr });
            Ok(Transformed::new_transformed(case, transformed))
        }
        Expr::Cast(Cast { expr, field }) => {
            Ok(match cast_to_timestamp(*expr, field.data_type(), scope)? {
                Ok(other) => Transformed::yes(other),
                Err(expr) => Transformed::no(Expr::Cast(Cast { expr: Box::new(expr), field })),
            })
        }
        // TRY_CAST gives NULL for a text that is no time.
        Expr::TryCast(TryCast { expr, field })
            if !matches!(*expr, Expr::Literal(..)) && kind(&expr, scope) == TimeOperand::Text =>
        {
            let is_nanos = *field.data_type() == DataType::Timestamp(TimeUnit::Nanosecond, None);
            let transformed = is_nanos && scope.distant_times && scope.only_zarr;
            let cast =
                if transformed { TryCast::new(expr, MICROS) } else { TryCast { expr, field } };
            Ok(Transformed::new_transformed(Expr::TryCast(cast), transformed))
        }
        Expr::TryCast(TryCast { expr, field }) => {
            Ok(match cast_to_timestamp(*expr, field.data_type(), scope)? {
                Ok(other) => Transformed::yes(other),
                Err(expr) => {
                    Transformed::no(Expr::TryCast(TryCast { expr: Box::new(expr), field }))
                }
            })
        }
        Expr::ScalarFunction(call) => function(call, scope),
        other => Ok(Transformed::no(other)),
    }
}

/// Rewrites what isn't an expression of a node: keys of joins, the types of VALUES and of a table's columns.
fn rewrite_plan(plan: LogicalPlan, changed: bool, scope: &Scope<'_>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Join(mut join) => {
            for (left, right) in &mut join.on {
                if align(&mut [left, right], scope)? {
                    // DataFusion wants plain columns after USING. It has found them by now.
                    join.join_constraint = JoinConstraint::On;
                }
            }
            Ok(LogicalPlan::Join(join))
        }
        // The types of VALUES are from when it was made.
        LogicalPlan::Values(values) if changed => {
            LogicalPlanBuilder::values(values.values)?.build()
        }
        // The input's cast to the table's types may be lost.
        LogicalPlan::Dml(mut dml) if matches!(dml.op, WriteOp::Insert(_)) => {
            let to = dml.target.schema();
            let from = Arc::clone(dml.input.schema());
            let types = || from.fields().iter().zip(to.fields());
            let same = types().all(|(from, to)| {
                coarse_unit(from.data_type()).is_none() || from.data_type() == to.data_type()
            });
            if !same && from.fields().len() == to.fields().len() {
                let columns = from.columns().into_iter().zip(types());
                let casts = columns.map(|(column, (from, to))| {
                    let name = from.name();
                    cast(Expr::Column(column), to.data_type().clone()).alias(name)
                });
                let input = LogicalPlanBuilder::from(Arc::clone(&dml.input));
                dml.input = Arc::new(input.project(casts)?.build()?);
            }
            Ok(LogicalPlan::Dml(dml))
        }
        other => Ok(other),
    }
}

/// Makes expressions comparable with each other. Returns whether one changed.
fn align(exprs: &mut [&mut Expr], scope: &Scope<'_>) -> Result<bool> {
    let kinds: Vec<TimeOperand> = exprs.iter().map(|expr| kind(expr, scope)).collect();
    let mut transformed = false;
    if kinds.contains(&TimeOperand::TextTime) {
        for (expr, kind) in exprs.iter_mut().zip(kinds) {
            if matches!(
                kind,
                TimeOperand::Text | TimeOperand::Date | TimeOperand::Coarse | TimeOperand::Nanos
            ) && let Some(value) = constant(expr)
                && let Some(text) = time_text(&value)?
            {
                transformed = true;
                **expr = lit(ScalarValue::Utf8View(Some(text)));
            } else if matches!(kind, TimeOperand::Date | TimeOperand::Coarse | TimeOperand::Nanos) {
                // Compares labels, as a date may have no timestamp.
                transformed = true;
                let label = vec![std::mem::take(*expr)];
                **expr = CivilFunction::call("time_text", Word::Text, None, label);
            }
        }
        return Ok(transformed);
    }
    let has_coarse = kinds.contains(&TimeOperand::Coarse);
    if !has_coarse && !kinds.contains(&TimeOperand::Nanos) {
        return Ok(false);
    }
    for (expr, kind) in exprs.iter_mut().zip(&kinds) {
        transformed |= if has_coarse { coarsen(expr, *kind)? } else { clamp(expr, *kind) };
    }
    let kinds: Vec<TimeOperand> = exprs.iter().map(|expr| self::kind(expr, scope)).collect();
    if has_coarse && kinds.contains(&TimeOperand::Nanos) {
        for (expr, kind) in exprs.iter_mut().zip(kinds) {
            if kind == TimeOperand::Coarse {
                saturate(expr);
                transformed = true;
            }
        }
    }
    Ok(transformed)
}

/// Gives expressions of which one is the result a common type, where there is one.
fn unify(exprs: &mut [&mut Expr], scope: &Scope<'_>) -> Result<bool> {
    let kinds: Vec<TimeOperand> = exprs.iter().map(|expr| kind(expr, scope)).collect();
    if !kinds.contains(&TimeOperand::Coarse) {
        return Ok(false);
    }
    let mut transformed = false;
    for (expr, kind) in exprs.iter_mut().zip(kinds) {
        // A column of texts makes the result text.
        if kind != TimeOperand::Text || matches!(expr, Expr::Literal(..)) {
            transformed |= coarsen(expr, kind)?;
        }
    }
    Ok(transformed)
}

/// Converts the operand beside a coarse time to a coarse time.
fn coarsen(expr: &mut Expr, kind: TimeOperand) -> Result<bool> {
    if let Expr::Literal(value, _) = expr
        && matches!(kind, TimeOperand::Text | TimeOperand::Date | TimeOperand::Nanos)
    {
        let Some(instant) = Instant::of_literal(value) else { return Ok(false) };
        *value = match (instant.micros(), instant.nanos()) {
            (Some(micros), _) => ScalarValue::TimestampMicrosecond(Some(micros), None),
            (None, Some(nanos)) => ScalarValue::TimestampNanosecond(Some(nanos), None),
            (None, None) => {
                return plan_err!(
                    "{value} is finer than a microsecond, and that far from 1970 times are whole \
                     microseconds"
                );
            }
        };
        return Ok(true);
    }
    match kind {
        TimeOperand::Date => *expr = cast(std::mem::take(expr), MICROS),
        TimeOperand::Text => {
            *expr = TimeFunction::call(TimeKind::Parse, vec![std::mem::take(expr)]);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Replaces a literal out of the range of nanoseconds by the nearest in range.
fn clamp(expr: &mut Expr, kind: TimeOperand) -> bool {
    if matches!(kind, TimeOperand::Text | TimeOperand::Date)
        && let Some(value) = constant(expr)
        && let Some(instant) = Instant::of_literal(&value)
        && instant.nanos().is_none()
    {
        *expr = lit(ScalarValue::TimestampNanosecond(Some(instant.nearest_nanos()), None));
        return true;
    }
    false
}

/// Converts a coarse time to nanoseconds, and times out of their range to the first or last, which compare
/// the same.
fn saturate(expr: &mut Expr) {
    if let Expr::Literal(value, _) = expr
        && let Some(instant) = Instant::of_literal(value)
    {
        *value = ScalarValue::TimestampNanosecond(Some(instant.nearest_nanos()), None);
        return;
    }
    *expr = TimeFunction::call(TimeKind::Saturate, vec![std::mem::take(expr)]);
}

/// Time ± interval, and time - date.
fn shift(left: &mut Expr, op: Operator, right: &mut Expr, scope: &Scope<'_>) -> Result<bool> {
    let coarse =
        (kind(left, scope) == TimeOperand::Coarse, kind(right, scope) == TimeOperand::Coarse);
    match coarse {
        (true, false) => match kind(right, scope) {
            TimeOperand::Date | TimeOperand::Nanos if op == Operator::Minus => {
                // Columns of nanoseconds stay: the difference has their unit.
                if matches!(right, Expr::Literal(..)) || kind(right, scope) == TimeOperand::Date {
                    return coarsen(right, kind(right, scope));
                }
                Ok(false)
            }
            _ => refine(left, right, scope),
        },
        (false, true) => match kind(left, scope) {
            TimeOperand::Date if op == Operator::Minus => coarsen(left, TimeOperand::Date),
            TimeOperand::Nanos if op == Operator::Minus && matches!(left, Expr::Literal(..)) => {
                coarsen(left, TimeOperand::Nanos)
            }
            _ => refine(right, left, scope),
        },
        _ => Ok(false),
    }
}

/// Casts a time to the unit of a constant interval that is finer.
fn refine(time: &mut Expr, interval: &Expr, scope: &Scope<'_>) -> Result<bool> {
    let nanos = match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => interval.nanoseconds,
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            i64::from(interval.milliseconds) * 1_000_000
        }
        _ => return Ok(false),
    };
    let Some(unit) = coarse_unit(&time.get_type(scope.schema)?) else { return Ok(false) };
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond];
    let fits = |unit: &TimeUnit| nanos % (1_000_000_000 / per_second(*unit)) == 0;
    if fits(&unit) {
        return Ok(false);
    }
    let unit = units.into_iter().find(fits).unwrap_or(TimeUnit::Nanosecond);
    *time = cast(std::mem::take(time), DataType::Timestamp(unit, None));
    Ok(true)
}

/// Replaces a cast to SQL's TIMESTAMP, which DataFusion reads as nanoseconds. Returns the cast's argument
/// where the cast is right.
fn cast_to_timestamp(
    expr: Expr,
    to: &DataType,
    scope: &Scope<'_>,
) -> Result<std::result::Result<Expr, Expr>> {
    let DataType::Timestamp(TimeUnit::Nanosecond, zone) = to else { return Ok(Err(expr)) };
    let Ok(from) = expr.get_type(scope.schema) else { return Ok(Err(expr)) };
    Ok(match (&from, zone) {
        (DataType::Timestamp(unit, from_zone), _) if *unit != TimeUnit::Nanosecond => {
            if from_zone == zone {
                Ok(expr)
            } else {
                Ok(cast(expr, DataType::Timestamp(*unit, zone.clone())))
            }
        }
        (DataType::Date32 | DataType::Date64, _) if scope.distant_times => {
            Ok(cast(expr, DataType::Timestamp(TimeUnit::Microsecond, zone.clone())))
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, None) => parsed(expr, scope),
        _ => Err(expr),
    })
}

/// Parses a text as a timestamp, if it is constant or can only be a Zarr table's.
fn parsed(expr: Expr, scope: &Scope<'_>) -> std::result::Result<Expr, Expr> {
    if let Expr::Literal(value, metadata) = &expr {
        return match Instant::of_literal(value) {
            // Nanoseconds stay unless there are distant times.
            Some(instant) if scope.distant_times || instant.nanos().is_none() => {
                match instant.micros() {
                    Some(micros) => {
                        let value = ScalarValue::TimestampMicrosecond(Some(micros), None);
                        Ok(Expr::Literal(value, metadata.clone()))
                    }
                    None => Err(expr),
                }
            }
            _ => Err(expr),
        };
    }
    if scope.distant_times && scope.only_zarr {
        return Ok(TimeFunction::call(TimeKind::Parse, vec![expr]));
    }
    Err(expr)
}

fn function(mut call: ScalarFunction, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    let mut transformed = false;
    match (call.func.name(), call.args.len()) {
        ("coalesce" | "greatest" | "least" | "nvl" | "ifnull" | "nullif", _) => {
            let mut args: Vec<&mut Expr> = call.args.iter_mut().collect();
            transformed = unify(&mut args, scope)?;
        }
        ("nvl2", 3) => {
            let mut args: Vec<&mut Expr> = call.args.iter_mut().skip(1).collect();
            transformed = unify(&mut args, scope)?;
        }
        ("date_part" | "date_trunc" | "date_bin", 2 | 3) => {
            for arg in call.args.iter_mut().skip(1) {
                let kind = kind(arg, scope);
                let is_literal = matches!(arg, Expr::Literal(..));
                let whole = scope.distant_times && kind == TimeOperand::Date;
                if whole || (is_literal && kind == TimeOperand::Text && is_distant(arg)) {
                    transformed |= coarsen(arg, kind)?;
                }
            }
            if let [Expr::Literal(part, _), time] = call.args.as_slice()
                && call.func.name() == "date_part"
                && matches!(time.get_type(scope.schema), Ok(DataType::Duration(_)))
                && let Some(part) = part.try_as_str().flatten()
                && let Some(kind) = TimeKind::duration_part(part)
            {
                return Ok(Transformed::yes(TimeFunction::call(kind, call.args)));
            }
            let times = call.args.get(1).map(|time| kind(time, scope));
            if times == Some(TimeOperand::Coarse) && call.func.name() != "date_part" {
                if call.func.name() == "date_trunc" {
                    return Ok(Transformed::yes(TimeFunction::call(TimeKind::Trunc, call.args)));
                }
                if let Some(stride) = call.args.first_mut()
                    && kind(stride, scope) == TimeOperand::Text
                {
                    let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
                    *stride = cast(std::mem::take(stride), interval);
                }
                if let Some(origin) = call.args.get_mut(2) {
                    let kind = kind(origin, scope);
                    coarsen(origin, kind)?;
                }
                return Ok(Transformed::yes(TimeFunction::call(TimeKind::Bin, call.args)));
            }
        }
        // The functions' own conversion to nanoseconds gives NULL out of range; a cast is an error.
        ("generate_series" | "range", _) => {
            for arg in &mut call.args {
                if kind(arg, scope) == TimeOperand::Coarse {
                    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
                    *arg = cast(std::mem::take(arg), nanos);
                    transformed = true;
                }
            }
        }
        ("to_timestamp", 1) => return to_timestamp(call, scope),
        ("to_timestamp_seconds" | "to_timestamp_millis" | "to_timestamp_micros", 1) => {
            if let Some(arg @ Expr::Literal(..)) = call.args.first_mut()
                && kind(arg, scope) == TimeOperand::Text
                && is_distant(arg)
            {
                transformed = coarsen(arg, TimeOperand::Text)?;
            }
        }
        _ => {}
    }
    Ok(Transformed::new_transformed(Expr::ScalarFunction(call), transformed))
}

/// Whether a literal is a time out of the range of nanoseconds.
fn is_distant(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else { return false };
    Instant::of_literal(value).is_some_and(|instant| instant.nanos().is_none())
}

/// `to_timestamp`, which DataFusion computes in nanoseconds.
fn to_timestamp(mut call: ScalarFunction, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    let unchanged = |call| Ok(Transformed::no(Expr::ScalarFunction(call)));
    let to = Expr::ScalarFunction(call.clone()).get_type(scope.schema).ok();
    // With a time zone set in the session, texts are local times of it.
    if to != Some(DataType::Timestamp(TimeUnit::Nanosecond, None)) {
        return unchanged(call);
    }
    let Some(arg) = call.args.pop() else { return unchanged(call) };
    let Ok(from) = arg.get_type(scope.schema) else {
        call.args.push(arg);
        return unchanged(call);
    };
    let takes = scope.distant_times && (scope.only_zarr || matches!(arg, Expr::Literal(..)));
    let replaced = match &from {
        DataType::Timestamp(unit, None) if *unit != TimeUnit::Nanosecond => Ok(arg),
        DataType::Date32 | DataType::Date64 if scope.distant_times => Ok(cast(arg, MICROS)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => parsed(arg, scope),
        from if takes && from.is_integer() => {
            let seconds = DataType::Timestamp(TimeUnit::Second, None);
            Ok(cast(cast(arg, DataType::Int64), seconds))
        }
        from if takes && (from.is_floating() || from.is_decimal()) => {
            Ok(TimeFunction::call(TimeKind::Seconds, vec![cast(arg, DataType::Float64)]))
        }
        _ => Err(arg),
    };
    match replaced {
        Ok(expr) => Ok(Transformed::yes(expr)),
        Err(arg) => {
            call.args.push(arg);
            unchanged(call)
        }
    }
}

/// The value of a literal, also below a cast.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(Cast { expr, field }) => match &**expr {
            Expr::Literal(value, _) => value.cast_to(field.data_type()).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Writes a literal in the form of text times: `2000-02-01` as `2000-02-01T00:00:00`. The date needn't exist
/// in SQL's calendar.
fn time_text(value: &ScalarValue) -> Result<Option<String>> {
    let text = match value.try_as_str().flatten() {
        // Text finer than microseconds sorts behind one time and before the next.
        Some(text) if text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > 6) => None,
        Some(text) => match CivilTime::parse(text) {
            Some(time) => Some(time.text()),
            None => Instant::parse(text).map(Instant::text),
        },
        None => Instant::of_literal(value).map(Instant::text),
    };
    match text {
        Some(text) if text.starts_with('-') || text.find('-') != Some(4) => plan_err!(
            "{text} can't be compared with times that are text: their order is right for the \
             years 0 to 9999"
        ),
        text => Ok(text),
    }
}

/// Constructors, as these functions are not registered in the session.
impl TimeFunction {
    fn call(kind: TimeKind, args: Vec<Expr>) -> Expr {
        let function = ScalarUDF::new_from_impl(Self::new(kind));
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))
    }
}
