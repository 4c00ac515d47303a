//! Arithmetic on integers without wrapping: in 64 bits, with doubles as quotients.

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result, config::ConfigOptions, tree_node::Transformed},
    functions::core::{self, expr_fn::nullif},
    functions_aggregate::{average::Avg, median::Median},
    logical_expr::{
        AggregateUDF, BinaryExpr, Cast, Expr, ExprSchemable as _, LogicalPlan, Operator,
        WindowFunctionDefinition, cast, lit,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};

use super::{Scope, rewrite_expressions};
use crate::LsioConfig;

/// Gives operators on integers their meaning in numpy and DuckDB:
///
/// - before they are added, subtracted, multiplied, negated or summed, they are widened to Int64, so that
///   `b8 - b4` of two uint16 bands can be negative;
/// - before they are divided, they become doubles, so that `(nir - red) / (nir + red)` isn't 0, unless
///   the setting `lsio.integer_division` asks for SQL's division;
/// - the difference of two uint64 may be negative. DataFusion 55.2 makes decimals of uint64 beside signed
///   integers, but wraps uint64 beside uint64; quotients and means of such decimals have four digits there,
///   and are doubles here;
/// - the remainder of a division by 0 is NULL, as in DuckDB. DataFusion 55.2 ends the query.
///
/// In a query that reads a Zarr table this holds for the integers of other tables too: behind a join or an
/// aggregate a column's table can't be told.
#[derive(Debug)]
pub struct WideIntegers;

impl AnalyzerRule for WideIntegers {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let truncates = LsioConfig::of(config).integer_division;
        rewrite_expressions(plan, |expr, scope| widen(expr, scope, truncates))
    }

    fn name(&self) -> &'static str {
        "zarr_wide_integers"
    }
}

fn widen(expr: Expr, scope: &Scope<'_>, truncates: bool) -> Result<Transformed<Expr>> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};

    let schema = scope.schema;
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Plus | Minus | Multiply | Divide | Modulo),
            right,
        }) => {
            let types = (left.get_type(schema)?, right.get_type(schema)?);
            let unchanged =
                |left, right| Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
            if op == Divide && !truncates && is_whole(&types.0) && is_whole(&types.1) {
                let (left, right) =
                    (cast(*left, DataType::Float64), cast(*right, DataType::Float64));
                let (left, right) = (Box::new(left), Box::new(right));
                return Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })));
            }
            if !types.0.is_integer() || !types.1.is_integer() {
                return unchanged(left, right);
            }
            let (left, right) = if op == Minus && types == (DataType::UInt64, DataType::UInt64) {
                (cast(*left, UNSIGNED), cast(*right, UNSIGNED))
            } else {
                let by_zero = op == Modulo && !is_done(&right);
                let is_wide = !is_narrow(&types.0) && !is_narrow(&types.1);
                if is_wide && !by_zero {
                    return unchanged(left, right);
                }
                let right = wide(*right, &types.1);
                let right = if by_zero { nullif(right, lit(0_i64)) } else { right };
                (wide(*left, &types.0), right)
            };
            let (left, right) = (Box::new(left), Box::new(right));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::Negative(inner) => {
            let data_type = inner.get_type(schema)?;
            let transformed = is_narrow(&data_type);
            let inner = Box::new(wide(*inner, &data_type));
            Ok(Transformed::new_transformed(Expr::Negative(inner), transformed))
        }
        // `round(127, -1)` is 130, more than int8 holds.
        Expr::ScalarFunction(mut call) if matches!(call.func.name(), "abs" | "round") => {
            let transformed = widen_all(&mut call.args, schema)?;
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), transformed))
        }
        // DataFusion's sums of unsigned integers are unsigned: their differences would wrap.
        Expr::AggregateFunction(mut call) if call.func.name() == "sum" => {
            let transformed = widen_all(&mut call.params.args, schema)?;
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), transformed))
        }
        Expr::WindowFunction(mut call) if call.fun.name() == "sum" => {
            let transformed = widen_all(&mut call.params.args, schema)?;
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), transformed))
        }
        Expr::AggregateFunction(mut call) if interpolates(&call.func) => {
            let transformed = in_doubles(&mut call.params.args, schema)?;
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), transformed))
        }
        Expr::WindowFunction(mut call) => {
            let transformed = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) if interpolates(function) => {
                    in_doubles(&mut call.params.args, schema)?
                }
                _ => false,
            };
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), transformed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Type of uint64 beside signed integers.
const UNSIGNED: DataType = DataType::Decimal128(20, 0);

/// Whether a type holds integers, also wider than 64 bits.
fn is_whole(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Decimal128(_, 0))
}

/// Whether an aggregate interpolates between integers.
fn interpolates(function: &AggregateUDF) -> bool {
    let own = function.inner();
    own.is::<Avg>() || own.is::<Median>()
}

/// Casts integers to doubles. Returns whether there were any. A CASE of signed and unsigned ones becomes a
/// decimal only when types are coerced.
fn in_doubles(args: &mut [Expr], schema: &DFSchema) -> Result<bool> {
    let mut transformed = false;
    for arg in args {
        if is_whole(&arg.get_type(schema)?) {
            *arg = cast(std::mem::take(arg), DataType::Float64);
            transformed = true;
        }
    }
    Ok(transformed)
}

/// Whether a divisor is never 0, or NULL where it is.
fn is_done(divisor: &Expr) -> bool {
    match divisor {
        Expr::Literal(value, _) => ScalarValue::new_zero(&value.data_type())
            .is_ok_and(|zero| value.is_null() || *value != zero),
        Expr::Cast(Cast { expr, .. }) => is_done(expr),
        Expr::ScalarFunction(call) => call.func == core::nullif(),
        _ => false,
    }
}

/// Widens the arguments of a function. Returns whether one was narrow.
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
