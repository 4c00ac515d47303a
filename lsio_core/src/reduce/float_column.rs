//! Columns of floats, as expressions take them: borrowed from arrays, or from the bytes of a piece.

use arrow::{
    array::{Array, AsArray as _},
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType, Float32Type, Float64Type},
};

use super::{
    native::native_slice,
    unpacking::{StoredNumbers, Unpacking},
};

/// A column of floats.
#[derive(Clone, Copy, Debug)]
pub struct FloatColumn<'a> {
    pub(super) values: FloatValues<'a>,
    nulls: Option<&'a NullBuffer>,
    nan_is_null: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum FloatValues<'a> {
    Singles(&'a [f32]),
    Doubles(&'a [f64]),
    /// Numbers that are unpacked a block at a time, with the width of each in bytes.
    Packed(&'a [u8], &'a Unpacking),
}

impl<'a> FloatColumn<'a> {
    /// Values of an array, with whether NaN among them is NULL. `None` for other types.
    #[must_use]
    pub fn of_array(array: &'a dyn Array, nan_is_null: bool) -> Option<Self> {
        let values = match array.data_type() {
            DataType::Float32 => {
                FloatValues::Singles(array.as_primitive_opt::<Float32Type>()?.values())
            }
            DataType::Float64 => {
                FloatValues::Doubles(array.as_primitive_opt::<Float64Type>()?.values())
            }
            _ => return None,
        };
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        Some(Self { values, nulls, nan_is_null })
    }

    /// Numbers as they are stored, which are values of this type, with whether NaN among them is NULL. `None` for other
    /// types, and for bytes that aren't whole numbers, or aren't aligned.
    #[must_use]
    pub fn of_stored(
        StoredNumbers { bytes, unpacking }: StoredNumbers<'a>,
        data_type: &DataType,
        nan_is_null: bool,
    ) -> Option<Self> {
        let values = match (unpacking, data_type) {
            (Some(unpacking), DataType::Float32 | DataType::Float64) => {
                unpacking.fits(bytes).then_some(FloatValues::Packed(bytes, unpacking))?
            }
            (None, DataType::Float32) => FloatValues::Singles(native_slice(bytes)?),
            (None, DataType::Float64) => FloatValues::Doubles(native_slice(bytes)?),
            _ => return None,
        };
        Some(Self { values, nulls: None, nan_is_null })
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        match self.values {
            FloatValues::Singles(values) => values.len(),
            FloatValues::Doubles(values) => values.len(),
            FloatValues::Packed(bytes, unpacking) => unpacking.count(bytes),
        }
    }

    /// Whether a row is NULL because of NaN.
    fn is_missing(&self, row: usize) -> bool {
        self.nan_is_null
            && match self.values {
                FloatValues::Singles(values) => values.get(row).is_some_and(|value| value.is_nan()),
                FloatValues::Doubles(values) => values.get(row).is_some_and(|value| value.is_nan()),
                FloatValues::Packed(bytes, unpacking) => unpacking.is_missing(bytes, row),
            }
    }
}

/// Whether no column is NULL in a row because of NaN.
pub(super) fn has_no_missing(columns: &[FloatColumn<'_>], row: usize) -> bool {
    !columns.iter().any(|column| column.is_missing(row))
}

/// Wanted rows in which no array of the columns has a NULL; `None` if these are all rows.
pub(super) fn valid_rows<'a>(
    columns: impl IntoIterator<Item = &'a FloatColumn<'a>>,
    rows: Option<&BooleanBuffer>,
) -> Option<BooleanBuffer> {
    let mut valid = rows.cloned();
    for nulls in columns.into_iter().filter_map(|column| column.nulls) {
        valid = Some(match valid {
            Some(valid) => &valid & nulls.inner(),
            None => nulls.inner().clone(),
        });
    }
    valid
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Int64Array};

    use super::*;

    #[test]
    fn arrays_and_bytes_are_columns() {
        let array = Float32Array::from(vec![Some(1.0), None, Some(f32::NAN)]);
        let column = FloatColumn::of_array(&array, true).unwrap();
        assert_eq!(column.len(), 3);
        assert!(has_no_missing(&[column], 0) && !has_no_missing(&[column], 2));
        let kept = valid_rows(&[column], Some(&BooleanBuffer::new_set(3))).unwrap();
        assert_eq!(kept.iter().collect::<Vec<_>>(), [true, false, true]);
        let bytes = array.values().inner();
        let plain = |bytes| StoredNumbers::new(bytes, None);
        let column = FloatColumn::of_stored(plain(bytes), &DataType::Float32, false).unwrap();
        assert!(has_no_missing(&[column], 2) && valid_rows(&[column], None).is_none());
        for broken in [&bytes[1..5], &bytes[..6]] {
            assert!(FloatColumn::of_stored(plain(broken), &DataType::Float32, false).is_none());
        }
        assert!(FloatColumn::of_array(&Int64Array::from(vec![1]), true).is_none());
    }
}
