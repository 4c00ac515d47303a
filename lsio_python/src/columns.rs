//! Columns of a result for numpy, without Arrow on Python's side.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayData, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, RecordBatch,
        StringArray, make_array,
    },
    buffer::{Buffer, NullBuffer},
    compute::{cast, concat},
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use pyo3::{
    buffer::PyBuffer,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyByteArray, PyList, PyString, PyTuple},
};

use crate::errors;

/// numpy's NaT.
const NOT_A_TIME: i64 = i64::MIN;

/// A column for numpy.
enum Exported {
    /// Elements side by side, of a type of numpy.
    Bytes { dtype: String, bytes: Vec<u8> },
    /// Texts, and other values as their texts. `None` where a value is missing.
    Texts(Vec<Option<String>>),
}

/// A list with a tuple for each column: name, type of numpy, and its elements, either as a `bytearray` or as a list.
///
/// Missing numbers are NaN, which makes doubles of integers; missing times are NaT.
pub(crate) fn exported<'py>(
    py: Python<'py>,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> PyResult<Bound<'py, PyList>> {
    let all = PyList::empty(py);
    for (at, field) in schema.fields().iter().enumerate() {
        let parts: Vec<ArrayRef> = batches.iter().map(|batch| batch.column(at).clone()).collect();
        let data_type = field.data_type().clone();
        let column = py.detach(|| export(&parts, &data_type));
        let column = column.map_err(|e| errors::raise(py, "Error", &e.to_string()))?;
        let (dtype, values) = match column {
            Exported::Bytes { dtype, bytes } => (dtype, PyByteArray::new(py, &bytes).into_any()),
            Exported::Texts(texts) => ("object".to_owned(), PyList::new(py, texts)?.into_any()),
        };
        let name = PyString::new(py, field.name());
        all.append(PyTuple::new(
            py,
            [name.into_any(), PyString::new(py, &dtype).into_any(), values],
        )?)?;
    }
    Ok(all)
}

/// Up to `most` rows as text.
pub(crate) fn texts(
    batches: &[RecordBatch],
    most: usize,
    options: &FormatOptions<'_>,
) -> Result<Vec<Vec<String>>, ArrowError> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows().min(most - rows.len()) {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
        if rows.len() >= most {
            break;
        }
    }
    Ok(rows)
}

