//! Times that a text gives in part: `'2020-02'` is a month, `'2020-02-03 05:00'` a moment.

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result, config::ConfigOptions, plan_err, tree_node::Transformed},
    logical_expr::{
        Between, BinaryExpr, Cast, Expr, ExprSchemable as _, LogicalPlan, Operator, TryCast,
        expr::InList, lit, not,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};
use lsio_core::dataset::calendar::Date;

use super::{Scope, instants::Instant, literals::is_comparison, rewrite_expressions};
use crate::functions::time::{CivilTime, Precision, is_text, is_time};

/// Gives texts beside times the meaning of xarray's selections, in plans that read a Zarr table:
///
/// - `time = '2020-02'` and `time = '2020'` hold for the whole month or year; `time <= '2020-02'` and
///   `BETWEEN … AND '2020-02'` include it, `time > '2020-02'` begins behind it,
/// - `'2020-02-03'` is midnight, as SQL has it; `'2020-02-03T05'` and `'2020-02-03 05:00'` are that moment,
/// - `TIMESTAMP '2020-02'` is its first moment.
#[derive(Debug)]
pub struct PartialTimes;

impl AnalyzerRule for PartialTimes {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, rewrite)
    }

    fn name(&self) -> &'static str {
        "zarr_partial_times"
    }
}

/// Meaning of a text beside a time.
enum SpelledTime {
    /// All moments from the first up to the second, exclusive.
    Period(String, String),
    /// A moment in a form that DataFusion lacks.
    Moment(String),
    /// A moment in a form that DataFusion knows.
    Whole,
}

