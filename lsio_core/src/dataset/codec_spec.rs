//! The codecs of an array as typed data, independent of the format's spelling.

use super::{
    checksum::Checked,
    compression::{Compressor, CompressorSettings},
    filters::Filter,
    items::Items,
    shard::IndexEncoding,
};

/// A codec of an array. Lists of codecs are in the order of encoding: codecs from elements to elements, then one codec
/// from elements to bytes, then codecs from bytes to bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CodecSpec {
    /// The name, spelled as in the metadata, for messages.
    pub(crate) name: String,
    pub(crate) kind: CodecKind,
}

/// The operation of a codec.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CodecKind {
    /// Reorders dimensions: stored dimension `i` is dimension `axes[i]` of the array.
    Transpose(Vec<usize>),
    /// Transforms elements, or bytes if it follows the codec from elements to bytes.
    Filter(Filter),
    /// Writes elements of a fixed size one after the other. `None` if the metadata give no byte order.
    Bytes(Option<ByteOrder>),
    /// Writes elements of variable length one after the other.
    Items(Items),
    /// Compresses numbers.
    Pcodec,
    /// Divides a chunk into inner chunks, with an index before or after them.
    Shard(Box<ShardSpec>),
    /// Compresses bytes.
    Compressor(Compressor, CompressorSettings),
    /// Adds a checksum to bytes.
    Checksum(Checked),
    /// A codec that can't be decoded here.
    Refused(CodecRefusal),
}

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// The codec `sharding_indexed`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardSpec {
    /// The shape of an inner chunk, in elements.
    pub(crate) chunk_shape: Vec<u64>,
    pub(crate) index: IndexEncoding,
    /// The codecs of the inner chunks.
    pub(crate) codecs: Vec<CodecSpec>,
}

/// The reason why a codec can't be decoded here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CodecRefusal {
    /// The name of an unknown codec, which zarrs may know.
    Unknown(String),
    /// A message that says why the codec can't be used.
    Invalid(String),
}

impl CodecSpec {
    pub(crate) fn new(name: &str, kind: CodecKind) -> Self {
        Self { name: name.to_owned(), kind }
    }

    /// A codec that can't be used.
    pub(crate) fn invalid(name: &str, reason: impl Into<String>) -> Self {
        Self::new(name, CodecKind::Refused(CodecRefusal::Invalid(reason.into())))
    }

    /// A codec that isn't known here.
    pub(crate) fn unknown(name: &str) -> Self {
        Self::new(name, CodecKind::Refused(CodecRefusal::Unknown(name.to_owned())))
    }
}

impl ByteOrder {
    /// Whether the order is the machine's.
    pub(crate) fn is_native(self) -> bool {
        (self == Self::Big) == cfg!(target_endian = "big")
    }
}