/// A batch of numpy's columns: of each the name, the type, and the elements as unsigned integers of their width; or
/// `"text"` and a list.
pub(crate) fn batch(columns: &[(String, String, Bound<'_, PyAny>)]) -> PyResult<RecordBatch> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for (name, dtype, values) in columns {
        let array = import(dtype, values)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
    batch.map_err(|e| PyValueError::new_err(format!("these can't be columns of a table: {e}")))
}

/// The type of a column of numpy's values, or of `"text"`.
///
/// # Errors
/// `TypeError`, if there is none.
pub(crate) fn data_type(dtype: &str) -> PyResult<DataType> {
    let (kind, unit) = dtype.trim_end_matches(']').split_once('[').unwrap_or((dtype, ""));
    Ok(match (kind, unit) {
        ("text", _) => DataType::Utf8,
        ("i1", _) => DataType::Int8,
        ("i2", _) => DataType::Int16,
        ("i4", _) => DataType::Int32,
        ("i8", _) => DataType::Int64,
        ("u1", _) => DataType::UInt8,
        ("u2", _) => DataType::UInt16,
        ("u4", _) => DataType::UInt32,
        ("u8", _) => DataType::UInt64,
        ("f2", _) => DataType::Float16,
        ("f4", _) => DataType::Float32,
        ("f8", _) => DataType::Float64,
        ("b1", _) => DataType::Boolean,
        ("M8" | "m8", unit) => {
            let unit = match unit {
                "s" => TimeUnit::Second,
                "ms" => TimeUnit::Millisecond,
                "us" => TimeUnit::Microsecond,
                "ns" => TimeUnit::Nanosecond,
                _ => {
                    return Err(PyTypeError::new_err(format!(
                        "times of '{unit}' can't be a column: use s, ms, us or ns"
                    )));
                }
            };
            if kind == "M8" { DataType::Timestamp(unit, None) } else { DataType::Duration(unit) }
        }
        _ => {
            return Err(PyTypeError::new_err(format!(
                "values of numpy's type {dtype} can't be a column"
            )));
        }
    })
}

/// A column of numpy as an array.
///
/// # Errors
/// `TypeError`, if values of this type can't be one.
pub(crate) fn import(dtype: &str, values: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    if dtype == "text" {
        let texts: Vec<Option<String>> = values.extract()?;
        return Ok(Arc::new(StringArray::from(texts)));
    }
    let data_type = data_type(dtype)?;
    let py = values.py();
    let buffer = match data_type.primitive_width().unwrap_or(1) {
        1 => Buffer::from_vec(PyBuffer::<u8>::get(values)?.to_vec(py)?),
        2 => Buffer::from_vec(PyBuffer::<u16>::get(values)?.to_vec(py)?),
        4 => Buffer::from_vec(PyBuffer::<u32>::get(values)?.to_vec(py)?),
        _ => Buffer::from_vec(PyBuffer::<u64>::get(values)?.to_vec(py)?),
    };
    if data_type == DataType::Boolean {
        return Ok(Arc::new(buffer.iter().map(|byte| Some(*byte != 0)).collect::<BooleanArray>()));
    }
    let is_time = matches!(data_type, DataType::Timestamp(..) | DataType::Duration(_));
    let nulls = is_time.then(|| {
        buffer.typed_data::<i64>().iter().map(|time| *time != NOT_A_TIME).collect::<NullBuffer>()
    });
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    let len = buffer.len() / data_type.primitive_width().unwrap_or(1);
    let data = ArrayData::builder(data_type).len(len).add_buffer(buffer).nulls(nulls).build();
    Ok(make_array(data.map_err(|e| PyValueError::new_err(e.to_string()))?))
}

fn export(parts: &[ArrayRef], data_type: &DataType) -> Result<Exported, ArrowError> {
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    let mut array = match parts.as_slice() {
        [] => arrow::array::new_empty_array(data_type),
        [one] => one.slice(0, one.len()),
        parts => concat(parts)?,
    };
    if let DataType::Dictionary(_, values) = array.data_type() {
        array = cast(&array, &values.clone())?;
    }
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    let times = |kind: &str, unit: &str, array: &ArrayRef| {
        let numbers = cast(array, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let dtype = format!("{kind}8[{unit}]");
        Ok(Exported::Bytes { dtype, bytes: bytes_or(numbers, NOT_A_TIME) })
    };
    match array.data_type() {
        DataType::Timestamp(own, _) => times("M", unit(own), &array),
        DataType::Duration(own) => times("m", unit(own), &array),
        DataType::Date32 => times("M", "D", &cast(&array, &DataType::Int32)?),
        DataType::Date64 => times("M", "ms", &array),
        DataType::Boolean if array.null_count() == 0 => {
            let values = array.as_boolean().iter().map(|value| u8::from(value == Some(true)));
            Ok(Exported::Bytes { dtype: "?".to_owned(), bytes: values.collect() })
        }
        DataType::Float16 => export_floats(&cast(&array, &DataType::Float32)?),
        own if own.is_floating() => export_floats(&array),
        own if own.is_integer() && array.null_count() == 0 => {
            let letter = if own.is_signed_integer() { "i" } else { "u" };
            let width = own.primitive_width().unwrap_or(8);
            let data = array.to_data();
            let bytes = data.buffers().first().map(|buffer| {
                buffer.as_slice()[data.offset() * width..(data.offset() + data.len()) * width]
                    .to_vec()
            });
            Ok(Exported::Bytes {
                dtype: format!("{letter}{width}"),
                bytes: bytes.unwrap_or_default(),
            })
        }
        own if own.is_integer() || matches!(own, DataType::Decimal128(..) | DataType::Null) => {
            export_floats(&cast(&array, &DataType::Float64)?)
        }
        _ => {
            let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?;
            let texts = (0..array.len())
                .map(|row| array.is_valid(row).then(|| formatter.value(row).to_string()));
            Ok(Exported::Texts(texts.collect()))
        }
    }
}

fn export_floats(array: &ArrayRef) -> Result<Exported, ArrowError> {
    Ok(match array.data_type() {
        DataType::Float32 => Exported::Bytes {
            dtype: "f4".to_owned(),
            bytes: bytes_or(array.as_primitive::<arrow::datatypes::Float32Type>(), f32::NAN),
        },
        _ => {
            let doubles = cast(array, &DataType::Float64)?;
            Exported::Bytes {
                dtype: "f8".to_owned(),
                bytes: bytes_or(doubles.as_primitive::<Float64Type>(), f64::NAN),
            }
        }
    })
}

/// Bytes of the values, with another one for those that are missing.
fn bytes_or<T: ArrowPrimitiveType>(
    array: &arrow::array::PrimitiveArray<T>,
    missing: T::Native,
) -> Vec<u8> {
    use arrow::datatypes::ToByteSlice as _;

    if array.null_count() == 0 {
        return array.values().to_byte_slice().to_vec();
    }
    let values: Vec<T::Native> = array.iter().map(|value| value.unwrap_or(missing)).collect();
    values.to_byte_slice().to_vec()
}
