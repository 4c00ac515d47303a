//! How numbers are stored, by the names that numpy gives to it: `<f4`, `int16`, ….
//!
//! Numbers are read as one of few wide types and written from it, so that a conversion between two
//! formats is two short loops instead of one of its own for each pair. What is converted comes out as
//! numpy's `astype` makes it: integers wrap, fractions are cut off. Where C leaves open what becomes of
//! a float that an integer can't hold, numpy on x86-64 is followed as far as it is consistent.

use half::f16;

/// What the bits of a number mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberKind {
    Bool,
    Int,
    UInt,
    Float,
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumberFormat {
    pub(crate) kind: NumberKind,
    /// The bytes of a number: 1, 2, 4 or 8.
    pub(crate) width: usize,
    /// Never so for single bytes.
    pub(crate) big_endian: bool,
}

/// A number of any format, without loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AnyNumber {
    /// Also bools, and unsigned integers of fewer than 64 bits.
    Int(i64),
    UInt(u64),
    Float(f64),
}

impl NumberFormat {
    /// The format that numpy's `dtype` gives for this text, if it is one of plain numbers. What
    /// depends on the platform is what it is on 64-bit Linux and macOS.
    pub(crate) fn parse(numpy_dtype: &str) -> Option<Self> {
        let (order, code) = match numpy_dtype.split_at_checked(1) {
            Some((order @ ("<" | ">" | "=" | "|"), code)) => (Some(order), code),
            _ => (None, numpy_dtype),
        };
        let (kind, width) = match code {
            "?" | "b1" => (NumberKind::Bool, 1),
            "b" | "i1" => (NumberKind::Int, 1),
            "h" | "i2" => (NumberKind::Int, 2),
            "i" | "i4" => (NumberKind::Int, 4),
            "l" | "q" | "n" | "p" | "i8" => (NumberKind::Int, 8),
            "B" | "u1" => (NumberKind::UInt, 1),
            "H" | "u2" => (NumberKind::UInt, 2),
            "I" | "u4" => (NumberKind::UInt, 4),
            "L" | "Q" | "N" | "P" | "u8" => (NumberKind::UInt, 8),
            "e" | "f2" => (NumberKind::Float, 2),
            "f" | "f4" => (NumberKind::Float, 4),
            "d" | "f8" => (NumberKind::Float, 8),
            // Names have no order of bytes.
            name if order.is_none() => named(name)?,
            _ => return None,
        };
        let big_endian = match order {
            Some("<") => false,
            Some(">") => true,
            _ => cfg!(target_endian = "big"),
        };
        Some(Self { kind, width, big_endian: big_endian && width > 1 })
    }

    /// The wide type that takes numbers of this format without loss.
    pub(crate) fn wide(&self) -> WideType {
        match (self.kind, self.width) {
            (NumberKind::Float, _) => WideType::Float,
            (NumberKind::UInt, 8) => WideType::UInt,
            _ => WideType::Int,
        }
    }

    /// The number that these bytes are, if they are as many as one has.
    pub(crate) fn number(&self, bytes: &[u8]) -> Option<AnyNumber> {
        fn one<W: WideNumber>(format: &NumberFormat, bytes: &[u8]) -> W {
            let mut number = [W::default()];
            format.read(bytes, &mut number);
            number[0]
        }
        (bytes.len() == self.width).then(|| match self.wide() {
            WideType::Int => AnyNumber::Int(one(self, bytes)),
            WideType::UInt => AnyNumber::UInt(one(self, bytes)),
            WideType::Float => AnyNumber::Float(one(self, bytes)),
        })
    }

    /// Reads numbers, as many as there are bytes and room for.
    pub(crate) fn read<W: WideNumber>(&self, bytes: &[u8], out: &mut [W]) {
        let big_endian = self.big_endian;
        match (self.kind, self.width) {
            (NumberKind::Bool, _) => Bool::read(bytes, big_endian, out),
            (NumberKind::Int, 1) => i8::read(bytes, big_endian, out),
            (NumberKind::Int, 2) => i16::read(bytes, big_endian, out),
            (NumberKind::Int, 4) => i32::read(bytes, big_endian, out),
            (NumberKind::Int, _) => i64::read(bytes, big_endian, out),
            (NumberKind::UInt, 1) => u8::read(bytes, big_endian, out),
            (NumberKind::UInt, 2) => u16::read(bytes, big_endian, out),
            (NumberKind::UInt, 4) => u32::read(bytes, big_endian, out),
            (NumberKind::UInt, _) => u64::read(bytes, big_endian, out),
            (NumberKind::Float, 2) => f16::read(bytes, big_endian, out),
            (NumberKind::Float, 4) => f32::read(bytes, big_endian, out),
            (NumberKind::Float, _) => f64::read(bytes, big_endian, out),
        }
    }

