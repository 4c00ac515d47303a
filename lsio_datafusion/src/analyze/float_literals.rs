//! Floats meet literals as in numpy: a literal is rounded to the column's type first.

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result, config::ConfigOptions, tree_node::Transformed},
    logical_expr::{
        Between, BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator, expr::InList,
    },
    optimizer::AnalyzerRule,
};

use super::rewrite_expressions;
use crate::schema::is_zarr_field;

/// Rounds numeric literals to Float16 or Float32 where they are compared with a Zarr table's column
/// of that type, so that `latitude = 50.1` finds the row that xarray's `sel(latitude=50.1)` finds.
#[derive(Debug)]
pub struct FloatLiterals;

impl AnalyzerRule for FloatLiterals {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, round_literals)
    }

    fn name(&self) -> &'static str {
        "zarr_float_literals"
    }
}

fn round_literals(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            let (mut left, mut right) = (left, right);
            let mut transformed = false;
            if let Some(float) = narrow_float(&left, schema)? {
                transformed |= round(&mut right, &float)?;
            }
            if let Some(float) = narrow_float(&right, schema)? {
                transformed |= round(&mut left, &float)?;
            }
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(Transformed::new_transformed(expr, transformed))
        }
        Expr::Between(Between { expr, negated, mut low, mut high }) => {
            let mut transformed = false;
            if let Some(float) = narrow_float(&expr, schema)? {
                transformed |= round(&mut low, &float)?;
                transformed |= round(&mut high, &float)?;
            }
            let between = Expr::Between(Between { expr, negated, low, high });
            Ok(Transformed::new_transformed(between, transformed))
        }
        Expr::InList(InList { expr, mut list, negated }) => {
            let mut transformed = false;
            if let Some(float) = narrow_float(&expr, schema)? {
                for item in &mut list {
                    transformed |= round(item, &float)?;
                }
            }
            let in_list = Expr::InList(InList { expr, list, negated });
            Ok(Transformed::new_transformed(in_list, transformed))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};

    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The type of a column of a Zarr table, if it is Float16 or Float32.
fn narrow_float(expr: &Expr, schema: &DFSchema) -> Result<Option<DataType>> {
    let (_, field) = match expr {
        Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::Alias(_) => {
            expr.to_field(schema)?
        }
        _ => return Ok(None),
    };
    let data_type = field.data_type();
    let narrow = matches!(data_type, DataType::Float16 | DataType::Float32);
    Ok((narrow && is_zarr_field(&field)).then(|| data_type.clone()))
}

/// Rounds a literal, also one with a minus in front. Says whether it was one.
fn round(expr: &mut Expr, to: &DataType) -> Result<bool> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_numeric() && value.data_type() != *to => {
            *value = value.cast_to(to)?;
            Ok(true)
        }
        Expr::Negative(inner) => round(inner, to),
        _ => Ok(false),
    }
}
