//! Pcodec, a compressor for numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::buffer::Buffer;
use half::f16;
use pco::{
    ChunkConfig,
    data_types::Number,
    standalone::{simple_compress, simple_decompress_into},
};

use super::dtype::ElementType;

/// The types of numbers that Pcodec compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pcodec {
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float16,
    Float32,
    Float64,
}

impl Pcodec {
    /// The type of numbers for an element type. `None` if Pcodec can't compress such elements.
    pub(super) fn of(element: &ElementType) -> Option<Self> {
        Some(match element {
            ElementType::Int8 => Self::Int8,
            ElementType::Int16 => Self::Int16,
            ElementType::Int32 => Self::Int32,
            ElementType::Int64 | ElementType::DateTime64(_) | ElementType::TimeDelta64(_) => {
                Self::Int64
            }
            ElementType::UInt8 => Self::UInt8,
            ElementType::UInt16 => Self::UInt16,
            ElementType::UInt32 => Self::UInt32,
            ElementType::UInt64 => Self::UInt64,
            ElementType::Float16 => Self::Float16,
            ElementType::Float32 => Self::Float32,
            ElementType::Float64 => Self::Float64,
            ElementType::Complex(part) => Self::of(part)?,
            _ => return None,
        })
    }

    /// Decompresses to exactly `len` bytes, in native byte order.
    ///
    /// # Errors
    /// A message, if the bytes are corrupt or decompress to another length.
    pub(super) fn decompress(self, encoded: &[u8], len: usize) -> Result<Buffer, String> {
        match self {
            Self::Int8 => numbers::<i8>(encoded, len),
            Self::Int16 => numbers::<i16>(encoded, len),
            Self::Int32 => numbers::<i32>(encoded, len),
            Self::Int64 => numbers::<i64>(encoded, len),
            Self::UInt8 => numbers::<u8>(encoded, len),
            Self::UInt16 => numbers::<u16>(encoded, len),
            Self::UInt32 => numbers::<u32>(encoded, len),
            Self::UInt64 => numbers::<u64>(encoded, len),
            Self::Float16 => numbers::<f16>(encoded, len),
            Self::Float32 => numbers::<f32>(encoded, len),
            Self::Float64 => numbers::<f64>(encoded, len),
        }
        .map_err(|reason| format!("Pcodec: {reason}"))
    }

    /// Compresses numbers in native byte order.
    ///
    /// # Errors
    /// A message, if the bytes aren't whole numbers, or too many.
    pub(super) fn compress(self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Int8 => compressed::<i8>(bytes),
            Self::Int16 => compressed::<i16>(bytes),
            Self::Int32 => compressed::<i32>(bytes),
            Self::Int64 => compressed::<i64>(bytes),
            Self::UInt8 => compressed::<u8>(bytes),
            Self::UInt16 => compressed::<u16>(bytes),
            Self::UInt32 => compressed::<u32>(bytes),
            Self::UInt64 => compressed::<u64>(bytes),
            Self::Float16 => compressed::<f16>(bytes),
            Self::Float32 => compressed::<f32>(bytes),
            Self::Float64 => compressed::<f64>(bytes),
        }
        .map_err(|reason| format!("Pcodec: {reason}"))
    }
}

fn compressed<T: Number + arrow::datatypes::ArrowNativeType>(
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let width = size_of::<T>();
    if !bytes.len().is_multiple_of(width) {
        return Err(format!("{} bytes aren't whole numbers of {width}", bytes.len()));
    }
    // Copies the bytes to memory that is aligned for the numbers.
    let numbers = Buffer::from_slice_ref(bytes);
    // pco refuses 8-bit numbers by default; metadata that name Pcodec for them are deliberate.
    let config = ChunkConfig::default().with_enable_8_bit(true);
    simple_compress(numbers.typed_data::<T>(), &config).map_err(|e| e.to_string())
}

fn numbers<T: Number + arrow::datatypes::ArrowNativeType>(
    encoded: &[u8],
    len: usize,
) -> Result<Buffer, String> {
    let wanted = len / size_of::<T>();
    // The library's own allocation would trust the count that the bytes claim. Room for one number more than wanted
    // shows whether there are too many.
    let mut numbers = vec![<T as Default>::default(); wanted + 1];
    let decompress = || simple_decompress_into(encoded, &mut numbers);
    // The decoder holds no state that a panic could leave broken.
    let progress = catch_unwind(AssertUnwindSafe(decompress))
        .map_err(|_| "the bytes are corrupt: the codec gave up".to_owned())?
        .map_err(|e| e.to_string())?;
    if progress.n_processed != wanted || !progress.finished {
        let count = progress.n_processed;
        return Err(format!("it holds {count} numbers or more instead of {wanted}"));
    }
    numbers.truncate(wanted);
    Ok(Buffer::from_vec(numbers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_come_back_and_sizes_are_checked() {
        for count in [0_usize, 1, 255, 256, 257, 5_000] {
            let numbers: Vec<i32> = (0..count).map(|i| (i * i) as i32 - 7).collect();
            let bytes = Buffer::from_slice_ref(&numbers);
            let encoded = Pcodec::Int32.compress(&bytes).unwrap();
            assert_eq!(encoded, simple_compress(&numbers, &ChunkConfig::default()).unwrap());
            let decoded = Pcodec::Int32.decompress(&encoded, count * 4).unwrap();
            assert_eq!(decoded.typed_data::<i32>(), numbers);
            assert!(Pcodec::Int32.decompress(&encoded, count * 4 + 4).is_err(), "{count}");
            if count > 0 {
                assert!(Pcodec::Int32.decompress(&encoded, count * 4 - 4).is_err(), "{count}");
                assert!(Pcodec::Float32.decompress(&encoded, count * 4).is_err());
                assert!(
                    Pcodec::Int32.decompress(&encoded[..encoded.len() - 1], count * 4).is_err()
                );
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..4_000)) {
            for (pcodec, width) in [
                (Pcodec::Int8, 1),
                (Pcodec::UInt8, 1),
                (Pcodec::Int16, 2),
                (Pcodec::UInt16, 2),
                (Pcodec::Float16, 2),
                (Pcodec::Int32, 4),
                (Pcodec::UInt32, 4),
                (Pcodec::Float32, 4),
                (Pcodec::Int64, 8),
                (Pcodec::UInt64, 8),
                (Pcodec::Float64, 8),
            ] {
                let bytes = &bytes[..bytes.len() / width * width];
                let encoded = pcodec.compress(bytes).unwrap();
                let decoded = pcodec.decompress(&encoded, bytes.len()).unwrap();
                prop_assert_eq!(decoded.as_slice(), bytes, "{:?}", pcodec);
                prop_assert!(width == 1 || pcodec.compress(&[0]).is_err());
            }
        }
    }
}
