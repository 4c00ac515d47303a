//! Elements of a fixed size as Arrow arrays, before the CF conventions.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryViewBuilder, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray,
        PrimitiveArray, StringViewBuilder, StructArray,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type, IntervalYearMonthType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};

use super::{
    calendar::gregorian_day,
    dtype::{ElementType, Field, NumpyTime},
    lost::Lost,
};

/// Converts elements to an Arrow array. `buffer` must be aligned for the type, with numbers in native byte order,
/// except for fields of structures, which have a byte order of their own.
///
/// # Errors
/// A message, if Arrow's type can't hold a value.
pub(super) fn plain_array(element: &ElementType, buffer: Buffer) -> Result<ArrayRef, String> {
    Ok(match element {
        ElementType::Bool => {
            let bytes = buffer.as_slice();
            let bits = BooleanBuffer::collect_bool(bytes.len(), |i| bytes[i] != 0);
            Arc::new(BooleanArray::new(bits, None))
        }
        ElementType::Int8 => primitive::<Int8Type>(buffer),
        ElementType::Int16 => primitive::<Int16Type>(buffer),
        ElementType::Int32 => primitive::<Int32Type>(buffer),
        ElementType::Int64 => primitive::<Int64Type>(buffer),
        ElementType::UInt8 => primitive::<UInt8Type>(buffer),
        ElementType::UInt16 => primitive::<UInt16Type>(buffer),
        ElementType::UInt32 => primitive::<UInt32Type>(buffer),
        ElementType::UInt64 => primitive::<UInt64Type>(buffer),
        ElementType::Float16 => primitive::<Float16Type>(buffer),
        ElementType::Float32 => primitive::<Float32Type>(buffer),
        ElementType::Float64 => primitive::<Float64Type>(buffer),
        ElementType::SmallInt { .. } | ElementType::SmallFloat(_) => {
            let (element, buffer) = widened(element, buffer);
            return plain_array(&element, buffer);
        }
        ElementType::Complex(part) => {
            let size = part.size().unwrap_or(1);
            let parts =
                [0, size].map(|offset| plain_array(part, strided(&buffer, 2 * size, offset, size)));
            let [re, im] = parts;
            structure(element, vec![re?, im?], buffer.len() / (2 * size))?
        }
        ElementType::TimeDelta64(time) if time.months > 0 => months(&buffer, *time)?,
        ElementType::DateTime64(time) | ElementType::TimeDelta64(time) => {
            let mut lost = Lost::default();
            let numbers = times64(&buffer, *time, &mut lost)?;
            if let Some(example) = lost.example {
                return Err(format!("{example} is out of the range of times"));
            }
            // The cast changes the type only, not the numbers.
            cast(&numbers, &element.data_type()).map_err(|e| e.to_string())?
        }
        ElementType::Utf32 { length } => utf32(&buffer, *length)?,
        ElementType::Text { length } => text(&buffer, *length)?,
        ElementType::Bytes { length } => text_bytes(&buffer, *length),
        ElementType::Raw { length } => {
            let size = i32::try_from(*length).map_err(|e| e.to_string())?;
            let len = buffer.len().checked_div(*length).unwrap_or(0);
            let array = FixedSizeBinaryArray::try_new_with_len(size, buffer, None, len);
            Arc::new(array.map_err(|e| e.to_string())?)
        }
        ElementType::Struct(fields) => {
            let size = element.size().filter(|size| *size > 0).ok_or("structures of nothing")?;
            let len = buffer.len() / size;
            let columns = fields.iter().map(|field| field_array(field, &buffer, size, len));
            structure(element, columns.collect::<Result<_, _>>()?, len)?
        }
        ElementType::Utf8 | ElementType::Binary | ElementType::List(_) => {
            return Err("elements of any length were not expected".to_owned());
        }
    })
}

