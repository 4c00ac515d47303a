//! Pcodec, a compressor for numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::buffer::Buffer;
use half::f16;
use pco::{data_types::Number, standalone::simple_decompress_into};

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
    use pco::{ChunkConfig, standalone::simple_compress};

    use super::*;

    #[test]
    fn numbers_come_back_and_sizes_are_checked() {
        for count in [0_usize, 1, 255, 256, 257, 5_000] {
            let numbers: Vec<i32> = (0..count).map(|i| (i * i) as i32 - 7).collect();
            let encoded = simple_compress(&numbers, &ChunkConfig::default()).unwrap();
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
}
