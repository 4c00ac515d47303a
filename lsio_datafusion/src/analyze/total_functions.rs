//! Functions of floats that are defined for every number, as numpy's are.

use std::{
    f64::consts::LN_2,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{Array, ArrayRef, AsArray as _},
    compute::kernels::arity::binary,
    datatypes::{DataType, Float32Type, Float64Type},
};
use datafusion::{
    common::{Result, exec_err, tree_node::Transformed},
    functions::math,
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    scalar::ScalarValue,
};

/// Square root; NaN of numbers below 0.
pub(crate) static ROOT: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(TotalUdf::new(TotalFunction::Root))));

/// Power; infinity where 0 is raised to a negative one.
pub(crate) static POWER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let types = vec![DataType::Float64, DataType::Float64];
    let signature = Signature::exact(types, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Power { signature }))
});

/// DataFusion's functions that fail for some numbers, each with its replacement.
static TOTAL: LazyLock<Vec<(Arc<ScalarUDF>, Arc<ScalarUDF>)>> = LazyLock::new(|| {
    let mut all = vec![(math::sqrt(), Arc::clone(&ROOT)), (math::power(), Arc::clone(&POWER))];
    for (function, kind) in
        [(math::asinh(), TotalFunction::Asinh), (math::acosh(), TotalFunction::Acosh)]
    {
        all.push((function, Arc::new(ScalarUDF::new_from_impl(TotalUdf::new(kind)))));
    }
    for function in
        [math::acos(), math::asin(), math::atanh(), math::ln(), math::log10(), math::log2()]
    {
        let unordered = ScalarUDF::new_from_impl(Unordered { function: Arc::clone(&function) });
        all.push((function, Arc::new(unordered)));
    }
    all
});

/// Replaces functions that end the query for some numbers, or whose value is off.
///
/// In DataFusion 55.2 `sqrt(-1)` and `power(0, -1)` are errors; `log(1000)`, computed as `ln(1000) / ln(10)`,
/// is a little less than 3; `asinh(1e308)` is infinite, as Rust's is; and a window's `ORDER BY ln(x)` can't
/// be planned, since the order of a logarithm is known only for positive numbers.
pub(super) fn total(expr: Expr) -> Transformed<Expr> {
    let Expr::ScalarFunction(mut call) = expr else { return Transformed::no(expr) };
    let is_decimal = *call.func == *math::log() && call.args.len() == 1;
    let function = if is_decimal { math::log10() } else { Arc::clone(&call.func) };
    let Some((_, other)) = TOTAL.iter().find(|(known, _)| *known == function) else {
        return Transformed::no(Expr::ScalarFunction(call));
    };
    call.func = Arc::clone(other);
    Transformed::yes(Expr::ScalarFunction(call))
}

/// Whether a function of one number is NaN for some numbers.
pub(super) fn is_partial(function: &ScalarUDF) -> bool {
    let own = function.inner();
    let is_partial = |own: &TotalUdf| own.kind != TotalFunction::Asinh;
    own.downcast_ref::<TotalUdf>().is_some_and(is_partial) || own.is::<Unordered>()
}

/// DataFusion's function without its order.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Unordered {
    function: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Unordered {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(arg_types)
    }

    fn is_strict(&self) -> bool {
        self.function.is_strict()
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        for arg in &mut args.args {
            // Types that `log` takes and `log10` doesn't.
            if !matches!(arg.data_type(), DataType::Float32 | DataType::Float64) {
                *arg = arg.cast_to(&DataType::Float64, None)?;
            }
        }
        self.function.invoke_with_args(args)
    }
}

/// Function of one float.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TotalUdf {
    kind: TotalFunction,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TotalFunction {
    Root,
    Asinh,
    Acosh,
}

impl TotalUdf {
    fn new(kind: TotalFunction) -> Self {
        let types = vec![DataType::Float64, DataType::Float32];
        Self { kind, signature: Signature::uniform(1, types, Volatility::Immutable) }
    }
}

