//! Narrow floats of Zarr tables beside wider numbers of other tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    common::{Result, config::ConfigOptions, tree_node::Transformed},
    logical_expr::{
        Between, BinaryExpr, Case, Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder,
        Subquery, cast,
        expr::{InList, InSubquery, SetComparison},
    },
    optimizer::AnalyzerRule,
};

use super::{Scope, literals::is_comparison, rewrite_expressions_and_plans};
use crate::{
    comparison::compares_elements,
    schema::{is_data, is_zarr_field},
};

/// Rounds Float64 and decimal values to Float32 (or Float16) where they are compared with a Zarr table's
/// column of that type: in conditions, joins, lists, subqueries and VALUES. A station at 50.1 then matches
/// the latitude stored as 50.1, which is 50.09999847 as a double.
///
/// Two data variables are compared as doubles, as in numpy: neither is a label.
#[derive(Debug)]
pub struct FloatLabels;

impl AnalyzerRule for FloatLabels {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions_and_plans(plan, rewrite, |plan, _changed, scope| match plan {
            LogicalPlan::Join(mut join) => {
                for (left, right) in &mut join.on {
                    round(&mut [left, right], scope)?;
                }
                Ok(LogicalPlan::Join(join))
            }
            other => Ok(other),
        })
    }

    fn name(&self) -> &'static str {
        "zarr_float_labels"
    }
}

fn rewrite(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) if is_comparison(op) => {
            let transformed = round(&mut [&mut *left, &mut *right], scope)?;
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(Transformed::new_transformed(expr, transformed))
        }
        Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
            let transformed = round(&mut [&mut *expr, &mut *low, &mut *high], scope)?;
            let between = Expr::Between(Between { expr, negated, low, high });
            Ok(Transformed::new_transformed(between, transformed))
        }
        Expr::InList(InList { mut expr, mut list, negated }) => {
            let mut all: Vec<&mut Expr> = list.iter_mut().collect();
            all.push(&mut expr);
            let transformed = round(&mut all, scope)?;
            let in_list = Expr::InList(InList { expr, list, negated });
            Ok(Transformed::new_transformed(in_list, transformed))
        }
        Expr::InSubquery(mut among) => {
            let InSubquery { expr, subquery, .. } = &mut among;
            let transformed = round_beside(expr, subquery, scope)?;
            Ok(Transformed::new_transformed(Expr::InSubquery(among), transformed))
        }
        Expr::SetComparison(mut comparison) => {
            let SetComparison { expr, subquery, .. } = &mut comparison;
            let transformed = round_beside(expr, subquery, scope)?;
            Ok(Transformed::new_transformed(Expr::SetComparison(comparison), transformed))
        }
        Expr::Case(Case { expr: Some(mut expr), mut when_then_expr, else_expr }) => {
            let mut compared: Vec<&mut Expr> =
                when_then_expr.iter_mut().map(|(when, _)| &mut **when).collect();
            compared.push(&mut expr);
            let transformed = round(&mut compared, scope)?;
            let case = Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr });
            Ok(Transformed::new_transformed(case, transformed))
        }
        // `x = ANY (ARRAY[…])` is array_has.
        Expr::ScalarFunction(mut call) if compares_elements(call.func.name()) => {
            let mut transformed = false;
            if let [list, value] = call.args.as_mut_slice() {
                transformed = round_elements(list, value, scope)?;
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), transformed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Rounds the operands of a comparison with a narrow column. Returns whether there were any.
fn round(exprs: &mut [&mut Expr], scope: &Scope<'_>) -> Result<bool> {
    let mut fields = Vec::with_capacity(exprs.len());
    for expr in exprs.iter() {
        // DataFusion's own rules report an expression without a type.
        fields.push(expr.to_field(scope.schema).map(|(_, field)| field).ok());
    }
    let narrowest =
        exprs.iter().zip(&fields).filter_map(|(expr, field)| narrow(expr, field.as_ref()?));
    let Some(label) = narrowest.min_by_key(|field| width(field.data_type())).cloned() else {
        return Ok(false);
    };
    let mut transformed = false;
    for (expr, field) in exprs.iter_mut().zip(&fields) {
        if field.as_ref().is_some_and(|field| is_rounded(field, &label)) {
            **expr = cast(std::mem::take(*expr), label.data_type().clone());
            transformed = true;
        }
    }
    Ok(transformed)
}

/// Rounds an expression or the output of the subquery beside it.
fn round_beside(expr: &mut Expr, subquery: &mut Subquery, scope: &Scope<'_>) -> Result<bool> {
    let Ok((_, field)) = expr.to_field(scope.schema) else { return Ok(false) };
    let [among] = subquery.subquery.schema().fields().as_ref() else { return Ok(false) };
    if narrow(expr, &field).is_some() && is_rounded(among, &field) {
        let column = Expr::from(subquery.subquery.schema().qualified_field(0));
        let rounded = cast(column, field.data_type().clone()).alias(among.name());
        let plan = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery));
        subquery.subquery = Arc::new(plan.project([rounded])?.build()?);
        return Ok(true);
    }
    if is_narrow(among) && is_rounded(&field, among) {
        *expr = cast(std::mem::take(expr), among.data_type().clone());
        return Ok(true);
    }
    Ok(false)
}

/// Rounds a list or the value that is looked up in it.
fn round_elements(list: &mut Expr, value: &mut Expr, scope: &Scope<'_>) -> Result<bool> {
    let (Ok((_, list_field)), Ok((_, field))) =
        (list.to_field(scope.schema), value.to_field(scope.schema))
    else {
        return Ok(false);
    };
    let with_item = |item: &FieldRef| {
        let rounds = narrow(value, &field).is_some() && is_rounded(item, &field);
        rounds.then(|| Arc::new(item.as_ref().clone().with_data_type(field.data_type().clone())))
    };
    let to = match list_field.data_type() {
        DataType::List(item) => with_item(item).map(DataType::List),
        DataType::LargeList(item) => with_item(item).map(DataType::LargeList),
        DataType::FixedSizeList(item, size) => {
            with_item(item).map(|item| DataType::FixedSizeList(item, *size))
        }
        _ => None,
    };
    let Some(to) = to else { return Ok(false) };
    *list = cast(std::mem::take(list), to);
    Ok(true)
}

/// Field of an expression that is a narrow column or a list of its values.
fn narrow<'a>(expr: &Expr, field: &'a FieldRef) -> Option<&'a FieldRef> {
    (!matches!(expr, Expr::Literal(..)) && is_narrow(field)).then_some(field)
}

fn is_narrow(field: &FieldRef) -> bool {
    matches!(field.data_type(), DataType::Float16 | DataType::Float32) && is_zarr_field(field)
}

/// Whether values are rounded beside a label.
fn is_rounded(field: &FieldRef, label: &FieldRef) -> bool {
    width(field.data_type()) > width(label.data_type()) && !(is_data(field) && is_data(label))
}

/// Width of a type of numbers with a fraction, in bits; 0 for integers.
fn width(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Float16 => 16,
        DataType::Float32 => 32,
        DataType::Float64 => 64,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => 128,
        _ => 0,
    }
}
