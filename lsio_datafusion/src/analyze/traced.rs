//! Calendars of text times, followed through aggregates and windows.
//!
//! A time's calendar is metadata of its column's field. DataFusion drops the metadata where a column passes
//! through an aggregate, a window or a function.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion::{
    common::{DFSchema, Result, TableReference},
    logical_expr::{
        Aggregate, Expr, ExprSchemable as _, LogicalPlan, Projection, Window,
        expr::{AggregateFunction, WindowFunction},
    },
};
use lsio_core::dataset::calendar::Calendar;

use crate::schema::{CALENDAR, text_calendar};

/// Calendar of an expression that is a text time.
pub(super) fn calendar(expr: &Expr, schema: &DFSchema) -> Option<Calendar> {
    let of_field = |field: &Field| text_calendar(field).and_then(Calendar::from_name);
    let any = |exprs: &[Expr]| exprs.iter().find_map(|expr| calendar(expr, schema));
    match expr {
        Expr::Alias(alias) => calendar(&alias.expr, schema),
        Expr::Case(case) => {
            let mut results = case.when_then_expr.iter().map(|(_, then)| then);
            let found = results.find_map(|then| calendar(then, schema));
            found.or_else(|| case.else_expr.as_ref().and_then(|other| calendar(other, schema)))
        }
        // Aggregates that return a value of their argument: min, max, first_value, lag and their like.
        Expr::AggregateFunction(AggregateFunction { params, .. }) => {
            same_type(expr, params.args.first()?, schema)
        }
        Expr::WindowFunction(function) => {
            let WindowFunction { params, .. } = function.as_ref();
            same_type(expr, params.args.first()?, schema)
        }
        Expr::ScalarFunction(call) => match call.func.name() {
            "coalesce" | "greatest" | "least" | "nullif" | "nvl" | "ifnull" => any(&call.args),
            "nvl2" => any(call.args.get(1..)?),
            _ => of_field(&expr.to_field(schema).ok()?.1),
        },
        _ => of_field(&expr.to_field(schema).ok()?.1),
    }
}

fn same_type(expr: &Expr, argument: &Expr, schema: &DFSchema) -> Option<Calendar> {
    let calendar = calendar(argument, schema)?;
    let types = (expr.get_type(schema).ok()?, argument.get_type(schema).ok()?);
    (types.0 == types.1).then_some(calendar)
}

/// Adds the calendars of text times to a plan's schema. Only rules see them: the schemas of physical plans
/// lack them.
pub(super) fn with_calendars(plan: LogicalPlan, inputs: &DFSchema) -> Result<LogicalPlan> {
    let exprs: Vec<&Expr> = match &plan {
        LogicalPlan::Projection(Projection { expr, .. }) => expr.iter().collect(),
        LogicalPlan::Aggregate(Aggregate { group_expr, aggr_expr, .. }) => {
            // Grouping sets have further columns.
            if group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
                return Ok(plan);
            }
            group_expr.iter().chain(aggr_expr).collect()
        }
        LogicalPlan::Window(Window { window_expr, .. }) => window_expr.iter().collect(),
        _ => return Ok(plan),
    };
    let schema = plan.schema();
    // A window's columns follow those of its input.
    let first = schema.fields().len().saturating_sub(exprs.len());
    let calendars: Vec<Option<Calendar>> =
        exprs.iter().map(|expr| calendar(expr, inputs)).collect();
    let mut changed = false;
    let fields: Vec<(Option<TableReference>, FieldRef)> = schema
        .iter()
        .enumerate()
        .map(|(at, (qualifier, field))| {
            let found = at.checked_sub(first).and_then(|at| calendars.get(at).copied().flatten());
            let field = match found {
                Some(calendar) if text_calendar(field).is_none() => {
                    changed = true;
                    let mut metadata = field.metadata().clone();
                    metadata.insert(CALENDAR.to_owned(), calendar.name().to_owned());
                    Arc::new(field.as_ref().clone().with_metadata(metadata))
                }
                _ => Arc::clone(field),
            };
            (qualifier.cloned(), field)
        })
        .collect();
    if !changed {
        return Ok(plan);
    }
    let dependencies = schema.functional_dependencies().clone();
    let schema = DFSchema::new_with_metadata(fields, schema.metadata().clone())?
        .with_functional_dependencies(dependencies)?;
    let schema = Arc::new(schema);
    Ok(match plan {
        LogicalPlan::Projection(Projection { expr, input, .. }) => {
            LogicalPlan::Projection(Projection::try_new_with_schema(expr, input, schema)?)
        }
        LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. }) => {
            LogicalPlan::Aggregate(Aggregate::try_new_with_schema(
                input, group_expr, aggr_expr, schema,
            )?)
        }
        LogicalPlan::Window(window) => LogicalPlan::Window(Window { schema, ..window }),
        other => other,
    })
}
