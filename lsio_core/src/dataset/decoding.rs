//! Decoding of stored values by the CF conventions, as xarray applies them.
//!
//! The order is xarray's: `_Unsigned`, then the mask, then scale and offset, then times. The decoded type depends on
//! metadata only.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, PrimitiveArray,
        StringViewBuilder,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer},
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use half::f16;

use super::{
    attributes::{Attribute, Attributes},
    calendar::Calendar,
    dtype::{ElementType, NumpyTime},
    elements::{plain_array, times64, widened, zero_for_nat},
    fill::{Range, StoredNumber, numbers},
    lost::Lost,
    time::{TimeUnits, duration_unit},
    unpacking,
};
use crate::{
    options::{DecodeTimes, OpenOptions},
    recycle::Recycler,
    reduce::Unpacking,
};

/// Stored values, after the codecs and before the CF conventions.
#[derive(Clone, Debug)]
pub(crate) enum StoredValues {
    /// The bytes of elements of a fixed size.
    Fixed(Buffer),
    /// Elements of variable length, as an Arrow array.
    Items(ArrayRef),
}

/// Decodes one variable's stored values to the values of its column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoding {
    /// The stored type.
    stored: ElementType,
    /// The type after widening and `_Unsigned`, to which masks and scales apply.
    element: ElementType,
    /// The values that mean "missing", in the type `element`.
    mask: Vec<StoredNumber>,
    nan_as_null: bool,
    /// The attributes `scale_factor` and `add_offset`.
    scale: Option<(f64, f64)>,
    meaning: Meaning,
}

/// The meaning of the unpacked numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    Plain,
    Boolean,
    Time { units: TimeUnits, text: bool },
    DateTime64(NumpyTime),
    TimeDelta64(NumpyTime),
    Duration { unit_nanos: i64, unit: TimeUnit },
}

impl Decoding {
    /// Chooses the decoding of a variable. `zarr_fill` is Zarr's fill value, if it masks. Ignored attributes are
    /// reported to `warn`.
    pub(crate) fn new(
        element: ElementType,
        attributes: &Attributes,
        zarr_fill: Option<&Attribute>,
        options: &OpenOptions,
        warn: &mut dyn FnMut(String),
    ) -> Self {
        let text = |key: &str| attributes.text(key);
        let element = if options.decode_cf { element } else { element.without_text() };
        let (number, _) = match element {
            // Without `decode_cf`, units finer than nanoseconds stay integers: Arrow has no such units.
            ElementType::DateTime64(time) | ElementType::TimeDelta64(time)
                if time.divisor != 1 && !options.decode_cf =>
            {
                (ElementType::Int64, Buffer::default())
            }
            _ => widened(&element, Buffer::default()),
        };
        let mut decoding = Self {
            stored: element,
            element: number,
            mask: Vec::new(),
            nan_as_null: options.nan_as_null,
            scale: None,
            meaning: Meaning::Plain,
        };

        if options.masks_and_scales() {
            if let Some(unsigned) = text("_Unsigned") {
                decoding.reinterpret(unsigned.eq_ignore_ascii_case("true"));
            }
            // Zarr's fill value takes precedence over the attribute, as in xarray.
            let fill = zarr_fill.or_else(|| attributes.get("_FillValue"));
            let of_attributes =
                if text("_Unsigned").is_some() { Range::Reinterpreted } else { Range::Exact };
            let of_fill = if zarr_fill.is_some() { Range::Wrapped } else { of_attributes };
            for (key, value, range) in [
                ("_FillValue", fill, of_fill),
                ("missing_value", attributes.get("missing_value"), of_attributes),
            ] {
                let Some(value) = value else { continue };
                // Other types have markers of their own for "missing".
                if !decoding.element.is_number() && decoding.element != ElementType::Bool {
                    continue;
                }
                match numbers(value, &decoding.element, range) {
                    Ok(numbers) => decoding.mask.extend(numbers),
                    Err(reason) => warn(format!("{key} is ignored: {reason}")),
                }
            }
            decoding.mask.dedup();
            if decoding.element.is_number() {
                let mut number = |key: &str| {
                    let value = attributes.get(key).filter(|value| !value.is_null())?;
                    let number = scalar(value);
                    if number.is_none() {
                        warn(format!(
                            "{key} is ignored: {value} is no number; the numbers are left as they are stored"
                        ));
                    }
                    number
                };
                let (factor, offset) = (number("scale_factor"), number("add_offset"));
                if factor.is_some() || offset.is_some() {
                    decoding.scale = Some((factor.unwrap_or(1.0), offset.unwrap_or(0.0)));
                }
            }
        }

        decoding.meaning = decoding.choose_meaning(attributes, options, warn);
        decoding
    }

