//! Possible values of expressions: where NaN may come from.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result},
    functions::{core, math},
    logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable as _, Operator, ScalarUDF, TryCast},
    scalar::ScalarValue,
};

use super::total_functions::{POWER, is_partial};
use crate::nan_as_null::is_nan_as_null;

/// Depth to which an expression is inspected; deeper parts may have any value. It also bounds how often
/// finite numbers are multiplied, so that their products stay finite.
const DEPTH: usize = 8;

/// Magnitudes of literals of which a few operations make neither infinity nor 0.
const MODEST: std::ops::Range<f64> = 1e-20..1e20;

/// Special values that a float may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FloatRange {
    pub(super) infinite: bool,
    pub(super) zero: bool,
}

impl FloatRange {
    const ANY: Self = Self { infinite: true, zero: true };
    const FINITE: Self = Self { infinite: false, zero: true };

    /// Possible values of an expression where it isn't NaN.
    pub(super) fn of(expr: &Expr, schema: &DFSchema) -> Result<Self> {
        values(expr, schema, DEPTH)
    }
}

/// Relation of a float result to the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Makes {
    /// NaN where an operand is NaN; `nan`: possibly NaN of other operands too.
    Number { nan: bool },
    /// One of the operands, or a part of one.
    Picked,
    /// Unknown.
    Anything,
}

/// Relation of an operator's or function's float result to its operands. Functions that
/// [`total`](super::total_functions::total) replaces aren't known.
pub(super) fn makes(expr: &Expr, schema: &DFSchema) -> Result<Makes> {
    Ok(match expr {
        Expr::Negative(_) => Makes::Number { nan: false },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (one, other) = (FloatRange::of(left, schema)?, FloatRange::of(right, schema)?);
            let nan = match op {
                Operator::Plus | Operator::Minus => one.infinite && other.infinite,
                // A square is never NaN.
                Operator::Multiply => {
                    left != right && ((one.infinite && other.zero) || (one.zero && other.infinite))
                }
                Operator::Divide => (one.zero && other.zero) || (one.infinite && other.infinite),
                Operator::Modulo => one.infinite || other.zero,
                _ => return Ok(Makes::Anything),
            };
            Makes::Number { nan }
        }
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => {
            // A text may be "NaN".
            let from = expr.get_type(schema)?;
            Makes::Number { nan: !(from.is_numeric() || from == DataType::Boolean) }
        }
        Expr::ScalarFunction(call) => function(&call.func, &call.args, schema)?,
        Expr::HigherOrderFunction(_) => Makes::Anything,
        _ => Makes::Picked,
    })
}

/// Number of a literal, also below a conversion.
pub(super) fn constant(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_numeric() => {
            match value.cast_to(&DataType::Float64) {
                Ok(ScalarValue::Float64(value)) => value,
                _ => None,
            }
        }
        Expr::Negative(inner) => constant(inner).map(|value| -value),
        Expr::Cast(Cast { expr, .. }) => constant(expr),
        Expr::Alias(alias) => constant(&alias.expr),
        _ => None,
    }
}

/// Operands other than NaN for which a function is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nan {
    Never,
    OfInfinities,
    OfSome,
}

/// Functions that propagate NaN, compared by type: a user's function may have the same name.
static NUMBERS: LazyLock<Vec<(Arc<ScalarUDF>, Nan)>> = LazyLock::new(|| {
    use Nan::{Never, OfInfinities, OfSome};

    vec![
        (math::abs(), Never),
        (math::asinh(), Never),
        (math::atan(), Never),
        (math::atan2(), Never),
        (math::cbrt(), Never),
        (math::ceil(), Never),
        (math::cos(), OfInfinities),
        (math::cosh(), Never),
        (math::cot(), OfInfinities),
        (math::degrees(), Never),
        (math::exp(), Never),
        (math::floor(), Never),
        (math::log(), OfSome),
        (math::radians(), Never),
        (math::signum(), Never),
        (math::sin(), OfInfinities),
        (math::sinh(), Never),
        (math::tan(), OfInfinities),
        (math::tanh(), Never),
    ]
});

