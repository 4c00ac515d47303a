//! `lpad` and `rpad`, bounded.

use std::sync::Arc;

use arrow::{
    array::AsArray as _,
    compute::cast,
    datatypes::{DataType, FieldRef, Int64Type},
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::{
        ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature,
    },
};

/// Upper bound on the characters of a padded batch: with four bytes each they fit the offsets of a column.
const MOST: i64 = 1 << 28;

/// Bounds `lpad` and `rpad`: DataFusion 55.2 allocates any length, and panics where memory can't be that
/// long.
pub(crate) fn bound(functions: &mut [Arc<ScalarUDF>]) {
    for function in functions {
        if matches!(function.name(), "lpad" | "rpad") {
            let inner = Arc::clone(function);
            *function = Arc::new(ScalarUDF::new_from_impl(Padding { inner }));
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Padding {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Padding {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (lengths, times) = match args.args.get(1) {
            Some(ColumnarValue::Array(lengths)) => (cast(lengths, &DataType::Int64)?, 1),
            Some(ColumnarValue::Scalar(length)) => {
                (cast(&length.to_array()?, &DataType::Int64)?, args.number_rows)
            }
            None => return self.inner.invoke_with_args(args),
        };
        let mut total = 0_i64;
        for length in lengths.as_primitive::<Int64Type>().iter().flatten() {
            let times = i64::try_from(times).unwrap_or(i64::MAX);
            total = total.saturating_add(length.max(0).saturating_mul(times));
        }
        if total > MOST {
            return exec_err!(
                "{} is asked for {total} characters in a batch of rows: at most {MOST} are made; give a smaller \
                 length",
                self.name()
            );
        }
        self.inner.invoke_with_args(args)
    }
}
