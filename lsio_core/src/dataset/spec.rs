//! An array as typed data: what a format says of it, parsed once.

use std::sync::Arc;

use super::{
    attributes::{Attribute, Attributes},
    codec_spec::{CodecKind, CodecSpec},
    dtype::ElementType,
    layout::Layout,
    zarrs_chain::ForeignCodecs,
};
use crate::{
    chunks::{ChunkSource, Chunks, WithoutLast},
    grid::ChunkGrid,
};

/// An array as its format describes it, whether it can be read or not.
#[derive(Clone, Debug)]
pub struct ArraySpec {
    /// The shape, and how it is divided.
    pub(crate) layout: Layout,
    /// The names of the dimensions, as far as the array says them itself; one for each dimension.
    pub(crate) dims: Option<Vec<Option<String>>>,
    /// The attributes, as stored.
    pub(crate) attributes: Attributes,
    /// The type of the elements, if it is supported.
    pub(crate) element: Option<ElementType>,
    /// How chunks are stored, or why they can't be read.
    pub(crate) encoding: Result<Encoding, String>,
    /// The fill value as an attribute would say it: it may be one that masks. `None` for null.
    pub(crate) fill_attribute: Option<Attribute>,
    /// Whether the only index of its only dimension stands for none: NCZarr's scalars.
    pub(crate) is_scalar: bool,
    /// What was taken though it isn't as the format has it.
    pub(crate) deviations: Vec<String>,
}

/// How the chunks of an array are stored, and where.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    /// The bytes of the fill value, as decoded chunks hold elements.
    pub(crate) fill: Vec<u8>,
    /// The grid of the chunks, which are decoded one by one: those inside shards, where there are shards.
    pub(crate) grid: ChunkGrid,
    /// Where the chunks are.
    pub(crate) chunks: Chunks,
    /// The codecs of an object, in the order of encoding.
    pub(crate) codecs: Vec<CodecSpec>,
    /// Whether the only codec makes shards whose chunks are read one by one.
    pub(crate) sharded: bool,
    /// The same for zarrs, where one of them isn't known here.
    pub(crate) foreign: Option<Box<ForeignCodecs>>,
}

impl ArraySpec {
    /// The same array, whose chunks are where `chunks` says. They are those of the innermost chunk grid:
    /// where the codecs make shards, the chunks inside them.
    #[must_use]
    pub fn with_chunks(self, chunks: Arc<dyn ChunkSource>) -> Self {
        Self { encoding: self.encoding.map(|encoding| Encoding { chunks, ..encoding }), ..self }
    }
}

impl Encoding {
    /// The codecs of a chunk, in the order of encoding: those inside shards, where there are shards.
    pub(crate) fn chunk_codecs(&self) -> &[CodecSpec] {
        match self.codecs.as_slice() {
            [CodecSpec { kind: CodecKind::Shard(shard), .. }] if self.sharded => &shard.codecs,
            codecs => codecs,
        }
    }

    /// The same without the last dimension, along which there is one chunk. `None` if chunks differ in size.
    pub(crate) fn without_last(&self) -> Option<Self> {
        let grid = self.grid.without_last()?;
        let chunks: Chunks = Arc::new(WithoutLast(Arc::clone(&self.chunks)));
        Some(Self { grid, chunks, ..self.clone() })
    }
}