/// Functions that return one of their arguments, or a part of one.
static PICKING: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    vec![
        core::coalesce(),
        core::get_field(),
        core::greatest(),
        core::least(),
        core::nullif(),
        core::nvl(),
        core::nvl2(),
        math::nanvl(),
        math::pi(),
        math::random(),
    ]
});

fn function(function: &Arc<ScalarUDF>, args: &[Expr], schema: &DFSchema) -> Result<Makes> {
    let number = |nan| Ok(Makes::Number { nan });
    if is_nan_as_null(function) || PICKING.contains(function) {
        return Ok(Makes::Picked);
    }
    if is_partial(function) {
        return number(true);
    }
    if let Some((_, nan)) = NUMBERS.iter().find(|(known, _)| known == function) {
        return number(match nan {
            Nan::Never => false,
            Nan::OfSome => true,
            Nan::OfInfinities => match args {
                [arg] => FloatRange::of(arg, schema)?.infinite,
                _ => true,
            },
        });
    }
    if *function == math::round() || *function == math::trunc() {
        // With many digits the factor is infinite.
        let digits = args.get(1).map(constant);
        return number(digits.is_some_and(|n| !n.is_some_and(|n| n.abs() <= 20.0)));
    }
    if let [base, exponent] = args
        && *function == *POWER
    {
        // Anything to the power 0, and 1 to any power, is 1 even where the other is NaN.
        if let Some(exponent) = constant(exponent).filter(|exponent| *exponent != 0.0) {
            return number(exponent.fract() != 0.0);
        }
        if let Some(base) = constant(base).filter(|base| *base != 1.0) {
            return number(base < 0.0);
        }
    }
    Ok(Makes::Anything)
}

fn values(expr: &Expr, schema: &DFSchema, depth: usize) -> Result<FloatRange> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(FloatRange::ANY) };
    Ok(match expr {
        Expr::Literal(..) => match constant(expr) {
            Some(value) => {
                FloatRange { infinite: value.abs() >= MODEST.end, zero: value.abs() < MODEST.start }
            }
            None => FloatRange::ANY,
        },
        Expr::Alias(alias) => values(&alias.expr, schema, depth)?,
        Expr::Negative(inner) => values(inner, schema, depth)?,
        Expr::Cast(Cast { expr: inner, field }) | Expr::TryCast(TryCast { expr: inner, field }) => {
            let from = inner.get_type(schema)?;
            let own = values(inner, schema, depth)?;
            match (from, field.data_type()) {
                // Integers aren't infinite, unless Float16 can't hold them.
                (from, to) if from.is_integer() && *to != DataType::Float16 => {
                    FloatRange { infinite: false, ..own }
                }
                (DataType::Boolean, _) => FloatRange::FINITE,
                (DataType::Float32, DataType::Float64) => own,
                (from, to) if from == *to => own,
                _ => FloatRange::ANY,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (one, other) = (values(left, schema, depth)?, values(right, schema, depth)?);
            let infinite = one.infinite || other.infinite;
            match op {
                Operator::Plus | Operator::Minus => FloatRange { infinite, zero: true },
                Operator::Multiply => FloatRange { infinite, zero: one.zero || other.zero },
                Operator::Divide => FloatRange {
                    infinite: one.infinite || other.zero,
                    zero: one.zero || other.infinite,
                },
                _ => FloatRange::ANY,
            }
        }
        Expr::ScalarFunction(call) => match call.args.as_slice() {
            [] if call.func == math::pi() => FloatRange { infinite: false, zero: false },
            [arg] if is_nan_as_null(&call.func) => values(arg, schema, depth)?,
            [arg] if [math::abs(), math::radians(), math::degrees()].contains(&call.func) => {
                values(arg, schema, depth)?
            }
            [_] if [math::sin(), math::cos(), math::tanh(), math::atan()].contains(&call.func) => {
                FloatRange::FINITE
            }
            [arg]
                if [math::floor(), math::ceil(), math::round(), math::trunc()]
                    .contains(&call.func) =>
            {
                FloatRange { zero: true, ..values(arg, schema, depth)? }
            }
            _ => FloatRange::ANY,
        },
        _ => FloatRange::ANY,
    })
}
