//! Durations as text, as tables show them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, StringViewBuilder},
    datatypes::DataType,
};
use datafusion::{
    common::{Result, utils::take_function_args},
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};

use crate::text::formatter;

/// Function that writes durations as text.
pub(crate) fn duration_text() -> ScalarUDF {
    ScalarUDF::new_from_impl(DurationText { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DurationText {
    signature: Signature,
}

impl ScalarUDFImpl for DurationText {
    fn name(&self) -> &'static str {
        "duration_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [durations] = take_function_args(self.name(), args.args)?;
        let durations: ArrayRef = durations.into_array(args.number_rows)?;
        let cells = formatter(&durations)?;
        let mut texts = StringViewBuilder::with_capacity(durations.len());
        for row in 0..durations.len() {
            if durations.is_null(row) {
                texts.append_null();
            } else {
                texts.append_value(cells.value(row).to_string());
            }
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    }
}
