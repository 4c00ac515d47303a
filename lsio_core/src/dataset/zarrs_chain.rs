//! Codecs that only the crate zarrs knows. zarrs gets the bytes of chunks, never a store.

use std::{
    borrow::Cow,
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::buffer::Buffer;
use bytes::Bytes;
use zarrs::{
    array::{
        Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits as _, CodecChain, CodecOptions,
    },
    metadata::v3::MetadataV3,
};

use super::{compression::Compressor, decoding::StoredValues, dtype::ElementType, layout::Layout};
use crate::grid::checked_product;

/// The bytes that codecs such as checksums may add to the elements' bytes.
const OVERHEAD_BYTES: usize = 1_024;

/// The codecs of a chunk as zarrs runs them.
#[derive(Debug)]
pub(super) struct ZarrsChain {
    array: Array<()>,
    codecs: Arc<CodecChain>,
    /// The outermost compressors, which are decoded here, in the order of decoding.
    peeled: Vec<Compressor>,
    width: usize,
    options: CodecOptions,
}

/// The codecs of an array in the form that zarrs reads.
#[derive(Clone, Debug)]
pub(crate) struct ForeignCodecs {
    /// The array's metadata, or the reason why zarrs can't use them.
    pub(crate) array: Result<ArrayMetadata, String>,
    /// Whether the array is sharded, so that the inner codecs decode a chunk.
    pub(crate) sharded: bool,
    /// The inner codecs, if the array's first codec makes shards.
    pub(crate) inner: Option<Vec<MetadataV3>>,
}

impl ZarrsChain {
    /// Makes the codecs of an array, or of the inner chunks if the array is sharded.
    ///
    /// # Errors
    /// A message that names the part that zarrs can't use.
    pub(super) fn new(
        foreign: &ForeignCodecs,
        layout: &Layout,
        element: &ElementType,
    ) -> Result<Self, String> {
        let sharded = foreign.sharded;
        let Some(width) = element.size() else {
            return Err("it isn't known for strings and other elements of any length".to_owned());
        };
        let mut metadata = foreign.array.clone()?;
        let inner = foreign.inner.clone().filter(|_| sharded);
        let (inner, peeled) = match (inner, &mut metadata) {
            (Some(mut inner), _) => {
                let peeled = peel(&mut inner);
                (Some(inner), peeled)
            }
            (None, ArrayMetadata::V3(metadata)) if !sharded => (None, peel(&mut metadata.codecs)),
            (None, ArrayMetadata::V3(_)) => (None, Vec::new()),
            (None, ArrayMetadata::V2(metadata)) => {
                // The layout may lack a dimension of the metadata.
                metadata.shape.clone_from(&layout.shape);
                metadata.chunks =
                    layout.chunks.iter().copied().filter_map(NonZeroU64::new).collect();
                let own = metadata.compressor.as_ref().and_then(|c| Compressor::of(c.id()));
                if own.is_some() {
                    metadata.compressor = None;
                }
                (None, own.into_iter().collect())
            }
        };
        // zarrs doesn't bound the sizes that compressed bytes claim, and shards need the array's fill value.
        let left = match (&inner, &metadata) {
            (Some(inner), _) => inner.as_slice(),
            (None, ArrayMetadata::V3(metadata)) => metadata.codecs.as_slice(),
            (None, ArrayMetadata::V2(_)) => &[],
        };
        if let Some(codec) = left.iter().find(|codec| unbounded(codec.name())) {
            let name = codec.name();
            return Err(format!("it can't be combined with the codec '{name}' in this way"));
        }
        let array =
            Array::new_with_metadata(Arc::new(()), "/", metadata).map_err(|e| e.to_string())?;
        let codecs = match inner {
            Some(inner) => Arc::new(CodecChain::from_metadata(&inner).map_err(|e| e.to_string())?),
            None => array.codecs(),
        };
        // Decoding runs in the query's own threads; zarrs must not start others.
        let mut options = CodecOptions::default();
        options.set_concurrent_target(1);
        options.set_chunk_concurrent_minimum(1);
        Ok(Self { array, codecs, peeled, width, options })
    }

    /// Decodes a chunk of this shape.
    ///
    /// # Errors
    /// A message that says what is wrong with the bytes.
    pub(super) fn decode(&self, encoded: &Bytes, shape: &[u64]) -> Result<StoredValues, String> {
        let cells = checked_product(shape).and_then(|cells| usize::try_from(cells).ok());
        let len = cells.and_then(|cells| cells.checked_mul(self.width));
        let len = len.ok_or("its shape is too large")?;
        let mut encoded = encoded.clone();
        for compressor in &self.peeled {
            encoded = compressor.decompress(&encoded, len.saturating_add(OVERHEAD_BYTES))?;
        }
        let shape: Vec<NonZeroU64> = shape
            .iter()
            .map(|&size| NonZeroU64::new(size).ok_or("a chunk has a size of 0"))
            .collect::<Result<_, _>>()?;
        let decode = || {
            self.codecs.decode(
                Cow::Borrowed(encoded.as_ref()),
                &shape,
                self.array.data_type(),
                self.array.fill_value(),
                &self.options,
            )
        };
        // Some codecs index their input without checks, and panic. They hold no state that a panic could leave broken.
        let decoded = catch_unwind(AssertUnwindSafe(decode))
            .map_err(|_| "the bytes are corrupt: the codec gave up".to_owned())?
            .map_err(|e| e.to_string())?;
        let buffer = match decoded {
            // No codec was left: the bytes are used without a copy.
            ArrayBytes::Fixed(Cow::Borrowed(_)) => Buffer::from(encoded.clone()),
            ArrayBytes::Fixed(Cow::Owned(bytes)) => Buffer::from_vec(bytes),
            _ => return Err("it holds elements of another kind than its data type says".to_owned()),
        };
        if buffer.len() != len {
            return Err(format!("it holds {} bytes instead of {len}", buffer.len()));
        }
        Ok(StoredValues::Fixed(buffer))
    }
}

/// Removes the outermost compressors from a list of codecs, and returns them in the order of decoding.
///
/// A compressed chunk may claim or have any decompressed size, and zarrs would allocate all of it. So compressors are
/// decoded here first, with a bound.
fn peel(codecs: &mut Vec<MetadataV3>) -> Vec<Compressor> {
    let mut peeled = Vec::new();
    while let Some(compressor) = codecs.last().and_then(|codec| Compressor::of(codec.name())) {
        peeled.push(compressor);
        codecs.pop();
    }
    peeled
}

fn unbounded(codec: &str) -> bool {
    codec == "sharding_indexed" || Compressor::of(codec).is_some()
}
