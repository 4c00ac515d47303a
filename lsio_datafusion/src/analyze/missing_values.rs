//! NaN computed by expressions as missing values.

use std::sync::Arc;

use datafusion::{
    common::{Column, DFSchema, Result, config::ConfigOptions, tree_node::Transformed},
    functions_aggregate::{
        any_value::AnyValue,
        average::Avg,
        first_last::{FirstValue, LastValue},
        min_max::{Max, Min},
        nth_value::NthValueAgg,
        sum::Sum,
    },
    functions_window::{
        cume_dist::CumeDist, lead_lag::WindowShift, nth_value::NthValue, rank::Rank,
    },
    logical_expr::{
        AggregateUDF, BinaryExpr, Cast, Expr, ExprSchemable as _, LogicalPlan, Projection, TryCast,
        WindowFunctionDefinition,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};

use super::{
    Scope, rewrite_expressions_and_plans,
    total_functions::total,
    values::{FloatRange, Makes, makes},
};
use crate::{
    LsioConfig,
    nan_as_null::{is_nan, is_nan_as_null, nan_as_null},
};

/// Replaces NaN by NULL, whatever computes it: an operator, a function, an aggregate or a window. Columns
/// stay as they are: NaN of a table stays NaN until something is computed of it.
///
/// Operators that propagate NaN, as most do, share one test around the outermost; it is left out where they
/// can't give any. Runs after type coercion, which makes conversions of texts visible. Functions that end the
/// query where numpy gives NaN or infinity are replaced by total ones, also where NaN is to stay.
#[derive(Debug)]
pub struct MissingValues;

impl AnalyzerRule for MissingValues {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        if !LsioConfig::of(config).nan_as_null {
            return rewrite_expressions_and_plans(
                plan,
                |expr, _| Ok(total(expr)),
                |plan, _, _| Ok(plan),
            );
        }
        let rewrite =
            |expr: Expr, scope: &Scope<'_>| total(expr).transform_data(|expr| tested(expr, scope));
        rewrite_expressions_and_plans(plan, rewrite, |plan, _, scope| results(plan, scope))
    }

    fn name(&self) -> &'static str {
        "zarr_missing_values"
    }
}

/// Puts the test around an expression whose operands are rewritten, and removes theirs.
fn tested(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    let schema = scope.schema;
    if let Expr::Literal(value, metadata) = &expr {
        if !is_nan(value) {
            return Ok(Transformed::no(expr));
        }
        let null = ScalarValue::try_new_null(&value.data_type())?;
        return Ok(Transformed::yes(Expr::Literal(null, metadata.clone())));
    }
    let may_compute = matches!(
        expr,
        Expr::BinaryExpr(_)
            | Expr::Negative(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::ScalarFunction(_)
            | Expr::HigherOrderFunction(_)
    );
    if !may_compute || !expr.get_type(schema)?.is_floating() {
        return Ok(Transformed::no(expr));
    }
    let (made, passes) = match makes(&expr, schema)? {
        Makes::Anything => (true, false),
        Makes::Picked => (false, matches!(expr, Expr::Case(_))),
        // A converted column is still the column.
        Makes::Number { nan } => {
            let converts = matches!(expr, Expr::Cast(_) | Expr::TryCast(_));
            (nan || (scope.stored_nan && !converts), true)
        }
    };
    let mut expr = expr;
    let moved = passes && untested(&mut expr);
    if made || moved {
        return Ok(Transformed::yes(nan_as_null(expr)));
    }
    Ok(Transformed::no(expr))
}

/// Removes the tests of operands whose NaN the expression propagates. Returns whether there was one.
fn untested(expr: &mut Expr) -> bool {
    let mut moved = false;
    let mut take = |operand: &mut Expr| {
        if let Expr::ScalarFunction(call) = operand
            && is_nan_as_null(&call.func)
            && let Some(inner) = call.args.pop()
        {
            *operand = inner;
            moved = true;
        }
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
            take(left);
            take(right);
        }
        Expr::Negative(inner)
        | Expr::Cast(Cast { expr: inner, .. })
        | Expr::TryCast(TryCast { expr: inner, .. }) => take(inner),
        Expr::ScalarFunction(call) => call.args.iter_mut().for_each(take),
        Expr::Case(case) => {
            case.when_then_expr.iter_mut().for_each(|(_, then)| take(then));
            case.else_expr.iter_mut().for_each(|other| take(other));
        }
        _ => {}
    }
    moved
}

/// Adds a test above the plan for results of aggregates or windows that may be NaN.
fn results(plan: LogicalPlan, scope: &Scope<'_>) -> Result<LogicalPlan> {
    let own = match &plan {
        LogicalPlan::Aggregate(aggregate) => &aggregate.aggr_expr,
        LogicalPlan::Window(window) => &window.window_expr,
        _ => return Ok(plan),
    };
    let may_be_nan =
        own.iter().map(|expr| result_may_be_nan(expr, scope)).collect::<Result<Vec<bool>>>()?;
    if !may_be_nan.contains(&true) {
        return Ok(plan);
    }
    let plan = plan.recompute_schema()?;
    let schema = plan.schema();
    let first = schema.fields().len().saturating_sub(may_be_nan.len());
    let columns = schema.iter().enumerate().map(|(position, (qualifier, field))| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let own = position.checked_sub(first).and_then(|own| may_be_nan.get(own));
        match own {
            Some(true) => nan_as_null(column).alias_qualified(qualifier.cloned(), field.name()),
            _ => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// Whether an aggregate or a window function may be NaN.
fn result_may_be_nan(expr: &Expr, scope: &Scope<'_>) -> Result<bool> {
    let schema = scope.schema;
    let (function, args) = match expr {
        Expr::Alias(alias) => return result_may_be_nan(&alias.expr, scope),
        Expr::AggregateFunction(call) => (&call.func, &call.params.args),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => (function, &call.params.args),
            WindowFunctionDefinition::WindowUDF(function) => {
                let own = function.inner();
                let never = own.is::<WindowShift>()
                    || own.is::<NthValue>()
                    || own.is::<Rank>()
                    || own.is::<CumeDist>();
                return Ok(!never && expr.get_type(schema)?.is_floating());
            }
        },
        _ => return Ok(false),
    };
    Ok(expr.get_type(schema)?.is_floating() && aggregate_may_be_nan(function, args, scope)?)
}

fn aggregate_may_be_nan(function: &AggregateUDF, args: &[Expr], scope: &Scope<'_>) -> Result<bool> {
    let own = function.inner();
    let picks = own.is::<Min>()
        || own.is::<Max>()
        || own.is::<FirstValue>()
        || own.is::<LastValue>()
        || own.is::<NthValueAgg>()
        || own.is::<AnyValue>();
    if picks {
        return Ok(false);
    }
    if own.is::<Sum>() || own.is::<Avg>() {
        // Infinities of both signs.
        return may_be_infinite(args, scope.schema);
    }
    Ok(true)
}

fn may_be_infinite(args: &[Expr], schema: &DFSchema) -> Result<bool> {
    for arg in args {
        if FloatRange::of(arg, schema)?.infinite {
            return Ok(true);
        }
    }
    Ok(false)
}