fn rewrite(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            let (left, right) = (*left, *right);
            let compared = match (text(&left), text(&right)) {
                (None, Some(text)) if is_time_of(&left, scope) => compare(&left, op, text)?,
                (Some(text), None) if is_time_of(&right, scope) => {
                    compare(&right, op.swap().unwrap_or(op), text)?
                }
                _ => None,
            };
            Ok(match compared {
                Some(compared) => Transformed::yes(compared),
                None => {
                    let (left, right) = (Box::new(left), Box::new(right));
                    Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                }
            })
        }
        Expr::Between(Between { expr, negated, low, high }) if is_time_of(&expr, scope) => {
            between(*expr, negated, *low, *high)
        }
        Expr::InList(InList { expr, list, negated }) if is_time_of(&expr, scope) => {
            in_list(*expr, list, negated)
        }
        Expr::Cast(Cast { expr, field }) if is_time(field.data_type()) => {
            let moment = match text(&expr) {
                Some(text) if !is_text(field.data_type()) => moment(text)?,
                _ => None,
            };
            let changed = moment.is_some();
            let expr = moment.map_or(expr, Box::new);
            Ok(Transformed::new_transformed(Expr::Cast(Cast { expr, field }), changed))
        }
        Expr::TryCast(TryCast { expr, field }) if is_time(field.data_type()) => {
            let moment = match text(&expr) {
                // TRY_CAST gives NULL for a text that is no time.
                Some(text) if !is_text(field.data_type()) => moment(text).ok().flatten(),
                _ => None,
            };
            let changed = moment.is_some();
            let expr = moment.map_or(expr, Box::new);
            Ok(Transformed::new_transformed(Expr::TryCast(TryCast { expr, field }), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The text of a constant.
fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Whether an expression is a time, as a timestamp, a date or a text in a calendar.
fn is_time_of(expr: &Expr, scope: &Scope<'_>) -> bool {
    match expr.get_type(scope.schema) {
        Ok(data_type) if is_text(&data_type) => scope.calendar(expr).is_some(),
        Ok(DataType::Null) | Err(_) => false,
        Ok(data_type) => is_time(&data_type),
    }
}

fn compare(time: &Expr, op: Operator, text: &str) -> Result<Option<Expr>> {
    let binary = |op: Operator, text: String| {
        let left = Box::new(time.clone());
        Expr::BinaryExpr(BinaryExpr { left, op, right: Box::new(literal(text)) })
    };
    let (start, next) = match meaning(text)? {
        SpelledTime::Whole => return Ok(None),
        SpelledTime::Moment(moment) => return Ok(Some(binary(op, moment))),
        SpelledTime::Period(start, next) => (start, next),
    };
    let within =
        |start: String, next: String| binary(Operator::GtEq, start).and(binary(Operator::Lt, next));
    Ok(Some(match op {
        Operator::Eq => within(start, next),
        Operator::NotEq => binary(Operator::Lt, start).or(binary(Operator::GtEq, next)),
        Operator::Lt | Operator::GtEq => binary(op, start),
        Operator::LtEq => binary(Operator::Lt, next),
        Operator::Gt => binary(Operator::GtEq, next),
        Operator::IsNotDistinctFrom => within(start, next).is_true(),
        Operator::IsDistinctFrom => within(start, next).is_not_true(),
        _ => return Ok(None),
    }))
}

fn between(time: Expr, negated: bool, low: Expr, high: Expr) -> Result<Transformed<Expr>> {
    let bounds = (bound(&low)?, bound(&high)?);
    if matches!(bounds, (None | Some(SpelledTime::Whole), None | Some(SpelledTime::Whole))) {
        let (expr, low, high) = (Box::new(time), Box::new(low), Box::new(high));
        return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
    }
    let from = match bounds.0 {
        Some(SpelledTime::Period(start, _) | SpelledTime::Moment(start)) => literal(start),
        _ => low,
    };
    let range = match bounds.1 {
        Some(SpelledTime::Period(_, next)) => time.clone().gt_eq(from).and(time.lt(literal(next))),
        Some(SpelledTime::Moment(moment)) => time.between(from, literal(moment)),
        _ => time.between(from, high),
    };
    Ok(Transformed::yes(if negated { not(range) } else { range }))
}

fn in_list(time: Expr, list: Vec<Expr>, negated: bool) -> Result<Transformed<Expr>> {
    let mut periods = Vec::new();
    let mut rest = Vec::with_capacity(list.len());
    let mut changed = false;
    for item in list {
        match bound(&item)? {
            Some(SpelledTime::Period(start, next)) => {
                changed = true;
                let from = time.clone().gt_eq(literal(start));
                periods.push(from.and(time.clone().lt(literal(next))));
            }
            Some(SpelledTime::Moment(moment)) => {
                changed = true;
                rest.push(literal(moment));
            }
            _ => rest.push(item),
        }
    }
    if periods.is_empty() {
        let in_list = Expr::InList(InList { expr: Box::new(time), list: rest, negated });
        return Ok(Transformed::new_transformed(in_list, changed));
    }
    if !rest.is_empty() {
        periods.push(time.in_list(rest, false));
    }
    let any = periods.into_iter().reduce(Expr::or).unwrap_or_else(|| lit(false));
    Ok(Transformed::yes(if negated { not(any) } else { any }))
}

/// Meaning of a list's item or a range's bound, if it is a constant text.
fn bound(expr: &Expr) -> Result<Option<SpelledTime>> {
    text(expr).map(meaning).transpose()
}

/// A text's first moment, if DataFusion lacks its form.
fn moment(text: &str) -> Result<Option<Expr>> {
    Ok(match meaning(text)? {
        SpelledTime::Period(start, _) | SpelledTime::Moment(start) => Some(literal(start)),
        SpelledTime::Whole => None,
    })
}

fn literal(text: String) -> Expr {
    lit(ScalarValue::Utf8(Some(text)))
}

/// # Errors
/// If the text is no time.
fn meaning(text: &str) -> Result<SpelledTime> {
    let (local, zone) = split_zone(text);
    if let Some((time, last)) = CivilTime::parse_partial(local) {
        let date = |year: i64, month: u8| {
            let sign = if year < 0 { "-" } else { "" };
            format!("{sign}{:04}-{month:02}-01", year.abs())
        };
        let Date { year, month, .. } = time.date;
        match last {
            Precision::Year if zone.is_empty() => {
                return Ok(SpelledTime::Period(date(year, 1), date(year + 1, 1)));
            }
            Precision::Month if zone.is_empty() => {
                let next = if month == 12 { date(year + 1, 1) } else { date(year, month + 1) };
                return Ok(SpelledTime::Period(date(year, month), next));
            }
            Precision::Hour | Precision::Minute => {
                return Ok(SpelledTime::Moment(format!("{}{zone}", time.text())));
            }
            // Another calendar may have a date that SQL's lacks.
            Precision::Day | Precision::Second if zone.is_empty() => return Ok(SpelledTime::Whole),
            _ => {}
        }
    }
    if Instant::parse(text).is_some() {
        return Ok(SpelledTime::Whole);
    }
    plan_err!(
        "'{text}' beside a time is none: times are written YYYY, YYYY-MM, YYYY-MM-DD, \
         YYYY-MM-DDThh, YYYY-MM-DDThh:mm and YYYY-MM-DDThh:mm:ss"
    )
}

/// Splits off `Z` or an offset from UTC behind a time of day.
fn split_zone(text: &str) -> (&str, &str) {
    let Some(time) = text.find(['T', ' ']) else { return (text, "") };
    let zone = text.get(time..).and_then(|rest| rest.find(['Z', '+', '-'])).map(|at| time + at);
    zone.and_then(|zone| text.split_at_checked(zone)).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for (text, expected) in [
            ("2020", ["2020-01-01", "2021-01-01"]),
            ("2020-02", ["2020-02-01", "2020-03-01"]),
            ("1999-12", ["1999-12-01", "2000-01-01"]),
            ("2020-02-03 05:00", ["2020-02-03T05:00:00", ""]),
            ("2020-02-03T05", ["2020-02-03T05:00:00", ""]),
            ("2020-02-03T05:00Z", ["2020-02-03T05:00:00Z", ""]),
            ("2020-02-03T05:00+01:00", ["2020-02-03T05:00:00+01:00", ""]),
            ("2020-02-03", ["", ""]),
            ("2020-02-30", ["", ""]),
            ("2020-02-03T05:06:07.5", ["", ""]),
            ("-0043-03-15", ["", ""]),
        ] {
            let found = match meaning(text).unwrap() {
                SpelledTime::Period(start, next) => [start, next],
                SpelledTime::Moment(moment) => [moment, String::new()],
                SpelledTime::Whole => [String::new(), String::new()],
            };
            assert_eq!(found, expected, "{text}");
        }
        for text in ["2020-13", "yesterday", "", "2020-02-03T25", "2020-02Z"] {
            assert!(meaning(text).is_err(), "{text}");
        }
    }
}