/// Widens small integers and floats to Arrow's narrowest type that holds them. Returns other elements unchanged.
pub(super) fn widened(element: &ElementType, buffer: Buffer) -> (ElementType, Buffer) {
    match element {
        ElementType::SmallInt { bits, signed } => {
            let unused = u8::BITS - bits;
            #[expect(clippy::cast_possible_wrap, reason = "the sign is what is wanted")]
            let widen = |byte: &u8| match signed {
                true => ((byte << unused) as i8 >> unused).to_ne_bytes()[0],
                false => byte << unused >> unused,
            };
            let values: Vec<u8> = buffer.iter().map(widen).collect();
            let element = if *signed { ElementType::Int8 } else { ElementType::UInt8 };
            (element, Buffer::from_vec(values))
        }
        ElementType::SmallFloat(float) => {
            (ElementType::Float32, Buffer::from_vec(float.widen(&buffer)))
        }
        element => (element.clone(), buffer),
    }
}

/// Replaces NaT (`i64::MIN`) by zero: DataFusion 55.2 computes with the values beneath NULLs, and `i64::MIN` overflows.
pub(super) fn zero_for_nat(values: &[i64]) -> ScalarBuffer<i64> {
    values.iter().map(|&v| if v == i64::MIN { 0 } else { v }).collect()
}

/// Converts numpy's datetime64 or timedelta64 to numbers of the Arrow unit. NaT (`i64::MIN`) becomes NULL.
///
/// Values out of range become NULL too, and count as `lost`.
///
/// # Errors
/// A message, if a number of a unit finer than nanoseconds isn't a whole number of nanoseconds.
pub(super) fn times64(
    buffer: &Buffer,
    time: NumpyTime,
    lost: &mut Lost,
) -> Result<PrimitiveArray<Int64Type>, String> {
    let values = ScalarBuffer::<i64>::from(buffer.clone());
    let is_nat = |v: &i64| *v == i64::MIN;
    let nulls = values.iter().any(is_nat).then(|| {
        NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |i| !is_nat(&values[i])))
    });
    let values = if nulls.is_some() { zero_for_nat(&values) } else { values };
    let array = PrimitiveArray::<Int64Type>::new(values, nulls);
    if (time.multiplier, time.months, time.divisor) == (1, 0, 1) {
        return Ok(array);
    }
    let convert = |v: i64| {
        if time.months > 0 {
            return month_start(v.checked_mul(time.multiplier)?.checked_mul(time.months)?);
        }
        Some(v.checked_mul(time.multiplier)?.div_euclid(time.divisor))
    };
    let is_cut = |v: i64| {
        let parts = i128::from(v) * i128::from(time.multiplier);
        parts % i128::from(time.divisor) != 0
    };
    if time.divisor != 1
        && let Some(cut) = array.iter().flatten().find(|v| is_cut(*v))
    {
        return Err(format!(
            "{cut} of the array's unit, which is finer than a nanosecond, isn't a whole number of \
             nanoseconds, the finest unit of times; decode_cf=false gives the numbers as they are"
        ));
    }
    Ok(lost.or_null(&array, convert))
}

/// Converts timedelta64 in months or years to intervals: months differ in length, so they aren't durations.
pub(super) fn months(buffer: &Buffer, time: NumpyTime) -> Result<ArrayRef, String> {
    let (numbers, _) = buffer.as_chunks::<8>();
    let months = numbers.iter().map(|bytes| match i64::from_ne_bytes(*bytes) {
        i64::MIN => Ok(None),
        number => number
            .checked_mul(time.multiplier)
            .and_then(|number| i32::try_from(number.checked_mul(time.months)?).ok())
            .map(Some)
            .ok_or_else(|| format!("{number} is out of the range of intervals")),
    });
    let months: PrimitiveArray<IntervalYearMonthType> = months.collect::<Result<_, _>>()?;
    Ok(Arc::new(months))
}

/// The start of a month in seconds since 1970-01-01; `months` counts from January 1970. `None` if out of range.
fn month_start(months: i64) -> Option<i64> {
    let year = 1970 + months.div_euclid(12);
    let month = u8::try_from(months.rem_euclid(12) + 1).ok()?;
    // Keeps the count of seconds far from overflow.
    (year.abs() < 10_000_000).then(|| gregorian_day(year, month, 1) * 86_400)
}