    /// The type of the decoded values.
    #[must_use]
    pub(crate) fn data_type(&self) -> DataType {
        match self.meaning {
            Meaning::Boolean => DataType::Boolean,
            Meaning::Time { text: true, .. } => DataType::Utf8View,
            Meaning::Time { text: false, .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
            Meaning::DateTime64(time) => DataType::Timestamp(time.unit, None),
            Meaning::TimeDelta64(time) => DataType::Duration(time.unit),
            Meaning::Duration { unit, .. } => DataType::Duration(unit),
            Meaning::Plain if self.scale.is_some() => DataType::Float64,
            Meaning::Plain => self.element.data_type(),
        }
    }

    /// The calendar of times that are decoded as text; otherwise `None`.
    #[must_use]
    pub(crate) fn text_calendar(&self) -> Option<Calendar> {
        match self.meaning {
            Meaning::Time { units, text: true } => Some(units.calendar()),
            _ => None,
        }
    }

    /// Whether the only decoding step is to turn NaN into NULL.
    pub(crate) fn only_finds_nan(&self) -> bool {
        let masks = self.mask.iter().any(|n| !matches!(n, StoredNumber::Float(v) if v.is_nan()));
        self.nan_as_null
            && !masks
            && self.scale.is_none()
            && self.meaning == Meaning::Plain
            && matches!(self.stored, ElementType::Float32 | ElementType::Float64)
    }

    /// How stored numbers become floats with NaN for missing ones, if that is all of the decoding.
    pub(crate) fn unpacking(&self) -> Option<Unpacking> {
        if self.meaning != Meaning::Plain || self.stored != self.element {
            return None;
        }
        let Some((factor, offset)) = self.scale else {
            // NaN that isn't NULL must not be taken for a missing value.
            let masked = self.nan_as_null && !self.only_finds_nan();
            return masked.then(|| unpacking::masked(&self.element, &self.mask)).flatten();
        };
        unpacking::scaled(&self.element, &self.mask, [factor, offset])
    }

    /// Whether stored values need no decoding.
    pub(crate) fn is_plain(&self) -> bool {
        let floats = matches!(self.element, ElementType::Float32 | ElementType::Float64);
        let integers = self.element.is_number() && !floats && self.element != ElementType::Float16;
        self.mask.is_empty()
            && self.scale.is_none()
            && self.meaning == Meaning::Plain
            && self.stored == self.element
            && (integers || (floats && !self.nan_as_null))
    }

    /// Decodes values, which must be aligned for their type and in native byte order.
    ///
    /// A decoding that [only finds NaN](Self::only_finds_nan) leaves that step to [`nan_to_null`], which runs when the
    /// values are used: so they are loaded into the processor's cache once, not twice.
    ///
    /// Times and durations out of range become NULL, and count as `lost`.
    ///
    /// # Errors
    /// A message, if the column's type can't hold another value.
    pub(crate) fn apply(
        &self,
        values: StoredValues,
        recycler: &Arc<Recycler>,
        lost: &mut Lost,
    ) -> Result<ArrayRef, String> {
        let buffer = match values {
            StoredValues::Items(items) => return Ok(items),
            StoredValues::Fixed(buffer) => buffer,
        };
        let buffer = match self.stored {
            ElementType::SmallInt { .. } | ElementType::SmallFloat(_) => {
                widened(&self.stored, buffer).1
            }
            _ => buffer,
        };
        if let Some(unpacking) = self.unpacking() {
            let mut to = recycler.take(unpacking.unpacked_bytes(&buffer));
            let nulls = unpacking.unpack(&buffer, &mut to).ok_or("its numbers aren't whole")?;
            return Ok(unpacking.array_of(to.freeze(), nulls));
        }
        if let Some(scale) = self.scale
            && let Some(scaled) = self.scaled(&buffer, scale, recycler)
        {
            return self.interpret(Arc::new(scaled), lost);
        }
        let array: ArrayRef = match self.element {
            ElementType::Bool => Arc::new(self.booleans(&buffer)),
            ElementType::Int8 => Arc::new(self.integers::<Int8Type>(buffer)),
            ElementType::Int16 => Arc::new(self.integers::<Int16Type>(buffer)),
            ElementType::Int32 => Arc::new(self.integers::<Int32Type>(buffer)),
            ElementType::Int64 => Arc::new(self.integers::<Int64Type>(buffer)),
            ElementType::UInt8 => Arc::new(self.integers::<UInt8Type>(buffer)),
            ElementType::UInt16 => Arc::new(self.integers::<UInt16Type>(buffer)),
            ElementType::UInt32 => Arc::new(self.integers::<UInt32Type>(buffer)),
            ElementType::UInt64 => Arc::new(self.integers::<UInt64Type>(buffer)),
            ElementType::Float16 => {
                Arc::new(self.floats::<Float16Type>(buffer, f16::from_f64, f16::is_nan))
            }
            #[expect(clippy::cast_possible_truncation, reason = "the mask is in the stored type")]
            ElementType::Float32 => {
                Arc::new(self.floats::<Float32Type>(buffer, |v| v as f32, f32::is_nan))
            }
            ElementType::Float64 => {
                Arc::new(self.floats::<Float64Type>(buffer, |v| v, f64::is_nan))
            }
            ElementType::DateTime64(time) => Arc::new(times64(&buffer, time, lost)?),
            ElementType::TimeDelta64(time) if time.months == 0 => {
                Arc::new(times64(&buffer, time, lost)?)
            }
            ref element => plain_array(element, buffer)?,
        };
        self.interpret(array, lost)
    }

    /// Reinterprets signed integers as unsigned, or unsigned as signed (`_Unsigned`).
    fn reinterpret(&mut self, unsigned: bool) {
        self.element = match (&self.element, unsigned) {
            (ElementType::Int8, true) => ElementType::UInt8,
            (ElementType::Int16, true) => ElementType::UInt16,
            (ElementType::Int32, true) => ElementType::UInt32,
            (ElementType::Int64, true) => ElementType::UInt64,
            (ElementType::UInt8, false) => ElementType::Int8,
            (ElementType::UInt16, false) => ElementType::Int16,
            (ElementType::UInt32, false) => ElementType::Int32,
            (ElementType::UInt64, false) => ElementType::Int64,
            (element, _) => element.clone(),
        };
    }

    fn choose_meaning(
        &self,
        attributes: &Attributes,
        options: &OpenOptions,
        warn: &mut dyn FnMut(String),
    ) -> Meaning {
        let text = |key: &str| attributes.text(key);
        let as_text = options.times() == DecodeTimes::Text;
        match self.element {
            ElementType::DateTime64(time) if as_text => {
                return Meaning::Time { units: TimeUnits::since_1970(time.unit), text: true };
            }
            ElementType::DateTime64(time) => return Meaning::DateTime64(time),
            ElementType::TimeDelta64(time) if time.months == 0 => {
                return Meaning::TimeDelta64(time);
            }
            _ if !self.element.is_number() => return Meaning::Plain,
            _ => {}
        }
        if options.decode_cf && text("dtype") == Some("bool") && self.scale.is_none() {
            return Meaning::Boolean;
        }
        let Some(units) = text("units") else { return Meaning::Plain };

        // xarray's attribute `dtype` may name a finer unit than `units`.
        let timedelta = text("dtype")
            .and_then(|d| d.strip_prefix("timedelta64["))
            .and_then(|d| d.strip_suffix(']'))
            .map(|unit| match unit {
                "s" => TimeUnit::Second,
                "ms" => TimeUnit::Millisecond,
                "us" => TimeUnit::Microsecond,
                _ => TimeUnit::Nanosecond,
            });
        if let Some(unit_nanos) = duration_unit(units.trim()) {
            let wanted = options.decode_timedelta.unwrap_or(timedelta.is_some());
            if options.decode_cf && wanted {
                let exact = |unit: &TimeUnit| unit_nanos % nanos(*unit) == 0;
                let finest = [TimeUnit::Millisecond, TimeUnit::Microsecond];
                let unit = timedelta
                    .filter(exact)
                    .or_else(|| timedelta.and_then(|_| finest.into_iter().find(exact)));
                let unit = unit.unwrap_or(TimeUnit::Nanosecond);
                return Meaning::Duration { unit_nanos, unit };
            }
            return Meaning::Plain;
        }

        let is_time =
            units.split_whitespace().nth(1).is_some_and(|w| w.eq_ignore_ascii_case("since"));
        if options.times() == DecodeTimes::No || !is_time {
            return Meaning::Plain;
        }
        let name = match attributes.get("calendar") {
            None | Some(Attribute::Null) => "standard",
            Some(Attribute::Text(name)) => name,
            Some(other) => {
                warn(format!(
                    "the calendar {other} isn't a name: the numbers are left as they are"
                ));
                return Meaning::Plain;
            }
        };
        let Some(calendar) = Calendar::from_name(name) else {
            warn(format!("the calendar '{name}' isn't known: the numbers are left as they are"));
            return Meaning::Plain;
        };
        let Some(units) = TimeUnits::parse(units, calendar) else {
            warn(format!(
                "the units '{units}' can't be decoded in the calendar {name}: the numbers are left as they are"
            ));
            return Meaning::Plain;
        };
        Meaning::Time { units, text: as_text || !calendar.fits_timestamp() }
    }

    fn booleans(&self, buffer: &Buffer) -> BooleanArray {
        let values = buffer.as_slice();
        let is_masked = |v: u8| self.mask.contains(&StoredNumber::Int(i128::from(v != 0)));
        let nulls = if self.mask.is_empty() {
            None
        } else {
            let valid = BooleanBuffer::collect_bool(values.len(), |i| !is_masked(values[i]));
            Some(NullBuffer::new(valid))
        };
        let bits = BooleanBuffer::collect_bool(values.len(), |i| values[i] != 0);
        BooleanArray::new(bits, nulls)
    }

    /// Masks and unpacks numbers in one pass. `None` if the elements aren't numbers.
    fn scaled(
        &self,
        buffer: &Buffer,
        scale: (f64, f64),
        recycler: &Arc<Recycler>,
    ) -> Option<Float64Array> {
        macro_rules! integers {
            ($t:ty) => {
                self.unpack::<$t>(
                    buffer,
                    &self.integer_mask::<$t>(),
                    |v| v as f64 * scale.0 + scale.1,
                    |_| false,
                    recycler,
                )
            };
        }
        macro_rules! floats {
            ($t:ty, $narrow:expr, $wide:expr, $is_nan:expr) => {
                self.unpack::<$t>(
                    buffer,
                    &self.float_mask::<$t>($narrow),
                    |v| $wide(v) * scale.0 + scale.1,
                    |v| self.nan_as_null && $is_nan(v),
                    recycler,
                )
            };
        }
        Some(match self.element {
            ElementType::Int8 => integers!(Int8Type),
            ElementType::Int16 => integers!(Int16Type),
            ElementType::Int32 => integers!(Int32Type),
            ElementType::Int64 => integers!(Int64Type),
            ElementType::UInt8 => integers!(UInt8Type),
            ElementType::UInt16 => integers!(UInt16Type),
            ElementType::UInt32 => integers!(UInt32Type),
            ElementType::UInt64 => integers!(UInt64Type),
            ElementType::Float16 => {
                floats!(Float16Type, f16::from_f64, f16::to_f64, f16::is_nan)
            }
            #[expect(clippy::cast_possible_truncation, reason = "the mask is in the stored type")]
            ElementType::Float32 => {
                floats!(Float32Type, |v| v as f32, f64::from, f32::is_nan)
            }
            ElementType::Float64 => floats!(Float64Type, |v| v, |v: f64| v, f64::is_nan),
            _ => return None,
        })
    }

    fn unpack<T: ArrowPrimitiveType>(
        &self,
        buffer: &Buffer,
        mask: &[T::Native],
        unpack: impl Fn(T::Native) -> f64,
        is_nan: impl Fn(T::Native) -> bool,
        recycler: &Arc<Recycler>,
    ) -> Float64Array
    where
        T::Native: PartialEq,
    {
        let values: &[T::Native] = buffer.typed_data();
        let mut out = recycler.take(values.len() * 8);
        let (places, _) = out.as_chunks_mut::<8>();
        let mut any = false;
        // One loop per kind of mask, so that the compiler vectorizes each.
        match mask {
            [] => places.iter_mut().zip(values).for_each(|(place, &v)| {
                *place = unpack(v).to_ne_bytes();
                any |= is_nan(v);
            }),
            [one] => places.iter_mut().zip(values).for_each(|(place, &v)| {
                *place = unpack(v).to_ne_bytes();
                any |= v == *one || is_nan(v);
            }),
            many => places.iter_mut().zip(values).for_each(|(place, &v)| {
                *place = unpack(v).to_ne_bytes();
                any |= many.contains(&v) || is_nan(v);
            }),
        }
        let nulls = if any { nulls(values, |v| mask.contains(&v) || is_nan(v)) } else { None };
        Float64Array::new(ScalarBuffer::from(out.freeze()), nulls)
    }

    fn integer_mask<T>(&self) -> Vec<T::Native>
    where
        T: ArrowPrimitiveType,
        T::Native: TryFrom<i128>,
    {
        let as_integer = |number: &StoredNumber| match number {
            StoredNumber::Int(value) => T::Native::try_from(*value).ok(),
            StoredNumber::Float(_) => None,
        };
        self.mask.iter().filter_map(as_integer).collect()
    }

    fn float_mask<T: ArrowPrimitiveType>(
        &self,
        narrow: impl Fn(f64) -> T::Native,
    ) -> Vec<T::Native> {
        let as_float = |number: &StoredNumber| match number {
            StoredNumber::Float(value) if !value.is_nan() => Some(narrow(*value)),
            _ => None,
        };
        self.mask.iter().filter_map(as_float).collect()
    }

    fn integers<T>(&self, buffer: Buffer) -> PrimitiveArray<T>
    where
        T: ArrowPrimitiveType,
        T::Native: TryFrom<i128> + PartialEq,
    {
        let mask = self.integer_mask::<T>();
        let values = ScalarBuffer::<T::Native>::from(buffer);
        let nulls = match mask.as_slice() {
            [] => None,
            [one] => nulls(&values, |v| v == *one),
            many => nulls(&values, |v| many.contains(&v)),
        };
        PrimitiveArray::new(values, nulls)
    }

    fn floats<T>(
        &self,
        buffer: Buffer,
        narrow: impl Fn(f64) -> T::Native,
        is_nan: impl Fn(T::Native) -> bool,
    ) -> PrimitiveArray<T>
    where
        T: ArrowPrimitiveType,
        T::Native: PartialEq,
    {
        let mask = self.float_mask::<T>(narrow);
        let values = ScalarBuffer::<T::Native>::from(buffer);
        let nulls = match (self.nan_as_null, mask.as_slice()) {
            _ if self.only_finds_nan() => None,
            (false, []) => None,
            (false, many) => nulls(&values, |v| many.contains(&v)),
            (true, []) => nulls(&values, is_nan),
            (true, many) => nulls(&values, |v| is_nan(v) || many.contains(&v)),
        };
        PrimitiveArray::new(values, nulls)
    }

    fn interpret(&self, array: ArrayRef, lost: &mut Lost) -> Result<ArrayRef, String> {
        match self.meaning {
            Meaning::Plain => Ok(array),
            Meaning::Boolean => {
                let numbers = cast(&array, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                let bits = BooleanBuffer::collect_bool(numbers.len(), |i| numbers.value(i) != 0.0);
                Ok(Arc::new(BooleanArray::new(bits, numbers.nulls().cloned())))
            }
            Meaning::Time { units, text } => times(&array, &units, text, lost),
            // The cast changes the type only, not the numbers.
            Meaning::DateTime64(_) | Meaning::TimeDelta64(_) => cast(&array, &self.data_type()),
            Meaning::Duration { unit_nanos, unit } => {
                let to = nanos(unit);
                let values = if matches!(
                    array.data_type(),
                    DataType::Float16 | DataType::Float32 | DataType::Float64
                ) {
                    let floats = cast(&array, &DataType::Float64)?;
                    scaled_floats(floats.as_primitive(), unit_nanos as f64 / to as f64, lost)
                } else {
                    let integers = integers_or_nat(&array, lost)?;
                    lost.or_null(&integers, |v| {
                        i64::try_from(
                            (i128::from(v) * i128::from(unit_nanos)).div_euclid(i128::from(to)),
                        )
                        .ok()
                    })
                };
                cast(&(Arc::new(values) as ArrayRef), &self.data_type())
            }
        }
    }
}

/// Replaces NaN in Float32 and Float64 arrays by NULL, if `wanted`. Values that are NULL already, those without a partner,
/// stay so. Returns other arrays unchanged.
pub fn nan_to_null(array: ArrayRef, wanted: bool) -> ArrayRef {
    if !wanted {
        return array;
    }
    if let Some(floats) = array.as_primitive_opt::<Float32Type>()
        && let Some(nulls) = nulls(floats.values(), f32::is_nan)
    {
        let nulls = NullBuffer::union(floats.nulls(), Some(&nulls));
        return Arc::new(PrimitiveArray::<Float32Type>::new(floats.values().clone(), nulls));
    }
    if let Some(floats) = array.as_primitive_opt::<Float64Type>()
        && let Some(nulls) = nulls(floats.values(), f64::is_nan)
    {
        let nulls = NullBuffer::union(floats.nulls(), Some(&nulls));
        return Arc::new(PrimitiveArray::<Float64Type>::new(floats.values().clone(), nulls));
    }
    array
}

/// The null buffer of the values for which `is_null` holds. `None` if no value is NULL.
fn nulls<T: Copy>(values: &[T], is_null: impl Fn(T) -> bool) -> Option<NullBuffer> {
    // Most chunks hold no missing cell: a pass that only searches costs a fraction of building the bitmap. Its inner
    // loop has no early exit, so that the compiler vectorizes it.
    let any = |block: &[T]| block.iter().fold(false, |any, &v| any | is_null(v));
    if !values.chunks(1024).any(any) {
        return None;
    }
    Some(NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |i| !is_null(values[i]))))
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|e| e.to_string())
}