    /// Writes numbers, as many as there are and room for, converted as numpy's `astype` does.
    pub(crate) fn write<W: WideNumber>(&self, numbers: &[W], out: &mut [u8]) {
        let big_endian = self.big_endian;
        match (self.kind, self.width) {
            (NumberKind::Bool, _) => Bool::write(numbers, big_endian, out),
            (NumberKind::Int, 1) => i8::write(numbers, big_endian, out),
            (NumberKind::Int, 2) => i16::write(numbers, big_endian, out),
            (NumberKind::Int, 4) => i32::write(numbers, big_endian, out),
            (NumberKind::Int, _) => i64::write(numbers, big_endian, out),
            (NumberKind::UInt, 1) => u8::write(numbers, big_endian, out),
            (NumberKind::UInt, 2) => u16::write(numbers, big_endian, out),
            (NumberKind::UInt, 4) => u32::write(numbers, big_endian, out),
            (NumberKind::UInt, _) => u64::write(numbers, big_endian, out),
            (NumberKind::Float, 2) => f16::write(numbers, big_endian, out),
            (NumberKind::Float, 4) => f32::write(numbers, big_endian, out),
            (NumberKind::Float, _) => f64::write(numbers, big_endian, out),
        }
    }
}

fn named(name: &str) -> Option<(NumberKind, usize)> {
    Some(match name {
        "bool" | "bool_" => (NumberKind::Bool, 1),
        "int8" | "byte" => (NumberKind::Int, 1),
        "int16" | "short" => (NumberKind::Int, 2),
        "int32" | "intc" => (NumberKind::Int, 4),
        "int64" | "int" | "int_" | "intp" | "long" | "longlong" => (NumberKind::Int, 8),
        "uint8" | "ubyte" => (NumberKind::UInt, 1),
        "uint16" | "ushort" => (NumberKind::UInt, 2),
        "uint32" | "uintc" => (NumberKind::UInt, 4),
        "uint64" | "uint" | "uintp" | "ulong" | "ulonglong" => (NumberKind::UInt, 8),
        "float16" | "half" => (NumberKind::Float, 2),
        "float32" | "single" => (NumberKind::Float, 4),
        "float64" | "float" | "double" => (NumberKind::Float, 8),
        _ => return None,
    })
}

/// The types that numbers are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WideType {
    /// `i64`
    Int,
    /// `u64`
    UInt,
    /// `f64`
    Float,
}

/// A type that numbers are read as and written from.
pub(crate) trait WideNumber: Copy + Default {
    fn from_int(number: i64) -> Self;
    fn from_uint(number: u64) -> Self;
    fn from_float(number: f64) -> Self;
    fn is_true(self) -> bool;
    /// For integers of at most 32 bits that have a sign, or at most 16 bits.
    fn to_i32(self) -> i32;
    fn to_i64(self) -> i64;
    fn to_u64(self) -> u64;
    fn to_f16(self) -> f16;
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
}

