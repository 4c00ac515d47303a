//! Chains of codecs, undone straight into buffers of the exact size, and done.
//!
//! In the order of decoding a chain is: codecs from bytes to bytes; then what makes elements of bytes;
//! then filters, which change the elements. What is left to do with them, the order of dimensions and
//! of bytes, is told by [`ElementLayout`] and done where values are picked, in the same pass.

use super::{
    checksum::Checked,
    compression::{Compressor, CompressorSettings},
    filters::Filter,
    gather::{Axis, Gather},
    items::Items,
    pcodec::Pcodec,
    whole_shard::WholeShard,
};
use crate::{Selection, grid::checked_product};

mod build;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

/// What is said of a chunk with more cells than memory can have.
const TOO_LARGE: &str = "its shape is too large";

/// The bytes that a string may have on average, beyond the first [`TEXT_BYTES`] of a chunk.
const MEAN_STRING_BYTES: usize = 4 << 10;

/// The bytes that the strings of a chunk may have however few they are.
const TEXT_BYTES: usize = 64 << 20;

/// The bytes that the strings of a chunk may have however many they are.
const MAX_TEXT_BYTES: usize = 1 << 30;

/// What compressed bytes may have beyond those of the elements, where they are compressed twice.
const OVERHEAD_BYTES: usize = 1 << 20;

/// How the elements of a chunk lie in its decoded bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ElementLayout {
    /// The dimensions in the order of the bytes, slowest first. C order is 0, 1, ….
    pub(crate) order: Vec<usize>,
    /// The bytes of an element.
    pub(crate) width: usize,
    /// The bytes to reverse, so many at a time, to get to the machine's order; 1 for none.
    pub(crate) swap: usize,
}

impl ElementLayout {
    /// C order, in the machine's order of bytes.
    pub(crate) fn native(rank: usize, width: usize) -> Self {
        Self { order: (0..rank).collect(), width, swap: 1 }
    }

    /// The elements of a chunk in C order and the machine's order of bytes, from what is stored of it.
    pub(crate) fn load(&self, stored: &[u8], shape: &[u64], out: &mut [u8]) {
        let all: Vec<Selection> = shape.iter().map(|size| Selection::all(*size)).collect();
        let axes = all.iter().enumerate();
        let axes: Vec<Axis<'_>> =
            axes.map(|(axis, wanted)| Axis { axis, wanted, start: 0 }).collect();
        Gather::new(shape, self, &axes).copy(stored, out);
    }

    /// The inverse of [`ElementLayout::load`].
    fn store(&self, elements: &[u8], shape: &[u64], out: &mut [u8]) {
        let mut order = vec![0; self.order.len()];
        for (stored, &axis) in self.order.iter().enumerate() {
            order[axis] = stored;
        }
        Self { order, ..*self }.load(elements, &transposed(shape, &self.order), out);
    }
}

/// How the decoded bytes of a chunk can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// They are stored as they are.
    Plain,
    /// Block by block.
    Blosc,
    /// From a frame, in order.
    Zstd,
    /// All at once.
    Whole,
}

/// A chain of codecs that is known here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    storage: ElementLayout,
    /// From bytes to bytes, in the order of decoding.
    steps: Vec<Step>,
    end: ArrayDecoder,
    /// From elements to elements, in the order of decoding.
    filters: Vec<ArrayStep>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Decompress(Compressor, CompressorSettings),
    Checksum(Checked),
    Filter(Filter),
    Pcodec(Pcodec),
}

/// What makes elements of bytes.
#[derive(Clone, Debug, PartialEq)]
enum ArrayDecoder {
    /// They are the elements.
    Elements,
    Items(Items),
    Shard(Box<WholeShard>),
}

#[derive(Clone, Debug, PartialEq)]
enum ArrayStep {
    Filter(Filter),
    /// Reverses bytes, so many at a time.
    Swap(usize),
    /// From an order of dimensions to that of the array, for elements of so many bytes.
    Transpose {
        order: Vec<usize>,
        width: usize,
    },
}

