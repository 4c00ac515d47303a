//! Functions and operators on text times in their own calendar; `date_bin` in a time zone by local dates;
//! `to_char` with Postgres patterns.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result, config::ConfigOptions, plan_err, tree_node::Transformed},
    logical_expr::{
        BinaryExpr, Cast, Expr, ExprSchemable as _, LogicalPlan, Operator, expr::ScalarFunction,
    },
    optimizer::AnalyzerRule,
};
use lsio_core::dataset::calendar::Calendar;

use super::{Scope, rewrite_expressions};
use crate::functions::time::{CivilFunction, Word, is_text, is_time};

/// Replaces DataFusion's functions of a Zarr table's text times by functions that know their calendar, so
/// that one query runs on every climate model.
#[derive(Debug)]
pub struct CalendarFunctions;

impl AnalyzerRule for CalendarFunctions {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, replace)
    }

    fn name(&self) -> &'static str {
        "zarr_calendar_functions"
    }
}

fn replace(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarFunction(call) => function(call, scope),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::Plus | Operator::Minus),
            right,
        }) => arithmetic(*left, op, *right, scope),
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Date32 => {
            Ok(match scope.calendar(&expr) {
                Some(calendar) => {
                    let date =
                        CivilFunction::call("to_date", Word::Date, Some(calendar), vec![*expr]);
                    Transformed::yes(date)
                }
                None => Transformed::no(Expr::Cast(Cast { expr, field })),
            })
        }
        other => Ok(Transformed::no(other)),
    }
}

fn function(mut call: ScalarFunction, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    let unchanged = |call| Ok(Transformed::no(Expr::ScalarFunction(call)));
    if let Some(function) = call.func.inner().downcast_ref::<CivilFunction>() {
        if function.is_bound() {
            return unchanged(call);
        }
        let times = function.times(call.args.len());
        let calendar =
            times.iter().filter_map(|at| call.args.get(*at)).find_map(|time| scope.calendar(time));
        return match calendar {
            Some(calendar) => {
                call.func = Arc::new(function.bound(calendar));
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            None if function.word() == Word::Difference => plan_err!(
                "texts can't be subtracted: these aren't times of a Zarr table; CAST(… AS \
                 TIMESTAMP) makes times of texts"
            ),
            None => unchanged(call),
        };
    }
    let (name, word, at) = match call.func.name() {
        "date_part" => ("date_part", Word::DatePart, 1),
        "date_trunc" => ("date_trunc", Word::Truncate, 1),
        "date_bin" => ("date_bin", Word::Bin, 1),
        "to_char" => ("to_char", Word::ToChar, 0),
        _ => return unchanged(call),
    };
    let Some(time) = call.args.get(at) else { return unchanged(call) };
    let calendar = scope.calendar(time);
    // DataFusion's own rules report an expression without a type.
    let Ok(data_type) = time.get_type(scope.schema) else { return unchanged(call) };
    let word = match (word, calendar) {
        (Word::ToChar, _) => {
            let form = match call.args.get(1) {
                Some(Expr::Literal(form, _)) => form.try_as_str().flatten().unwrap_or_default(),
                _ => return unchanged(call),
            };
            // DataFusion 55.2 knows only chrono's forms, in which a Postgres pattern is plain text.
            match form.contains('%') {
                true if calendar.is_none() => return unchanged(call),
                true => Word::Strftime,
                false if is_time(&data_type) && (calendar.is_some() || !is_text(&data_type)) => {
                    Word::ToChar
                }
                false => return unchanged(call),
            }
        }
        (word, Some(_)) => word,
        // DataFusion 55.2 bins times of a zone by the days of UTC.
        (Word::Bin, None) if matches!(data_type, DataType::Timestamp(_, Some(_))) => word,
        _ => return unchanged(call),
    };
    Ok(Transformed::yes(CivilFunction::call(name, word, calendar, call.args)))
}

/// Time ± interval, and time - time.
fn arithmetic(
    left: Expr,
    op: Operator,
    right: Expr,
    scope: &Scope<'_>,
) -> Result<Transformed<Expr>> {
    let calendars = (scope.calendar(&left), scope.calendar(&right));
    let is_interval = |expr: &Expr| {
        let data_type = expr.get_type(scope.schema);
        matches!(data_type, Ok(DataType::Interval(_) | DataType::Duration(_)))
    };
    let is_other_time = |expr: &Expr| expr.get_type(scope.schema).is_ok_and(|t| is_time(&t));
    let call = |word, calendar: Calendar, args| {
        let name = if word == Word::Difference {
            "time_difference"
        } else if word == Word::Add {
            "time_add"
        } else {
            "time_subtract"
        };
        Ok(Transformed::yes(CivilFunction::call(name, word, Some(calendar), args)))
    };
    match (calendars, op) {
        ((Some(calendar), None), Operator::Plus) if is_interval(&right) => {
            call(Word::Add, calendar, vec![left, right])
        }
        ((None, Some(calendar)), Operator::Plus) if is_interval(&left) => {
            call(Word::Add, calendar, vec![right, left])
        }
        ((Some(calendar), None), Operator::Minus) if is_interval(&right) => {
            call(Word::Subtract, calendar, vec![left, right])
        }
        ((Some(calendar), None), Operator::Minus) if is_other_time(&right) => {
            call(Word::Difference, calendar, vec![left, right])
        }
        ((None, Some(calendar)), Operator::Minus) if is_other_time(&left) => {
            call(Word::Difference, calendar, vec![left, right])
        }
        ((Some(calendar), Some(_)), Operator::Minus) => {
            call(Word::Difference, calendar, vec![left, right])
        }
        _ => {
            let (left, right) = (Box::new(left), Box::new(right));
            Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
    }
}