/// Converts integers to Int64. `i64::MIN` becomes NULL: it is numpy's NaT, which xarray writes without any other mark.
/// UInt64 values out of range become NULL, and count as `lost`.
fn integers_or_nat(array: &ArrayRef, lost: &mut Lost) -> Result<PrimitiveArray<Int64Type>, String> {
    if let Some(unsigned) = array.as_primitive_opt::<UInt64Type>() {
        let numbers = unsigned.iter();
        return Ok(numbers.map(|v| v.and_then(|v| lost.note(v, i64::try_from(v).ok()))).collect());
    }
    let integers = cast(array, &DataType::Int64)?;
    let integers = integers.as_primitive::<Int64Type>();
    let nat = nulls(integers.values(), |v| v == i64::MIN);
    let values =
        if nat.is_some() { zero_for_nat(integers.values()) } else { integers.values().clone() };
    let nulls = NullBuffer::union(integers.nulls(), nat.as_ref());
    Ok(PrimitiveArray::new(values, nulls))
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn scaled_floats(floats: &Float64Array, factor: f64, lost: &mut Lost) -> PrimitiveArray<Int64Type> {
    let convert = |v: f64| {
        let value = (v * factor).round();
        (value.abs() < 9.2e18).then_some(value as i64)
    };
    // NaN is never a duration, even if `nan_as_null` is off.
    let numbers = floats.iter().map(|v| v.filter(|v| !v.is_nan()));
    numbers.map(|v| v.and_then(|v| lost.note(v, convert(v)))).collect()
}

fn times(
    array: &ArrayRef,
    units: &TimeUnits,
    text: bool,
    lost: &mut Lost,
) -> Result<ArrayRef, String> {
    let instants: PrimitiveArray<Int64Type> = if array.data_type().is_floating() {
        let floats = cast(array, &DataType::Float64)?;
        let floats = floats.as_primitive::<Float64Type>();
        let numbers = floats.iter().map(|v| v.filter(|v| !v.is_nan()));
        numbers.map(|v| v.and_then(|v| lost.note(v, units.instant_from_f64(v)))).collect()
    } else {
        let integers = integers_or_nat(array, lost)?;
        lost.or_null(&integers, |v| units.instant_from_i64(v))
    };
    if text {
        let mut out = StringViewBuilder::with_capacity(instants.len());
        let mut buffer = String::new();
        for instant in &instants {
            match instant {
                None => out.append_null(),
                Some(instant) => {
                    buffer.clear();
                    units.write_text(instant, &mut buffer);
                    out.append_value(&buffer);
                }
            }
        }
        return Ok(Arc::new(out.finish()));
    }
    let micros: PrimitiveArray<TimestampMicrosecondType> = instants.try_unary(|instant| {
        units.timestamp(instant).ok_or_else(|| {
            let mut label = String::new();
            units.write_text(instant, &mut label);
            format!(
                "{label} of the calendar {} is no date of the Gregorian calendar; decode_times=text gives times as text",
                units.calendar().name()
            )
        })
    })?;
    Ok(Arc::new(micros))
}

fn nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// Parses a number, a list of one number, or a number in text such as `"NaN"`. `None` for other values.
fn scalar(value: &Attribute) -> Option<f64> {
    let value = match value {
        Attribute::List(values) if values.len() == 1 => &values[0],
        value => value,
    };
    match numbers(value, &ElementType::Float64, Range::Exact).ok()?.as_slice() {
        [StoredNumber::Float(number)] if !matches!(value, Attribute::Bool(_)) => Some(*number),
        _ => None,
    }
}