impl Chain {
    /// Whether there is nothing to undo.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.is_direct()
    }

    /// How the decoded bytes can be had.
    pub(super) fn stream(&self) -> Stream {
        match self.steps.as_slice() {
            _ if !self.is_direct() => Stream::Whole,
            [] => Stream::Plain,
            [Step::Decompress(Compressor::Blosc, _)] => Stream::Blosc,
            [Step::Decompress(Compressor::Zstd, _)] => Stream::Zstd,
            _ => Stream::Whole,
        }
    }

    /// How elements lie in the decoded bytes.
    pub(crate) fn storage(&self) -> &ElementLayout {
        &self.storage
    }

    /// The most bytes that a chunk of this shape takes on the way, stored or in between.
    ///
    /// # Errors
    /// A text, if that is more than can be counted or a filter can't have made the elements.
    pub(crate) fn most_bytes(&self, shape: &[u64]) -> Result<usize, String> {
        const FAULT: &str = "its filters don't fit the chunks";

        let cells = cells(shape)?;
        let lens = self.filter_lens(cells)?;
        let mut len = lens[0];
        let mut most = lens.into_iter().max().unwrap_or(len);
        match &self.end {
            ArrayDecoder::Elements => {}
            ArrayDecoder::Items(_) => return Ok(text_bytes(cells)),
            ArrayDecoder::Shard(shard) => {
                let shape = transposed(shape, &self.storage.order);
                most = most.max(shard.most_bytes(&shape, len));
            }
        }
        for step in self.steps.iter().rev() {
            match step {
                Step::Decompress(..) | Step::Pcodec(_) => break,
                step => len = step.encoded_len(len).ok_or(FAULT)?,
            }
            most = most.max(len);
        }
        Ok(most)
    }

    /// The bytes that each filter gets, in the order of decoding, and then those of the elements of so
    /// many cells.
    fn filter_lens(&self, cells: usize) -> Result<Vec<usize>, String> {
        let len = cells.checked_mul(self.storage.width).ok_or(TOO_LARGE)?;
        let mut lens = vec![len; self.filters.len() + 1];
        for (number, filter) in self.filters.iter().enumerate().rev() {
            let encoded_len = match filter {
                ArrayStep::Filter(filter) => filter.encoded_len(lens[number + 1]),
                ArrayStep::Swap(_) | ArrayStep::Transpose { .. } => Some(lens[number + 1]),
            };
            lens[number] = encoded_len.ok_or("a filter can't have made its elements")?;
        }
        Ok(lens)
    }

    /// What each transposition between filters is given, in the order of encoding.
    fn transposed_shapes(&self, mut shape: Vec<u64>) -> Vec<Vec<u64>> {
        let mut shapes = Vec::new();
        for filter in self.filters.iter().rev() {
            if let ArrayStep::Transpose { order, .. } = filter {
                let next = transposed(&shape, order);
                shapes.push(std::mem::replace(&mut shape, next));
            }
        }
        shapes
    }

    fn is_direct(&self) -> bool {
        self.end == ArrayDecoder::Elements && self.filters.is_empty()
    }
}

impl Step {
    /// The bytes that it makes of so many; `None` if that varies.
    fn encoded_len(&self, len: usize) -> Option<usize> {
        match self {
            Self::Decompress(..) | Self::Pcodec(_) => None,
            Self::Checksum(checked) => len.checked_add(checked.bytes()),
            Self::Filter(filter) => filter.encoded_len(len),
        }
    }
}

/// The cells of a chunk of this shape.
fn cells(shape: &[u64]) -> Result<usize, String> {
    let cells = checked_product(shape).and_then(|cells| usize::try_from(cells).ok());
    cells.ok_or_else(|| TOO_LARGE.to_owned())
}

/// The sizes of dimensions in another order.
fn transposed(shape: &[u64], order: &[usize]) -> Vec<u64> {
    order.iter().filter_map(|&axis| shape.get(axis).copied()).collect()
}

/// The most bytes that so many strings may have.
pub(super) fn text_bytes(cells: usize) -> usize {
    cells.saturating_mul(MEAN_STRING_BYTES).saturating_add(TEXT_BYTES).min(MAX_TEXT_BYTES)
}
