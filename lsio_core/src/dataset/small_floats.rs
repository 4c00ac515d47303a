//! Floats of small formats outside of IEEE 754, widened to single precision, which holds all their values exactly.

use half::bf16;

/// A format of floats in one or two bytes.
///
/// Names are from `ml_dtypes` and Zarr's registered extensions: `e` and `m` precede the bits of exponent and mantissa,
/// `b` the bias of the exponent. `fn` means no infinity; `uz` means no negative zero, whose bits are NaN instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SmallFloat {
    /// `bfloat16`: the upper half of single precision.
    Bfloat16,
    /// The formats of one byte.
    Byte(ByteFloat),
}

/// A format of floats in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteFloat {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    signed: bool,
    special: Special,
}

/// The bit patterns of NaN and infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// The greatest exponent means infinity or NaN, as in IEEE 754.
    Ieee,
    /// All bits of exponent and mantissa set mean NaN. No infinity.
    AllOnes,
    /// The bits of negative zero mean NaN. No infinity.
    NegativeZero,
    /// Neither NaN nor infinity.
    Nothing,
}

impl SmallFloat {
    /// The format of a name. `None` for unknown names.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let byte = |exponent, mantissa, bias, special| {
            Self::Byte(ByteFloat { exponent, mantissa, bias, signed: true, special })
        };
        Some(match name {
            "bfloat16" => Self::Bfloat16,
            "float8_e3m4" => byte(3, 4, 3, Special::Ieee),
            "float8_e4m3" => byte(4, 3, 7, Special::Ieee),
            "float8_e4m3b11fnuz" => byte(4, 3, 11, Special::NegativeZero),
            "float8_e4m3fn" => byte(4, 3, 7, Special::AllOnes),
            "float8_e4m3fnuz" => byte(4, 3, 8, Special::NegativeZero),
            "float8_e5m2" => byte(5, 2, 15, Special::Ieee),
            "float8_e5m2fnuz" => byte(5, 2, 16, Special::NegativeZero),
            "float8_e8m0fnu" => Self::Byte(ByteFloat {
                exponent: 8,
                mantissa: 0,
                bias: 127,
                signed: false,
                special: Special::AllOnes,
            }),
            "float6_e2m3fn" => byte(2, 3, 1, Special::Nothing),
            "float6_e3m2fn" => byte(3, 2, 3, Special::Nothing),
            "float4_e2m1fn" => byte(2, 1, 1, Special::Nothing),
            _ => return None,
        })
    }

    /// The size of an element in bytes.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bfloat16 => 2,
            Self::Byte(_) => 1,
        }
    }

    /// Widens elements, which must be in native byte order.
    pub(crate) fn widen(self, elements: &[u8]) -> Vec<f32> {
        match self {
            Self::Bfloat16 => {
                let (elements, _) = elements.as_chunks::<2>();
                elements.iter().map(|bytes| bf16::from_ne_bytes(*bytes).to_f32()).collect()
            }
            Self::Byte(format) => {
                let values: Vec<f32> = (0..=u8::MAX).map(|bits| format.value(bits)).collect();
                elements.iter().map(|&bits| values[usize::from(bits)]).collect()
            }
        }
    }
}

impl ByteFloat {
    fn value(self, bits: u8) -> f32 {
        let bits =
            u32::from(bits) & ((1 << (self.exponent + self.mantissa + u32::from(self.signed))) - 1);
        let fraction = bits & ((1 << self.mantissa) - 1);
        let greatest = (1 << self.exponent) - 1;
        let exponent = bits >> self.mantissa & greatest;
        let negative = self.signed && bits >> (self.exponent + self.mantissa) == 1;
        let all_ones = exponent == greatest && fraction == (1 << self.mantissa) - 1;
        let magnitude = match self.special {
            Special::Ieee if exponent == greatest => {
                if fraction == 0 {
                    f32::INFINITY
                } else {
                    f32::NAN
                }
            }
            Special::AllOnes if all_ones => f32::NAN,
            Special::NegativeZero if negative && exponent == 0 && fraction == 0 => f32::NAN,
            _ => {
                #[expect(clippy::cast_precision_loss, reason = "a few bits")]
                let fraction = fraction as f32 / (1_u32 << self.mantissa) as f32;
                #[expect(clippy::cast_possible_wrap, reason = "a few bits")]
                let exponent = exponent as i32;
                // A format without a mantissa has no subnormals.
                if exponent == 0 && self.mantissa > 0 {
                    fraction * 2_f32.powi(1 - self.bias)
                } else {
                    (1.0 + fraction) * 2_f32.powi(exponent - self.bias)
                }
            }
        };
        if negative { -magnitude } else { magnitude }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by ml_dtypes 0.6.
    #[test]
    fn values_are_those_of_ml_dtypes() {
        for (name, bits, expected) in [
            ("float8_e4m3fn", 0x7e, 448.0),
            ("float8_e4m3fn", 0x01, 0.001_953_125),
            ("float8_e4m3fn", 0xb8, -1.0),
            ("float8_e4m3fn", 0x7f, f32::NAN),
            ("float8_e5m2", 0x7b, 57344.0),
            ("float8_e5m2", 0x7c, f32::INFINITY),
            ("float8_e5m2", 0xfd, f32::NAN),
            ("float8_e5m2fnuz", 0x80, f32::NAN),
            ("float8_e5m2fnuz", 0x7f, 57344.0),
            ("float8_e4m3fnuz", 0x7f, 240.0),
            ("float8_e4m3b11fnuz", 0x7f, 30.0),
            ("float8_e3m4", 0x6f, 15.5),
            ("float8_e8m0fnu", 0x00, 2_f32.powi(-127)),
            ("float8_e8m0fnu", 0x7f, 1.0),
            ("float8_e8m0fnu", 0xff, f32::NAN),
            ("float6_e2m3fn", 0x1f, 7.5),
            ("float6_e3m2fn", 0x3f, -28.0),
            ("float4_e2m1fn", 0x07, 6.0),
        ] {
            let value = SmallFloat::from_name(name).unwrap().widen(&[bits])[0];
            assert!(
                value == expected || (value.is_nan() && expected.is_nan()),
                "{name} {bits:#x} {value}"
            );
        }
        let bfloat = SmallFloat::from_name("bfloat16").unwrap();
        assert_eq!(bfloat.widen(&0x3fc0_u16.to_ne_bytes()), [1.5]);
    }
}
