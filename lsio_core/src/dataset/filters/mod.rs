//! The filters of numcodecs, undone: what they made of an array's elements before those were compressed.
//!
//! The semantics are those of numcodecs with numpy 2 to the last bit, but for the sign of what is not a
//! number, which processors choose. More or fewer bytes than a filter makes are always an error.

use self::delta::{accumulate, differences};
use super::{
    number_format::{NumberFormat, NumberKind, WideNumber, WideType},
    shuffle::{shuffle, unshuffle},
};

mod categorize;
mod delta;

pub(crate) use self::categorize::Categorize;

/// The numbers that are converted at a time: few enough to stay in the fastest cache.
const BLOCK: usize = 256;

/// A filter whose decoded bytes are numbers of one width.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    /// Differences to the number before.
    Delta { dtype: NumberFormat, astype: NumberFormat },
    /// `encoded / scale + offset`
    FixedScaleOffset { offset: f64, scale: f64, dtype: NumberFormat, astype: NumberFormat },
    /// Floats that were rounded.
    Quantize { dtype: NumberFormat, astype: NumberFormat },
    /// Numbers of another type.
    AsType { encode_dtype: NumberFormat, decode_dtype: NumberFormat },
    /// Floats that were rounded, bit by bit.
    BitRound,
    /// Bools as bits, the highest first, behind a byte that says how many of the last ones are none.
    PackBits,
    /// All first bytes of elements, then all second ones, ….
    Shuffle { elementsize: usize },
}

impl Filter {
    /// The bytes that it makes of so many decoded ones, if those are whole elements.
    pub(super) fn encoded_len(&self, decoded_len: usize) -> Option<usize> {
        match self {
            Self::Delta { dtype: decoded, astype: encoded }
            | Self::FixedScaleOffset { dtype: decoded, astype: encoded, .. }
            | Self::Quantize { dtype: decoded, astype: encoded }
            | Self::AsType { decode_dtype: decoded, encode_dtype: encoded } => {
                whole(decoded_len, decoded.width)?.checked_mul(encoded.width)
            }
            Self::BitRound => Some(decoded_len),
            Self::PackBits => decoded_len.div_ceil(8).checked_add(1),
            Self::Shuffle { elementsize } => whole(decoded_len, *elementsize).map(|_| decoded_len),
        }
    }

    /// Decodes what comes to exactly `out.len()` bytes, in the order of bytes that the type names.
    ///
    /// # Errors
    /// A text, if there are more or fewer bytes than that.
    pub(super) fn decode(&self, encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
        if self.encoded_len(out.len()) != Some(encoded.len()) {
            let (found, expected) = (encoded.len(), out.len());
            return Err(format!("{self:?} doesn't make {found} bytes of {expected}"));
        }
        match self {
            Self::Delta { dtype, astype } => accumulate(astype, encoded, dtype, out),
            Self::FixedScaleOffset { offset, scale, dtype, astype } => {
                scale_and_offset(*offset, *scale, astype, encoded, dtype, out);
            }
            Self::Quantize { dtype: to, astype: from }
            | Self::AsType { decode_dtype: to, encode_dtype: from } => {
                convert(from, encoded, to, out);
            }
            Self::BitRound => out.copy_from_slice(encoded),
            Self::PackBits => unpack_bits(encoded, out)?,
            // There may be fewer bytes than an element is said to have: none.
            Self::Shuffle { elementsize } if *elementsize == 1 || out.is_empty() => {
                out.copy_from_slice(encoded);
            }
            Self::Shuffle { elementsize } => unshuffle(encoded, *elementsize, 0, out),
        }
        Ok(())
    }

