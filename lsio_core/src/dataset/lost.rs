//! Values that become NULL because the column's type can't hold them.

use std::fmt::Display;

use arrow::{array::PrimitiveArray, datatypes::Int64Type};

/// Count and example of the times in a part of an array that are out of range.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// The number of lost values.
    pub(crate) count: usize,
    /// The first lost value.
    pub(crate) example: Option<String>,
}

impl Lost {
    /// Returns `converted`; counts `value` as lost if `converted` is `None`.
    pub(crate) fn note(&mut self, value: impl Display, converted: Option<i64>) -> Option<i64> {
        if converted.is_none() {
            self.count += 1;
            self.example.get_or_insert_with(|| value.to_string());
        }
        converted
    }

    /// Converts integers. Values that can't be converted become NULL and count as lost.
    pub(crate) fn or_null(
        &mut self,
        values: &PrimitiveArray<Int64Type>,
        convert: impl Fn(i64) -> Option<i64>,
    ) -> PrimitiveArray<Int64Type> {
        values.iter().map(|value| value.and_then(|v| self.note(v, convert(v)))).collect()
    }
}
