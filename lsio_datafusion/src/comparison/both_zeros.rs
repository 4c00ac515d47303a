//! Both zeros in expressions that DataFusion evaluates by comparing bits.

use datafusion::{
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TreeNode as _},
        utils::normalize_float_zero,
    },
    logical_expr::{
        BinaryExpr, Case, Expr, ExprSchemable as _, LogicalPlan, Sort, expr::InList,
        expr_rewriter::NamePreserver,
    },
    optimizer::{OptimizerConfig, OptimizerRule},
    scalar::ScalarValue,
};

use super::function::{Form, function, holds_floats};
use crate::{
    analyze::{input_schema, is_comparison, reads_zarr},
    schema::{dims, is_coordinate},
    walk::rewriting,
};

/// Makes both zeros equal in the expressions of a plan that reads a Zarr table, where DataFusion 55.2
/// compares bits.
///
/// Runs as the optimizer's last rule: one of DataFusion's makes a list of `x = 0.0 OR x = …`.
#[derive(Debug)]
pub struct BothZeros;

impl OptimizerRule for BothZeros {
    fn name(&self) -> &'static str {
        "zarr_both_zeros"
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if !reads_zarr(&plan)? {
            return Ok(Transformed::no(plan));
        }
        plan.transform_up_with_subqueries(rewriting(&mut |plan| {
            let schema = input_schema(&plan)?;
            let names = NamePreserver::new(&plan);
            let mixes_tables = mixes_tables(&plan)?;
            let rewritten = plan.map_expressions(rewriting(&mut |expr| {
                let name = names.save(&expr);
                let rewritten =
                    expr.transform_up(rewriting(&mut |expr| rewrite(expr, &schema, mixes_tables)))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            }))?;
            rewritten.transform_data(|plan| match plan {
                LogicalPlan::Sort(sort) => sorted(sort, &schema, mixes_tables),
                plan => Ok(Transformed::no(plan)),
            })
        }))
    }
}

/// Whether a coordinate may have values of several tables, below windows and sorts.
fn mixes_tables(plan: &LogicalPlan) -> Result<bool> {
    Ok(matches!(plan, LogicalPlan::Window(_) | LogicalPlan::Sort(_))
        && plan.exists(|plan| Ok(matches!(plan, LogicalPlan::Union(_))))?)
}

/// Replaces -0.0 by 0.0 in all sort keys but the last: rows with both zeros are ordered by the keys that
/// follow.
fn sorted(
    mut sort: Sort,
    schema: &DFSchema,
    mixes_tables: bool,
) -> Result<Transformed<LogicalPlan>> {
    let decisive = sort.expr.len().saturating_sub(1);
    let mut transformed = false;
    for key in sort.expr.iter_mut().take(decisive) {
        if mixes_tables || !has_one_zero(&key.expr, schema)? {
            transformed |= one_zero(&mut key.expr, schema)?;
        }
    }
    Ok(Transformed::new_transformed(LogicalPlan::Sort(sort), transformed))
}

