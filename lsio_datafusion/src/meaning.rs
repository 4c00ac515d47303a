//! What the columns of a query mean: which tell the rows apart, and whose attributes they have.

use arrow::datatypes::FieldRef;
use datafusion::{
    common::{Column, DFSchema},
    logical_expr::{Expr, LogicalPlan},
};

use crate::schema::DIMS;

/// Aggregates whose result is of the kind of their first argument, in its units.
const KEEP_UNITS: [&str; 14] = [
    "avg",
    "mean",
    "min",
    "max",
    "median",
    "percentile_cont",
    "approx_percentile_cont",
    "approx_median",
    "quantile_cont",
    "quantile_disc",
    "first_value",
    "last_value",
    "mode",
    "weighted_avg",
];

/// Positions of the output's columns that are keys of the outermost aggregate. `None` without one.
#[must_use]
pub fn keys(plan: &LogicalPlan) -> Option<Vec<usize>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => Some((0..aggregate.group_expr.len()).collect()),
        LogicalPlan::Sort(sort) => keys(&sort.input),
        LogicalPlan::Limit(limit) => keys(&limit.input),
        LogicalPlan::Filter(filter) => keys(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => keys(&alias.input),
        LogicalPlan::Projection(projection) => {
            let schema = projection.input.schema();
            let shown = |key: &usize| {
                let mut own = projection.expr.iter();
                own.position(|expr| column(expr, schema) == Some(*key))
            };
            // A key that isn't shown tells rows apart that look alike.
            keys(&projection.input)?.iter().map(shown).collect()
        }
        _ => None,
    }
}

/// The field of the store's column whose attributes the output's column at this position has. `None` if it is something
/// else.
#[must_use]
pub fn source(plan: &LogicalPlan, at: usize) -> Option<FieldRef> {
    let of = |expr: &Expr, input: &LogicalPlan| source(input, column(expr, input.schema())?);
    match plan {
        LogicalPlan::Sort(sort) => source(&sort.input, at),
        LogicalPlan::Limit(limit) => source(&limit.input, at),
        LogicalPlan::Filter(filter) => source(&filter.input, at),
        LogicalPlan::SubqueryAlias(alias) => source(&alias.input, at),
        LogicalPlan::Projection(projection) => of(projection.expr.get(at)?, &projection.input),
        LogicalPlan::Aggregate(aggregate) => {
            let Some(at) = at.checked_sub(aggregate.group_expr.len()) else {
                return of(&aggregate.group_expr[at], &aggregate.input);
            };
            match aggregate.aggr_expr.get(at)?.clone().unalias_nested().data {
                Expr::AggregateFunction(call) if KEEP_UNITS.contains(&call.func.name()) => {
                    of(call.params.args.first()?, &aggregate.input)
                }
                _ => None,
            }
        }
        _ => {
            let (_, field) = plan.schema().iter().nth(at)?;
            field.metadata().contains_key(DIMS).then(|| FieldRef::clone(field))
        }
    }
}

/// Position of the column that an expression is, under whatever name.
fn column(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr.clone().unalias_nested().data {
        Expr::Column(Column { relation, name, .. }) => {
            schema.index_of_column_by_name(relation.as_ref(), &name)
        }
        Expr::Cast(cast) => column(&cast.expr, schema),
        _ => None,
    }
}
