//! An array as typed data: what a format says of it, parsed once.

use super::{
    attributes::{Attribute, Attributes},
    codec_spec::CodecSpec,
    dtype::ElementType,
    keys::Keys,
    layout::Layout,
    zarrs_chain::ForeignCodecs,
};

/// An array, whether it can be read or not.
#[derive(Clone, Debug)]
pub(crate) struct ArraySpec {
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

/// How the chunks of an array are stored.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    /// The bytes of the fill value, as decoded chunks hold elements.
    pub(crate) fill: Vec<u8>,
    /// How the objects are named.
    pub(crate) keys: Keys,
    /// In the order of encoding.
    pub(crate) codecs: Vec<CodecSpec>,
    /// The same for zarrs, where one of them isn't known here.
    pub(crate) foreign: Option<Box<ForeignCodecs>>,
}
