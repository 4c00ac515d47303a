//! Codecs that only zarrs knows, which gets bytes and never a store.

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

/// What checksums and the like may add to the elements' bytes.
const OVERHEAD_BYTES: usize = 1_024;

/// The codecs of a chunk as zarrs runs them.
#[derive(Debug)]
pub(super) struct ZarrsChain {
    array: Array<()>,
    codecs: Arc<CodecChain>,
    /// The outermost codecs, which are undone here, the last first.
    peeled: Vec<Compressor>,
    width: usize,
    options: CodecOptions,
}

/// The codecs of an array as zarrs reads them.
#[derive(Clone, Debug)]
pub(crate) struct ForeignCodecs {
    /// The array that has them; or why zarrs can't use its metadata.
    pub(crate) array: Result<ArrayMetadata, String>,
    /// Whether the codecs of a chunk are those inside shards.
    pub(crate) sharded: bool,
    /// The codecs inside shards, if the array's first codec makes such.
    pub(crate) inner: Option<Vec<MetadataV3>>,
}

impl ZarrsChain {
    /// The codecs of an array, or those inside its shards.
    ///
    /// # Errors
    /// A text that names what zarrs can't use.
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
                // A dimension may have been left out.
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
        // It has no bounds for what compressed bytes claim, and shards need the array's fill value.
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
        // Decoding runs inside the query's own threads; zarrs must not start others.
        let mut options = CodecOptions::default();
        options.set_concurrent_target(1);
        options.set_chunk_concurrent_minimum(1);
        Ok(Self { array, codecs, peeled, width, options })
    }

    /// Decodes a chunk of this shape.
    ///
    /// # Errors
    /// A text that says what is wrong with the bytes.
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
        // Some codecs index their input without checking it. They hold no state that a panic could
        // leave broken.
        let decoded = catch_unwind(AssertUnwindSafe(decode))
            .map_err(|_| "the bytes are corrupt: the codec gave up".to_owned())?
            .map_err(|e| e.to_string())?;
        let buffer = match decoded {
            // Nothing was left to decode: the bytes are used where they are.
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

/// Takes the outermost compressors off a list of codecs; the outermost comes first.
///
/// A compressed chunk may claim, or turn out, to be of any size. zarrs would allocate all of it; so they are undone
/// here first.
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
