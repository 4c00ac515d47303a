//! Undoing the codecs of a chunk.

use std::sync::Arc;

use arrow::buffer::Buffer;

use super::{
    super::decoding::StoredValues, ArrayDecoder, ArrayStep, Chain, ElementLayout, OVERHEAD_BYTES,
    Step, cells, text_bytes, transposed,
};
use crate::recycle::Recycler;

impl Chain {
    /// Undoes everything but what [`ElementLayout`] tells, for a chunk of this shape.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt, or are those of more or fewer elements.
    pub(crate) fn decode(
        &self,
        encoded: Buffer,
        shape: &[u64],
        recycler: &Arc<Recycler>,
    ) -> Result<StoredValues, String> {
        let cells = cells(shape)?;
        // What follows sees the chunk after the transpositions that are left to whoever picks values.
        let shape: Vec<u64> = match &self.end {
            ArrayDecoder::Items(_) => shape.to_vec(),
            _ => transposed(shape, &self.storage.order),
        };
        let lens = self.filter_lens(cells)?;
        let (expected, most) = match &self.end {
            ArrayDecoder::Elements => (Some(lens[0]), lens[0]),
            ArrayDecoder::Shard(shard) => (None, shard.most_bytes(&shape, lens[0])),
            ArrayDecoder::Items(_) => (None, text_bytes(cells)),
        };
        let bytes = self.undo_steps(encoded, expected, most, recycler)?;
        let mut elements = match &self.end {
            ArrayDecoder::Elements => {
                if bytes.len() != lens[0] {
                    return Err(format!("it holds {} bytes instead of {}", bytes.len(), lens[0]));
                }
                bytes
            }
            ArrayDecoder::Items(items) => {
                return items.decode(&bytes, &shape).map(StoredValues::Items);
            }
            ArrayDecoder::Shard(shard) => match shard.decode(&bytes, &shape, recycler)? {
                StoredValues::Fixed(elements) => elements,
                items => return Ok(items),
            },
        };
        let mut shapes = self.transposed_shapes(shape);
        for (filter, len) in self.filters.iter().zip(&lens[1..]) {
            let mut out = recycler.take(*len);
            match filter {
                ArrayStep::Filter(filter) => filter.decode(&elements, &mut out)?,
                ArrayStep::Swap(width) => {
                    out.copy_from_slice(&elements);
                    out.chunks_exact_mut(*width).for_each(<[u8]>::reverse);
                }
                ArrayStep::Transpose { order, width } => {
                    let given = shapes.pop().unwrap_or_default();
                    if elements.len() != out.len() {
                        return Err("a filter made too few elements".to_owned());
                    }
                    let storage = ElementLayout { order: order.clone(), width: *width, swap: 1 };
                    storage.load(&elements, &given, &mut out);
                }
            }
            elements = out.freeze();
        }
        Ok(StoredValues::Fixed(elements))
    }

    /// Decodes a chunk of elements straight into memory of its size. `false` if codecs make other memory in between: then
    /// nothing was decoded.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt, or are those of more or fewer elements.
    pub(crate) fn decode_into(&self, encoded: &[u8], out: &mut [u8]) -> Result<bool, String> {
        match self.steps.as_slice() {
            _ if !self.is_direct() => return Ok(false),
            [] if encoded.len() == out.len() => out.copy_from_slice(encoded),
            [] => return Err(format!("it holds {} bytes instead of {}", encoded.len(), out.len())),
            [Step::Decompress(compressor, _)] => compressor.decompress_into(encoded, out)?,
            [Step::Checksum(checked), Step::Decompress(compressor, _)] => {
                compressor.decompress_into(&encoded[checked.content(encoded)?], out)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn undo_steps(
        &self,
        encoded: Buffer,
        expected: Option<usize>,
        most: usize,
        recycler: &Arc<Recycler>,
    ) -> Result<Buffer, String> {
        // What each step has to make, as far as that is known.
        let mut lens = vec![expected; self.steps.len()];
        for (number, step) in self.steps.iter().enumerate().skip(1).rev() {
            lens[number - 1] = lens[number].and_then(|len| step.encoded_len(len));
        }
        let most = most.saturating_mul(2).saturating_add(OVERHEAD_BYTES);
        let mut bytes = encoded;
        for (step, len) in self.steps.iter().zip(lens) {
            bytes = match (step, len) {
                (Step::Checksum(checked), _) => {
                    let content = checked.content(&bytes)?;
                    bytes.slice_with_length(content.start, content.len())
                }
                (Step::Decompress(compressor, _), Some(len)) => {
                    let mut out = recycler.take(len);
                    compressor.decompress_into(&bytes, &mut out)?;
                    out.freeze()
                }
                (Step::Decompress(compressor, _), None) => {
                    Buffer::from(compressor.decompress(&bytes, most)?)
                }
                (Step::Pcodec(pcodec), len) => {
                    let len = len.ok_or("pcodec isn't the innermost codec")?;
                    pcodec.decompress(&bytes, len)?
                }
                (Step::Filter(filter), len) => {
                    // Filters whose bytes can be any keep their number.
                    let len = len.unwrap_or(bytes.len());
                    let mut out = recycler.take(len);
                    filter.decode(&bytes, &mut out)?;
                    out.freeze()
                }
            };
        }
        Ok(bytes)
    }
}