macro_rules! wide_integer {
    ($type:ty) => {
        impl WideNumber for $type {
            fn from_int(number: i64) -> Self {
                number as Self
            }

            fn from_uint(number: u64) -> Self {
                number as Self
            }

            fn from_float(number: f64) -> Self {
                number as Self
            }

            fn is_true(self) -> bool {
                self != 0
            }

            fn to_i32(self) -> i32 {
                self as i32
            }

            fn to_i64(self) -> i64 {
                self as i64
            }

            fn to_u64(self) -> u64 {
                self as u64
            }

            fn to_f16(self) -> f16 {
                // Whatever an f32 must round lies beyond the finite ones.
                f16::from_f32(self as f32)
            }

            fn to_f32(self) -> f32 {
                self as f32
            }

            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    };
}

wide_integer!(i64);
wide_integer!(u64);

const TWO_31: f64 = 2_147_483_648.0;
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

impl WideNumber for f64 {
    fn from_int(number: i64) -> Self {
        number as Self
    }

    fn from_uint(number: u64) -> Self {
        number as Self
    }

    fn from_float(number: f64) -> Self {
        number
    }

    fn is_true(self) -> bool {
        self != 0.0
    }

    fn to_i32(self) -> i32 {
        if self > -TWO_31 - 1.0 && self < TWO_31 { self as i32 } else { i32::MIN }
    }

    fn to_i64(self) -> i64 {
        if self < TWO_63 { self as i64 } else { i64::MIN }
    }

    fn to_u64(self) -> u64 {
        // Negative ones wrap.
        if self >= TWO_63 { self as u64 } else { self.to_i64() as u64 }
    }

    fn to_f16(self) -> f16 {
        let mut near = self as f32;
        // Rounded twice, a number next to the middle between two could come out wrong. Cut off, with
        // the last bit to say that there was more, it can't: an f32 has more than twice the bits.
        if f64::from(near) != self && near.is_finite() {
            if f64::from(near).abs() > self.abs() {
                near = f32::from_bits(near.to_bits() - 1);
            }
            near = f32::from_bits(near.to_bits() | 1);
        }
        f16::from_f32(near)
    }

    fn to_f32(self) -> f32 {
        self as f32
    }

    fn to_f64(self) -> f64 {
        self
    }
}

/// A type of stored numbers.
trait StoredElement {
    fn read<W: WideNumber>(bytes: &[u8], big_endian: bool, out: &mut [W]);
    fn write<W: WideNumber>(numbers: &[W], big_endian: bool, out: &mut [u8]);
}

macro_rules! element {
    ($type:ty, $from:ident, |$number:ident| $narrow:expr) => {
        impl StoredElement for $type {
            fn read<W: WideNumber>(bytes: &[u8], big_endian: bool, out: &mut [W]) {
                let elements = bytes.as_chunks::<{ size_of::<$type>() }>().0.iter();
                if big_endian {
                    for (out, element) in out.iter_mut().zip(elements) {
                        *out = W::$from(<$type>::from_be_bytes(*element).into());
                    }
                } else {
                    for (out, element) in out.iter_mut().zip(elements) {
                        *out = W::$from(<$type>::from_le_bytes(*element).into());
                    }
                }
            }

            fn write<W: WideNumber>(numbers: &[W], big_endian: bool, out: &mut [u8]) {
                let elements = out.as_chunks_mut::<{ size_of::<$type>() }>().0.iter_mut();
                if big_endian {
                    for (element, $number) in elements.zip(numbers) {
                        let narrow: $type = $narrow;
                        *element = narrow.to_be_bytes();
                    }
                } else {
                    for (element, $number) in elements.zip(numbers) {
                        let narrow: $type = $narrow;
                        *element = narrow.to_le_bytes();
                    }
                }
            }
        }
    };
}

element!(i8, from_int, |number| number.to_i32() as i8);
element!(i16, from_int, |number| number.to_i32() as i16);
element!(i32, from_int, |number| number.to_i32());
element!(i64, from_int, |number| number.to_i64());
element!(u8, from_int, |number| number.to_i32() as u8);
element!(u16, from_int, |number| number.to_i32() as u16);
element!(u32, from_int, |number| number.to_i64() as u32);
element!(u64, from_uint, |number| number.to_u64());
element!(f16, from_float, |number| number.to_f16());
element!(f32, from_float, |number| number.to_f32());
element!(f64, from_float, |number| number.to_f64());

/// A byte that isn't 0 is true.
struct Bool;

impl StoredElement for Bool {
    fn read<W: WideNumber>(bytes: &[u8], _: bool, out: &mut [W]) {
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = W::from_int(i64::from(*byte != 0));
        }
    }

    fn write<W: WideNumber>(numbers: &[W], _: bool, out: &mut [u8]) {
        for (byte, number) in out.iter_mut().zip(numbers) {
            *byte = u8::from(number.is_true());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{super::codec_cases, *};

    #[test]
    fn spellings_are_those_of_numpy() {
        let spellings = codec_cases::all()["spellings"].as_object().unwrap();
        assert!(spellings.len() > 100);
        for (spelling, canonical) in spellings {
            let format = NumberFormat::parse(spelling);
            let Value::String(canonical) = canonical else {
                assert_eq!(format, None, "{spelling}");
                continue;
            };
            let (order, code) = canonical.split_at(1);
            let (kind, width) = code.split_at(1);
            let kind = match kind {
                "b" => NumberKind::Bool,
                "i" => NumberKind::Int,
                "u" => NumberKind::UInt,
                _ => NumberKind::Float,
            };
            let (width, big_endian) = (width.parse().unwrap(), order == ">");
            assert_eq!(format, Some(NumberFormat { kind, width, big_endian }), "{spelling}");
        }
    }

    #[test]
    fn numbers_one_by_one() {
        let format = |name| NumberFormat::parse(name).unwrap();
        assert_eq!(format(">i2").number(&[0xff, 0xfe]), Some(AnyNumber::Int(-2)));
        assert_eq!(format("<u8").number(&[255; 8]), Some(AnyNumber::UInt(u64::MAX)));
        assert_eq!(format("<f2").number(&[0, 0x3c]), Some(AnyNumber::Float(1.0)));
        assert_eq!(format("?").number(&[7]), Some(AnyNumber::Int(1)));
        assert_eq!(format("<f2").number(&[0]), None);
        assert_eq!(format("<f2").number(&[0; 3]), None);
    }

    proptest! {
        #[test]
        fn half_precision_is_rounded_once(bits in any::<u16>(), beyond in -3..4_i64) {
            // The middle between two numbers of half precision, and what is closest to it.
            let low = f16::from_bits(bits & 0x7fff);
            let high = f16::from_bits((bits & 0x7fff) + 1);
            prop_assume!(high.is_finite());
            let middle = (low.to_f64() + high.to_f64()) / 2.0;
            let number = f64::from_bits(middle.to_bits().wrapping_add_signed(beyond));
            let expected = match beyond {
                0 => if low.to_bits() & 1 == 0 { low } else { high },
                1.. => high,
                _ => low,
            };
            prop_assert_eq!(number.to_f16(), expected);
            prop_assert_eq!((-number).to_f16(), -expected);
        }
    }
}