fn primitive<T: ArrowPrimitiveType>(buffer: Buffer) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(buffer), None))
}

/// Makes an Arrow struct array of `len` rows from the columns of a structured `element`.
fn structure(
    element: &ElementType,
    columns: Vec<ArrayRef>,
    len: usize,
) -> Result<ArrayRef, String> {
    let DataType::Struct(fields) = element.data_type() else {
        return Err("a structure was expected".to_owned());
    };
    StructArray::try_new_with_length(fields, columns, None, len)
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|e| e.to_string())
}

fn field_array(
    field: &Field,
    buffer: &Buffer,
    size: usize,
    len: usize,
) -> Result<ArrayRef, String> {
    let own = field.size();
    let bytes = strided(buffer, size, field.offset, own);
    let unit = field.element.number_size();
    let bytes = if unit > 1 && field.big_endian != cfg!(target_endian = "big") {
        let mut bytes = bytes.to_vec();
        bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
        Buffer::from_slice_ref(&bytes)
    } else {
        bytes
    };
    let mut array = if own == 0 {
        arrow::array::new_null_array(&field.element.data_type(), len * field.count())
    } else {
        plain_array(&field.element, bytes)?
    };
    // The innermost dimension becomes the innermost list.
    let mut rows = len * field.count();
    for &inner in field.shape.iter().rev() {
        rows = rows.checked_div(inner).unwrap_or(len);
        let item =
            Arc::new(arrow::datatypes::Field::new_list_field(array.data_type().clone(), true));
        let inner = i32::try_from(inner).map_err(|e| e.to_string())?;
        let list = FixedSizeListArray::try_new_with_length(item, inner, array, None, rows);
        array = Arc::new(list.map_err(|e| e.to_string())?);
    }
    Ok(array)
}

/// Copies `len` bytes at an offset out of each element of `size` bytes.
fn strided(buffer: &Buffer, size: usize, offset: usize, len: usize) -> Buffer {
    let mut out = Vec::with_capacity(buffer.len() / size.max(1) * len);
    for element in buffer.chunks_exact(size.max(1)) {
        out.extend_from_slice(element.get(offset..offset + len).unwrap_or_default());
    }
    // Copies, because a `Vec<u8>` is aligned only for bytes.
    Buffer::from_slice_ref(&out)
}

/// Decodes numpy's `U`: `length` code points per element, padded with zeros.
fn utf32(buffer: &Buffer, length: usize) -> Result<ArrayRef, String> {
    if length == 0 {
        return Err("strings of length 0".to_owned());
    }
    let mut out = StringViewBuilder::with_capacity(buffer.len() / (length * 4));
    let mut text = String::new();
    for element in buffer.chunks_exact(length * 4) {
        text.clear();
        for unit in element.as_chunks::<4>().0 {
            let unit = u32::from_ne_bytes(*unit);
            text.push(char::from_u32(unit).ok_or_else(|| format!("{unit:#x} is no character"))?);
        }
        out.append_value(text.trim_end_matches('\0'));
    }
    Ok(Arc::new(out.finish()))
}

/// Decodes numpy's `S` to bytes, without the padding of zeros.
fn text_bytes(buffer: &Buffer, length: usize) -> ArrayRef {
    let mut out = BinaryViewBuilder::with_capacity(buffer.len() / length.max(1));
    for element in buffer.chunks_exact(length.max(1)) {
        out.append_value(without_zeros(element));
    }
    Arc::new(out.finish())
}

/// Decodes numpy's `S` to text: `length` bytes per element, padded with zeros.
fn text(buffer: &Buffer, length: usize) -> Result<ArrayRef, String> {
    let mut out = StringViewBuilder::with_capacity(buffer.len() / length.max(1));
    for (number, element) in buffer.chunks_exact(length.max(1)).enumerate() {
        let text = str::from_utf8(without_zeros(element)).map_err(|_| {
            format!("its string number {number} is not UTF-8; decode_cf=false gives bytes")
        })?;
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}

fn without_zeros(element: &[u8]) -> &[u8] {
    let end = element.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &element[..end]
}