fn rewrite(expr: Expr, schema: &DFSchema, mixes_tables: bool) -> Result<Transformed<Expr>> {
    match expr {
        Expr::InList(mut list) => {
            let transformed = in_list(&mut list, schema)?;
            Ok(Transformed::new_transformed(Expr::InList(list), transformed))
        }
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) if is_comparison(op) => {
            // Comparisons of plain floats know both zeros.
            let nested = left.get_type(schema)?.is_nested();
            let transformed =
                nested && (one_zero(&mut left, schema)? | one_zero(&mut right, schema)?);
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(Transformed::new_transformed(expr, transformed))
        }
        Expr::Case(Case { expr: Some(mut expr), mut when_then_expr, else_expr }) => {
            let mut transformed = false;
            if holds_floats(&expr.get_type(schema)?) {
                transformed |= one_zero(&mut expr, schema)?;
                for (when, _) in &mut when_then_expr {
                    transformed |= one_zero(when, schema)?;
                }
            }
            let case = Case { expr: Some(expr), when_then_expr, else_expr };
            Ok(Transformed::new_transformed(Expr::Case(case), transformed))
        }
        Expr::ScalarFunction(mut call) if call.func.name() == "nullif" => {
            match call.args.as_slice() {
                // `nullif` returns the value unchanged.
                [value, _] if holds_floats(&value.get_type(schema)?) && !value.is_volatile() => {}
                _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
            }
            let null = call.args.pop().unwrap_or_default();
            let value = call.args.pop().unwrap_or_default();
            let typed_null = ScalarValue::try_new_null(&value.get_type(schema)?)?;
            let case = Case {
                expr: None,
                when_then_expr: vec![(
                    Box::new(value.clone().eq(null)),
                    Box::new(Expr::Literal(typed_null, None)),
                )],
                else_expr: Some(Box::new(value)),
            };
            Ok(Transformed::yes(Expr::Case(case)))
        }
        Expr::ScalarFunction(mut call) if compares_elements(call.func.name()) => {
            let mut transformed = false;
            for arg in &mut call.args {
                transformed |= one_zero(arg, schema)?;
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), transformed))
        }
        // Sets of distinct values compare bits. (GROUP BY, which one of DataFusion's rules makes of them,
        // doesn't.)
        Expr::AggregateFunction(mut call) if call.params.distinct => {
            let mut transformed = false;
            for arg in &mut call.params.args {
                transformed |= one_zero(arg, schema)?;
            }
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), transformed))
        }
        // Windows compare neighbouring keys by their bits.
        Expr::WindowFunction(mut call) => {
            let mut transformed = false;
            let keys = call.params.partition_by.iter_mut();
            for key in keys.chain(call.params.order_by.iter_mut().map(|sort| &mut sort.expr)) {
                if mixes_tables || !has_one_zero(key, schema)? {
                    transformed |= one_zero(key, schema)?;
                }
            }
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), transformed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Adds the other zero to a list that has one. Returns whether it did.
fn in_list(list: &mut InList, schema: &DFSchema) -> Result<bool> {
    let data_type = list.expr.get_type(schema)?;
    if !holds_floats(&data_type) {
        return Ok(false);
    }
    let is_plain =
        data_type.is_floating() && list.list.iter().all(|item| matches!(item, Expr::Literal(..)));
    if !is_plain {
        let mut transformed = one_zero(&mut list.expr, schema)?;
        for item in &mut list.list {
            transformed |= one_zero(item, schema)?;
        }
        return Ok(transformed);
    }
    let values = || list.list.iter().filter_map(Expr::as_literal);
    let other = values().find_map(|value| {
        let other = other_zero(value)?;
        // Floats are equal here if their bits are.
        (!values().any(|value| *value == other)).then_some(other)
    });
    let Some(other) = other else { return Ok(false) };
    list.list.push(Expr::Literal(other, None));
    Ok(true)
}

fn other_zero(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Float16(Some(value)) if value.to_f32() == 0.0 => {
            Some(ScalarValue::Float16(Some(-*value)))
        }
        ScalarValue::Float32(Some(value)) if *value == 0.0 => {
            Some(ScalarValue::Float32(Some(-value)))
        }
        ScalarValue::Float64(Some(value)) if *value == 0.0 => {
            Some(ScalarValue::Float64(Some(-value)))
        }
        _ => None,
    }
}

/// Replaces -0.0 by 0.0 in an expression. Returns whether there may be such.
fn one_zero(expr: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let to = function(Form::OneZero);
    if !holds_floats(&expr.get_type(schema)?)
        || matches!(expr, Expr::ScalarFunction(call) if call.func == to)
    {
        return Ok(false);
    }
    if let Expr::Literal(value, _) = expr
        && value.data_type().is_floating()
    {
        let positive = value.to_array().map(|value| normalize_float_zero(&value))?;
        let positive = ScalarValue::try_from_array(&positive, 0)?;
        let transformed = positive != *value;
        *value = positive;
        return Ok(transformed);
    }
    *expr = to.call(vec![std::mem::take(expr)]);
    Ok(true)
}

/// Whether an expression has at most one zero: a coordinate of one dimension holds each value once.
fn has_one_zero(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let Expr::Column(_) = expr else { return Ok(false) };
    let (_, field) = expr.to_field(schema)?;
    Ok(is_coordinate(&field) && dims(&field).is_some_and(|dims| dims == [field.name().as_str()]))
}

/// Whether a function compares elements of lists by their bits.
pub(crate) fn compares_elements(name: &str) -> bool {
    matches!(
        name,
        "array_has" | "array_has_all" | "array_has_any" | "array_position" | "array_positions"
    )
}
