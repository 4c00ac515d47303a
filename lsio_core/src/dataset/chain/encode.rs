//! Doing what [`Chain::decode`] undoes.

use super::{
    super::decoding::StoredValues, ArrayDecoder, ArrayStep, Chain, ElementLayout, Step, cells,
    transposed,
};

impl Chain {
    /// Encodes the elements of a chunk of this shape: of a fixed size in C order and the machine's order
    /// of bytes, of any length in the order of [`ElementLayout`].
    ///
    /// # Errors
    /// A text, if there are more or fewer elements, or a codec can't be written.
    pub(crate) fn encode(&self, values: &StoredValues, shape: &[u64]) -> Result<Vec<u8>, String> {
        let cells = cells(shape)?;
        let lens = self.filter_lens(cells)?;
        let mut bytes = match (values, &self.end) {
            (StoredValues::Items(items), ArrayDecoder::Items(codec)) => {
                codec.encode(items.as_ref(), shape)?
            }
            (StoredValues::Items(_), _) => {
                return Err("elements of any length aren't written by its codecs".to_owned());
            }
            (StoredValues::Fixed(_), ArrayDecoder::Items(_)) => {
                return Err("its codecs write elements of any length".to_owned());
            }
            (StoredValues::Fixed(elements), _) => self.encode_elements(elements, shape, &lens)?,
        };
        if let ArrayDecoder::Shard(shard) = &self.end {
            bytes = shard.encode(&bytes, &transposed(shape, &self.storage.order))?;
        }
        for step in self.steps.iter().rev() {
            bytes = match step {
                Step::Decompress(compressor, settings) => {
                    compressor.compress(&bytes, self.storage.width, settings)?
                }
                Step::Checksum(checked) => checked.add_to(&bytes),
                Step::Filter(filter) => filter.encode(&bytes)?,
                Step::Pcodec(pcodec) => pcodec.compress(&bytes)?,
            };
        }
        Ok(bytes)
    }

    /// The elements as [`ElementLayout`] and the filters leave them. `lens` are those of [`Chain::filter_lens`].
    fn encode_elements(
        &self,
        elements: &[u8],
        shape: &[u64],
        lens: &[usize],
    ) -> Result<Vec<u8>, String> {
        let expected = lens.last().copied().unwrap_or_default();
        if elements.len() != expected {
            return Err(format!("a chunk has {} bytes instead of {expected}", elements.len()));
        }
        let mut encoded = vec![0; expected];
        self.storage.store(elements, shape, &mut encoded);
        let stored = transposed(shape, &self.storage.order);
        let mut shapes = self.transposed_shapes(stored).into_iter();
        for filter in self.filters.iter().rev() {
            match filter {
                ArrayStep::Filter(filter) => encoded = filter.encode(&encoded)?,
                ArrayStep::Swap(width) => {
                    encoded.chunks_exact_mut(*width).for_each(<[u8]>::reverse);
                }
                ArrayStep::Transpose { order, width } => {
                    let storage = ElementLayout { order: order.clone(), width: *width, swap: 1 };
                    let given = shapes.next().unwrap_or_default();
                    let mut out = vec![0; encoded.len()];
                    storage.store(&encoded, &given, &mut out);
                    encoded = out;
                }
            }
        }
        Ok(encoded)
    }
}
