//! Integers don't wrap: arithmetic on those narrower than 64 bits is done in 64.

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result, config::ConfigOptions, tree_node::Transformed},
    logical_expr::{BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator, cast},
    optimizer::AnalyzerRule,
};

use super::{Scope, rewrite_expressions};

/// Widens integers to Int64 before they are added, subtracted, multiplied, divided, negated or summed, so
/// that `b8 - b4` of two uint16 bands can be negative. In a query that reads a Zarr table this holds
/// for the integers of the other tables too: what a join or an aggregate has made of a column can't
/// be told apart.
#[derive(Debug)]
pub struct WideIntegers;

impl AnalyzerRule for WideIntegers {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, widen)
    }

    fn name(&self) -> &'static str {
        "zarr_wide_integers"
    }
}

fn widen(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};

    let schema = scope.schema;
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Plus | Minus | Multiply | Divide | Modulo),
            right,
        }) => {
            let types = (left.get_type(schema)?, right.get_type(schema)?);
            let both_integers = types.0.is_integer() && types.1.is_integer();
            if !both_integers || !(is_narrow(&types.0) || is_narrow(&types.1)) {
                return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
            }
            let left = Box::new(wide(*left, &types.0));
            let right = Box::new(wide(*right, &types.1));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::Negative(inner) => {
            let data_type = inner.get_type(schema)?;
            let transformed = is_narrow(&data_type);
            let inner = Box::new(wide(*inner, &data_type));
            Ok(Transformed::new_transformed(Expr::Negative(inner), transformed))
        }
        Expr::ScalarFunction(mut call) if call.func.name() == "abs" && call.args.len() == 1 => {
            let transformed = widen_all(&mut call.args, schema)?;
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), transformed))
        }
        // DataFusion sums unsigned integers to unsigned ones, whose differences would wrap.
        Expr::AggregateFunction(mut call) if call.func.name() == "sum" => {
            let transformed = widen_all(&mut call.params.args, schema)?;
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), transformed))
        }
        Expr::WindowFunction(mut call) if call.fun.name() == "sum" => {
            let transformed = widen_all(&mut call.params.args, schema)?;
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), transformed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Widens the arguments of a function. Says whether there was anything to widen.
fn widen_all(args: &mut [Expr], schema: &DFSchema) -> Result<bool> {
    let mut transformed = false;
    for arg in args {
        let data_type = arg.get_type(schema)?;
        if is_narrow(&data_type) {
            *arg = cast(std::mem::take(arg), DataType::Int64);
            transformed = true;
        }
    }
    Ok(transformed)
}

fn is_narrow(data_type: &DataType) -> bool {
    data_type.is_integer() && !matches!(data_type, DataType::Int64 | DataType::UInt64)
}

fn wide(expr: Expr, data_type: &DataType) -> Expr {
    if is_narrow(data_type) { cast(expr, DataType::Int64) } else { expr }
}
