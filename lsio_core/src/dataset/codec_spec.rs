//! The codecs of an array as typed data, whatever the format says them in.

use super::{
    checksum::Checked, compression::Compressor, filters::Filter, items::Items, shard::IndexEncoding,
};

/// A codec of an array. Lists of them are in the order of encoding: from elements to elements, then one that makes
/// bytes of elements, then from bytes to bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CodecSpec {
    /// The name as the metadata spells it, for messages.
    pub(crate) name: String,
    pub(crate) kind: CodecKind,
}

/// What a codec does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CodecKind {
    /// Stored dimension `i` is dimension `axes[i]` of the array.
    Transpose(Vec<usize>),
    /// Changes elements; or, behind the codec that makes bytes of them, bytes.
    Filter(Filter),
    /// Writes elements one after the other. `None` where no order of bytes is said.
    Bytes(Option<ByteOrder>),
    /// Writes elements of any length one after the other.
    Items(Items),
    /// Compresses numbers.
    Pcodec,
    /// Divides a chunk into smaller ones, behind or before an index.
    Shard(Box<ShardSpec>),
    /// Compresses bytes.
    Compressor(Compressor),
    /// Adds a checksum to bytes.
    Checksum(Checked),
    /// Can't be undone here.
    Refused(Refusal),
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    /// The least significant one.
    Little,
    /// The most significant one.
    Big,
}

/// The codec `sharding_indexed`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardSpec {
    /// The shape of the chunks inside a shard.
    pub(crate) chunk_shape: Vec<u64>,
    pub(crate) index: IndexEncoding,
    /// The codecs of the chunks inside a shard.
    pub(crate) codecs: Vec<CodecSpec>,
}

/// Why a codec can't be undone here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A codec that only zarrs may know.
    Unknown(String),
    /// A codec that can't be used, for a reason.
    Invalid(String),
}

impl CodecSpec {
    pub(crate) fn new(name: &str, kind: CodecKind) -> Self {
        Self { name: name.to_owned(), kind }
    }

    /// A codec that can't be used.
    pub(crate) fn invalid(name: &str, reason: impl Into<String>) -> Self {
        Self::new(name, CodecKind::Refused(Refusal::Invalid(reason.into())))
    }

    /// A codec that isn't known here.
    pub(crate) fn unknown(name: &str) -> Self {
        Self::new(name, CodecKind::Refused(Refusal::Unknown(name.to_owned())))
    }
}

impl ByteOrder {
    /// Whether it is the machine's.
    pub(crate) fn is_native(self) -> bool {
        (self == Self::Big) == cfg!(target_endian = "big")
    }
}