    /// Encodes decoded bytes, for the filters that lose nothing.
    ///
    /// # Errors
    /// A text, if the bytes aren't whole elements, or the filter can't be written.
    pub(super) fn encode(&self, decoded: &[u8]) -> Result<Vec<u8>, String> {
        let len = self
            .encoded_len(decoded.len())
            .ok_or_else(|| format!("{self:?} can't encode {} bytes", decoded.len()))?;
        let mut out = vec![0; len];
        match self {
            Self::Delta { dtype, astype } => differences(dtype, decoded, astype, &mut out)?,
            Self::AsType { decode_dtype, encode_dtype } => {
                convert(decode_dtype, decoded, encode_dtype, &mut out);
            }
            Self::PackBits => pack_bits(decoded, &mut out),
            Self::Shuffle { elementsize } if *elementsize > 1 => {
                out = shuffle(decoded, *elementsize);
            }
            Self::Shuffle { .. } => out.copy_from_slice(decoded),
            Self::FixedScaleOffset { .. } | Self::Quantize { .. } | Self::BitRound => {
                return Err(format!("{self:?} rounds numbers, and can't be written"));
            }
        }
        Ok(out)
    }
}

/// How often a width goes into a length, if nothing is left.
fn whole(len: usize, width: usize) -> Option<usize> {
    (len.checked_rem(width)? == 0).then(|| len / width)
}

/// Converts numbers as numpy's `astype` does.
fn convert(from: &NumberFormat, encoded: &[u8], to: &NumberFormat, out: &mut [u8]) {
    match from.wide() {
        _ if from == to && from.kind != NumberKind::Bool => out.copy_from_slice(encoded),
        WideType::Int => in_blocks::<i64>(from, encoded, to, out, |_| {}),
        WideType::UInt => in_blocks::<u64>(from, encoded, to, out, |_| {}),
        WideType::Float => in_blocks::<f64>(from, encoded, to, out, |_| {}),
    }
}

/// Computes with as many bits as numpy does: those of the encoded floats, or 64 for integers.
fn scale_and_offset(
    offset: f64,
    scale: f64,
    from: &NumberFormat,
    encoded: &[u8],
    to: &NumberFormat,
    out: &mut [u8],
) {
    match (from.kind, from.width) {
        (NumberKind::Float, 2) => {
            let (scale, offset) = (scale.to_f16(), offset.to_f16());
            in_blocks::<f64>(from, encoded, to, out, |numbers| {
                for number in numbers {
                    *number = (number.to_f16() / scale + offset).to_f64();
                }
            });
        }
        (NumberKind::Float, 4) => {
            let (scale, offset) = (scale as f32, offset as f32);
            in_blocks::<f64>(from, encoded, to, out, |numbers| {
                for number in numbers {
                    *number = f64::from(*number as f32 / scale + offset);
                }
            });
        }
        _ => in_blocks::<f64>(from, encoded, to, out, |numbers| {
            for number in numbers {
                *number = *number / scale + offset;
            }
        }),
    }
}

/// Reads numbers, changes them, and writes them.
fn in_blocks<W: WideNumber>(
    from: &NumberFormat,
    encoded: &[u8],
    to: &NumberFormat,
    out: &mut [u8],
    mut change: impl FnMut(&mut [W]),
) {
    let (from_width, to_width) = (from.width.max(1), to.width.max(1));
    let mut block = [W::default(); BLOCK];
    let outs = out.chunks_mut(BLOCK * to_width);
    for (encoded, out) in encoded.chunks(BLOCK * from_width).zip(outs) {
        let numbers = &mut block[..encoded.len() / from_width];
        from.read(encoded, numbers);
        change(numbers);
        to.write(numbers, out);
    }
}

fn unpack_bits(encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    let (padding, packed) = encoded.split_first().ok_or("packed bits lack their first byte")?;
    let expected = packed.len() * 8 - out.len();
    if usize::from(*padding) != expected {
        return Err(format!("{padding} of the packed bits are padding instead of {expected}"));
    }
    for (bools, byte) in out.chunks_mut(8).zip(packed) {
        for (number, bool) in bools.iter_mut().enumerate() {
            *bool = byte >> (7 - number) & 1;
        }
    }
    Ok(())
}