impl TotalFunction {
    fn double(self, value: f64) -> f64 {
        // Beyond it the squares in the definitions overflow, and 1 beside them is negligible.
        let is_huge = value.abs() > 1e150;
        match self {
            Self::Root => value.sqrt(),
            Self::Asinh if is_huge => (value.abs().ln() + LN_2).copysign(value),
            Self::Asinh => value.asinh(),
            Self::Acosh if is_huge && value > 0.0 => value.ln() + LN_2,
            Self::Acosh => value.acosh(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the result is as exact as its argument")]
    fn single(self, value: f32) -> f32 {
        match self {
            Self::Root => value.sqrt(),
            Self::Asinh | Self::Acosh => self.double(value.into()) as f32,
        }
    }
}

impl ScalarUDFImpl for TotalUdf {
    fn name(&self) -> &'static str {
        match self.kind {
            TotalFunction::Root => "sqrt",
            TotalFunction::Asinh => "asinh",
            TotalFunction::Acosh => "acosh",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [data_type] => Ok(data_type.clone()),
            _ => exec_err!("{} takes one number", self.name()),
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [values] = args.args.as_slice() else {
            return exec_err!("{} takes one number", self.name());
        };
        of_arrays(&[values], |arrays| {
            let [values] = arrays else { return exec_err!("{} takes one number", self.name()) };
            if let Some(values) = values.as_primitive_opt::<Float64Type>() {
                return Ok(Arc::new(values.unary::<_, Float64Type>(|v| self.kind.double(v))));
            }
            match values.as_primitive_opt::<Float32Type>() {
                Some(values) => {
                    Ok(Arc::new(values.unary::<_, Float32Type>(|v| self.kind.single(v))))
                }
                None => exec_err!("{} takes floats, not {}", self.name(), values.data_type()),
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Power {
    signature: Signature,
}

impl ScalarUDFImpl for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [base, exponent] = args.args.as_slice() else {
            return exec_err!("power takes two numbers");
        };
        if let (
            ColumnarValue::Array(base),
            ColumnarValue::Scalar(ScalarValue::Float64(Some(exponent))),
        ) = (base, exponent)
            && let Some(base) = base.as_primitive_opt::<Float64Type>()
        {
            let exponent = *exponent;
            let powers = base.unary::<_, Float64Type>(|base| power(base, exponent));
            return Ok(ColumnarValue::Array(Arc::new(powers)));
        }
        of_arrays(&[base, exponent], |arrays| {
            let [base, exponent] = arrays else { return exec_err!("power takes two numbers") };
            let sides = base
                .as_primitive_opt::<Float64Type>()
                .zip(exponent.as_primitive_opt::<Float64Type>());
            let Some((base, exponent)) = sides else {
                return exec_err!("power takes doubles");
            };
            Ok(Arc::new(binary::<_, _, _, Float64Type>(base, exponent, power)?))
        })
    }
}

/// Squares by a product and the power 0.5 by the root, as numpy does.
fn power(base: f64, exponent: f64) -> f64 {
    if exponent == 2.0 {
        base * base
    } else if exponent == 0.5 {
        base.sqrt()
    } else {
        base.powf(exponent)
    }
}

/// Applies a function of arrays; the result is a scalar where all arguments are.
fn of_arrays(
    args: &[&ColumnarValue],
    function: impl Fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let len = args.iter().find_map(|arg| match arg {
        ColumnarValue::Array(array) => Some(array.len()),
        ColumnarValue::Scalar(_) => None,
    });
    let arrays =
        args.iter().map(|arg| arg.to_array(len.unwrap_or(1))).collect::<Result<Vec<_>>>()?;
    let values = function(&arrays)?;
    Ok(match len {
        Some(_) => ColumnarValue::Array(values),
        None => ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?),
    })
}
