//! Values of any type as bytes of the same order.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, new_null_array},
    buffer::NullBuffer,
    compute::{cast, nullif},
    datatypes::{DataType, Float16Type, Float32Type, Float64Type},
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use datafusion::{common::plan_err, error::Result};

/// Encoding of values of one type.
#[derive(Debug)]
pub(super) struct OrderedEncoding {
    data_type: DataType,
    converter: RowConverter,
    null: OwnedRow,
}

/// Column of encoded values.
pub(super) struct EncodedColumn {
    rows: Rows,
    nulls: Option<NullBuffer>,
}

impl OrderedEncoding {
    /// Encoding of a function's argument.
    pub(super) fn new(function: &str, data_type: &DataType) -> Result<Self> {
        let fields = [SortField::new(data_type.clone())];
        if !RowConverter::supports_fields(&fields) {
            return plan_err!("{function} can't compare values of type {data_type}");
        }
        let converter = RowConverter::new(fields.to_vec())?;
        let null = converter.convert_columns(&[new_null_array(data_type, 1)])?.row(0).owned();
        Ok(Self { data_type: data_type.clone(), converter, null })
    }

    /// Encodes a column: NaN as NULL, -0.0 as 0.0.
    pub(super) fn encode(&self, column: &ArrayRef) -> Result<EncodedColumn> {
        let column = match column.data_type() == &self.data_type {
            true => without_nan(column)?,
            // The encoder takes one type only.
            false => without_nan(&cast(column, &self.data_type)?)?,
        };
        let nulls = column.logical_nulls();
        Ok(EncodedColumn { rows: self.converter.convert_columns(&[column])?, nulls })
    }

    pub(super) fn decode<'a>(
        &self,
        values: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let null = self.null.as_ref();
        let values: Vec<&[u8]> = values.map(|value| value.unwrap_or(null)).collect();
        let rows = values.iter().map(|value| parser.parse(value));
        let mut columns = self.converter.convert_rows(rows)?;
        let Some(column) = columns.pop() else {
            return Ok(new_null_array(&self.data_type, values.len()));
        };
        // A dictionary is decoded to its values.
        Ok(if column.data_type() == &self.data_type {
            column
        } else {
            cast(&column, &self.data_type)?
        })
    }
}

impl EncodedColumn {
    /// Bytes of a row's value; `None` for NULL.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        let is_there = self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        is_there.then(|| self.rows.row(row).data())
    }
}

fn without_nan(column: &ArrayRef) -> Result<ArrayRef> {
    macro_rules! normal {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>();
            let is_nan = BooleanArray::from_unary(values, |value| value.is_nan());
            let zero = <$type as ArrowPrimitiveType>::Native::default();
            let values: ArrayRef = Arc::new(
                values.unary::<_, $type>(|value| if value == zero { zero } else { value }),
            );
            nullif(&values, &is_nan)?
        }};
    }
    Ok(match column.data_type() {
        DataType::Float16 => normal!(Float16Type),
        DataType::Float32 => normal!(Float32Type),
        DataType::Float64 => normal!(Float64Type),
        _ => Arc::clone(column),
    })
}