/// The inverse of [`unpack_bits`]: `out` has room for just as many bits, behind a byte.
fn pack_bits(bools: &[u8], out: &mut [u8]) {
    let Some((padding, packed)) = out.split_first_mut() else { return };
    *padding = (packed.len() * 8 - bools.len()).to_le_bytes()[0];
    for (bools, byte) in bools.chunks(8).zip(packed) {
        let bits = bools.iter().enumerate();
        *byte = bits.fold(0, |byte, (number, bool)| byte | u8::from(*bool != 0) << (7 - number));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::{
        super::{codec_cases, number_format::AnyNumber},
        *,
    };

    const IDS: [&str; 7] =
        ["delta", "fixedscaleoffset", "quantize", "astype", "bitround", "packbits", "shuffle"];

    fn of(id: &str, configuration: &Value) -> Result<Filter, String> {
        Filter::of(id, configuration.as_object().unwrap()).unwrap()
    }

    /// Makes one of all that is not a number: processors choose its sign.
    fn one_nan(filter: &Filter, mut decoded: Vec<u8>) -> Vec<u8> {
        let (Filter::Delta { dtype, .. }
        | Filter::FixedScaleOffset { dtype, .. }
        | Filter::Quantize { dtype, .. }
        | Filter::AsType { decode_dtype: dtype, .. }) = filter
        else {
            return decoded;
        };
        for bytes in decoded.chunks_exact_mut(dtype.width) {
            if matches!(dtype.number(bytes), Some(AnyNumber::Float(number)) if number.is_nan()) {
                dtype.write(&[f64::NAN], bytes);
            }
        }
        decoded
    }

    #[test]
    fn numbers_are_those_of_numcodecs() {
        let mut encoded_again = 0;
        for case in codec_cases::of(&IDS) {
            let filter = Filter::of(case.codec, case.configuration).unwrap().unwrap();
            let prefixed = format!("numcodecs.{}", case.codec);
            assert_eq!(Filter::of(&prefixed, case.configuration), Some(Ok(filter.clone())));
            let decoded = case.decoded();
            assert_eq!(filter.encoded_len(decoded.len()), Some(case.encoded.len()), "{case}");
            let mut out = vec![0xa5; decoded.len()];
            assert_eq!(filter.decode(&case.encoded, &mut out), Ok(()), "{case}");
            assert_eq!(one_nan(&filter, out.clone()), one_nan(&filter, decoded), "{case}");

            // What can be written is what numcodecs writes, where the cases are what it wrote.
            let is_written = match &filter {
                Filter::Delta { dtype, astype } => dtype == astype,
                Filter::PackBits | Filter::Shuffle { .. } => true,
                _ => false,
            };
            if is_written && let Ok(encoded) = filter.encode(&out) {
                assert_eq!(encoded, case.encoded, "{case}");
                encoded_again += 1;
            }

            // Anything else than just as many bytes is an error.
            let longer = [&case.encoded[..], &[0; 9]].concat();
            for len in (0..longer.len()).filter(|len| *len != case.encoded.len()) {
                assert!(filter.decode(&longer[..len], &mut out).is_err(), "{case} {len}");
            }
        }
        assert!(encoded_again > 20, "{encoded_again}");
    }

    #[test]
    fn blocks_go_on_from_one_to_the_next() {
        let filter = of("delta", &json!({"dtype": ">i4", "astype": "i1"})).unwrap();
        let encoded: Vec<u8> = (0..1000).map(|i| (i * 7 % 11) as u8).collect();
        let mut out = vec![0; 4000];
        assert_eq!(filter.decode(&encoded, &mut out), Ok(()));
        let mut sum = 0;
        for (number, (byte, out)) in encoded.iter().zip(out.as_chunks().0).enumerate() {
            sum += i32::from(*byte);
            assert_eq!(i32::from_be_bytes(*out), sum, "{number}");
        }
        let filter = of("astype", &json!({"encode_dtype": "u2", "decode_dtype": "f8"})).unwrap();
        let encoded: Vec<u8> = (0..1000_u16).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![0; 8000];
        assert_eq!(filter.decode(&encoded, &mut out), Ok(()));
        for (number, out) in out.as_chunks().0.iter().enumerate() {
            assert_eq!(f64::from_le_bytes(*out), number as f64);
        }
    }

    #[test]
    fn configurations_are_checked() {
        assert_eq!(Filter::of("zlib", &Map::new()), None);
        assert_eq!(of("shuffle", &json!({})), Ok(Filter::Shuffle { elementsize: 4 }));
        assert_eq!(
            of("shuffle", &json!({"elementsize": 0})),
            Ok(Filter::Shuffle { elementsize: 1 })
        );
        for (id, configuration) in [
            ("delta", json!({})),
            ("delta", json!({"dtype": "<M8[ns]"})),
            ("delta", json!({"dtype": "?"})),
            ("delta", json!({"dtype": "<i2", "astype": 3})),
            ("quantize", json!({"dtype": "<i2", "digits": 1})),
            ("quantize", json!({"dtype": "<f2", "astype": "<i2", "digits": 1})),
            ("astype", json!({"encode_dtype": "<i2"})),
            ("astype", json!({"encode_dtype": "O", "decode_dtype": "<i2"})),
            ("fixedscaleoffset", json!({"dtype": "<f4", "scale": 10})),
            ("fixedscaleoffset", json!({"dtype": "<f4", "scale": "10", "offset": 0})),
            ("packbits", json!({"padding_encoding": "last_byte"})),
            ("shuffle", json!({"elementsize": -4})),
            ("shuffle", json!({"elementsize": null})),
        ] {
            let error = of(id, &configuration).unwrap_err();
            assert!(error.starts_with(&format!("the filter '{id}'")), "{error}");
        }
    }

    #[test]
    fn lengths_that_no_array_has() {
        let delta = of("delta", &json!({"dtype": "i2", "astype": "i8"})).unwrap();
        assert_eq!(delta.encoded_len(6), Some(24));
        assert_eq!(delta.encoded_len(7), None);
        assert_eq!(delta.encoded_len(usize::MAX - 1), None);
        assert_eq!(Filter::PackBits.encoded_len(9), Some(3));
        assert_eq!(Filter::PackBits.encoded_len(0), Some(1));
        let shuffle = Filter::Shuffle { elementsize: 8 };
        assert_eq!((shuffle.encoded_len(16), shuffle.encoded_len(15)), (Some(16), None));
        let huge = Filter::Shuffle { elementsize: usize::MAX };
        assert_eq!(huge.decode(&[], &mut []), Ok(()));
        assert!(huge.decode(&[0], &mut [0]).is_err());
        for padding in 0..=255 {
            let decoded = Filter::PackBits.decode(&[padding, 0x80], &mut [2; 5]);
            assert_eq!(decoded.is_ok(), padding == 3);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(
            which in 0..1000_usize,
            encoded in prop::collection::vec(any::<u8>(), 0..80),
            len in 0..80_usize,
        ) {
            let cases = codec_cases::of(&IDS);
            let case = &cases[which % cases.len()];
            let filter = Filter::of(case.codec, case.configuration).unwrap().unwrap();
            let mut out = vec![0; len];
            let fits = filter.encoded_len(len) == Some(encoded.len());
            let decoded = filter.decode(&encoded, &mut out);
            prop_assert!(decoded.is_err() || fits);
            prop_assert!(decoded.is_ok() || !fits || filter == Filter::PackBits);
        }

        #[test]
        fn what_is_encoded_comes_back(
            bytes in prop::collection::vec(any::<u8>(), 0..3_000),
            elementsize in 1..17_usize,
            dtype in prop::sample::select(vec!["<i1", ">i2", "<u4", ">i4", "<i8", ">u8"]),
        ) {
            let bools: Vec<u8> = bytes.iter().map(|byte| byte & 1).collect();
            let numbers = NumberFormat::parse(dtype).unwrap();
            let whole = |width: usize| &bytes[..bytes.len() / width * width];
            let wide = NumberFormat::parse(if dtype == ">u8" { "<u8" } else { "<i8" }).unwrap();
            for (filter, decoded) in [
                (Filter::PackBits, &bools[..]),
                (Filter::Shuffle { elementsize }, whole(elementsize)),
                (Filter::Delta { dtype: numbers, astype: numbers }, whole(numbers.width)),
                (Filter::Delta { dtype: numbers, astype: wide }, whole(numbers.width)),
                (Filter::AsType { decode_dtype: numbers, encode_dtype: wide }, whole(numbers.width)),
            ] {
                let encoded = filter.encode(decoded).unwrap();
                let mut out = vec![0xa5; decoded.len()];
                prop_assert_eq!(filter.decode(&encoded, &mut out), Ok(()));
                prop_assert_eq!(&out[..], decoded, "{:?}", filter);
            }
        }
    }
}
