//! The typed description of an array: its metadata, parsed once.

use std::sync::Arc;

use super::{
    attributes::{Attribute, Attributes},
    codec_spec::{CodecKind, CodecSpec},
    dtype::ElementType,
    layout::Layout,
    zarrs_chain::ForeignCodecs,
};
use crate::{
    chunks::{ChunkSource, SharedChunkSource, WithoutLast},
    grid::ChunkGrid,
};

/// The description of an array by its format. Exists even if the array can't be read.
#[derive(Clone, Debug)]
pub struct ArraySpec {
    /// The shape and the chunks.
    pub(crate) layout: Layout,
    /// The dimension names that the array stores, one entry per dimension. `None` if the array stores none.
    pub(crate) dims: Option<Vec<Option<String>>>,
    /// The attributes, as stored.
    pub(crate) attributes: Attributes,
    /// The type of the elements. `None` if it isn't supported.
    pub(crate) element: Option<ElementType>,
    /// The encoding of chunks, or the reason why they can't be read.
    pub(crate) encoding: Result<Encoding, String>,
    /// The fill value as an attribute, for use as a mask. `None` for null.
    pub(crate) fill_attribute: Option<Attribute>,
    /// Whether the array is an NCZarr scalar: one dimension of size 1 stands for no dimension.
    pub(crate) is_scalar: bool,
    /// Accepted deviations of the metadata from the format.
    pub(crate) deviations: Vec<String>,
    /// Digest of the document that all of this follows from. `None` if there is none.
    pub(crate) digest: Option<u64>,
}

/// Encoding and location of an array's chunks.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    /// The fill value in bytes, in the representation of a decoded element.
    pub(crate) fill: Vec<u8>,
    /// The grid of the chunks that are decoded one by one: the inner chunks if the array is sharded.
    pub(crate) grid: ChunkGrid,
    /// The source that locates the chunks.
    pub(crate) chunks: SharedChunkSource,
    /// The codecs of an object, in the order of encoding.
    pub(crate) codecs: Vec<CodecSpec>,
    /// Whether the only codec makes shards, whose inner chunks are read one by one.
    pub(crate) sharded: bool,
    /// The codecs in zarrs' form, where a codec isn't known here.
    pub(crate) foreign: Option<Box<ForeignCodecs>>,
}

impl ArraySpec {
    /// The same array with another chunk source. `chunks` locates the chunks of the innermost grid: the inner chunks if
    /// the array is sharded.
    #[must_use]
    pub fn with_chunks(self, chunks: Arc<dyn ChunkSource>) -> Self {
        let encoding = self.encoding.map(|encoding| Encoding { chunks, ..encoding });
        Self { encoding, digest: None, ..self }
    }
}

impl Encoding {
    /// The codecs of a chunk, in the order of encoding: the inner chunks' codecs if the array is sharded.
    pub(crate) fn chunk_codecs(&self) -> &[CodecSpec] {
        match self.codecs.as_slice() {
            [CodecSpec { kind: CodecKind::Shard(shard), .. }] if self.sharded => &shard.codecs,
            codecs => codecs,
        }
    }

    /// The same without the last dimension, which must hold one chunk. `None` if chunks differ in shape.
    pub(crate) fn without_last(&self) -> Option<Self> {
        let grid = self.grid.without_last()?;
        let chunks: SharedChunkSource = Arc::new(WithoutLast(Arc::clone(&self.chunks)));
        Some(Self { grid, chunks, ..self.clone() })
    }
}
