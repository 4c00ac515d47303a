//! Values that have no counterpart in their column's type, and are NULL.

use std::fmt::Display;

use arrow::{array::PrimitiveArray, datatypes::Int64Type};

/// The values of a part of an array that are beyond the range of times.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// How many there are.
    pub(crate) count: usize,
    /// The first of them.
    pub(crate) example: Option<String>,
}

impl Lost {
    /// A converted value, `None` for one that can't be converted.
    pub(crate) fn note(&mut self, value: impl Display, converted: Option<i64>) -> Option<i64> {
        if converted.is_none() {
            self.count += 1;
            self.example.get_or_insert_with(|| value.to_string());
        }
        converted
    }

    /// Converts integers; those that can't be converted are NULL.
    pub(crate) fn or_null(
        &mut self,
        values: &PrimitiveArray<Int64Type>,
        convert: impl Fn(i64) -> Option<i64>,
    ) -> PrimitiveArray<Int64Type> {
        values.iter().map(|value| value.and_then(|v| self.note(v, convert(v)))).collect()
    }
}
