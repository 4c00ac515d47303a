//! Shards that are decoded as a whole: shards inside other shards, compressed as a whole, or of several shapes. All
//! other shards are read one inner chunk at a time. Encoding always makes a whole shard.

use std::sync::Arc;

use arrow::{array::ArrayRef, buffer::Buffer, compute::interleave};

use super::{
    chain::{Chain, ElementLayout},
    codec_spec::{CodecRefusal, ShardSpec},
    decoding::StoredValues,
    dtype::ElementType,
    gather::{Axis, Gather, add_items, repeat},
    items::one_item,
    shard::ShardLayout,
};
use crate::{Selection, grid::unravel, recycle::Recycler};

/// The deepest nesting of shards.
pub(crate) const MAX_DEPTH: usize = 4;

/// The bytes that an inner chunk may take beyond its elements' bytes.
const OVERHEAD_BYTES: usize = 1 << 10;

/// The codec `sharding_indexed`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WholeShard {
    layout: ShardLayout,
    inner: Vec<u64>,
    chain: Chain,
    element: ElementType,
    fill: Vec<u8>,
}

impl WholeShard {
    pub(super) fn new(
        shard: &ShardSpec,
        element: &ElementType,
        rank: usize,
        fill: &[u8],
        depth: usize,
    ) -> Result<Self, CodecRefusal> {
        if depth >= MAX_DEPTH {
            return Err(CodecRefusal::Invalid(format!("shards are more than {MAX_DEPTH} deep")));
        }
        let inner = shard.chunk_shape.clone();
        if inner.len() != rank || inner.contains(&0) {
            return Err(CodecRefusal::Invalid("the chunk shape inside shards is wrong".to_owned()));
        }
        let layout = ShardLayout::new(shard.index, rank);
        let chain = Chain::nested(&shard.codecs, element, rank, fill, depth + 1)?;
        Ok(Self { layout, inner, chain, element: element.clone(), fill: fill.to_vec() })
    }

    /// Upper bound in bytes of an encoded shard of this shape, whose elements take `len` bytes.
    pub(super) fn most_bytes(&self, shape: &[u64], len: usize) -> usize {
        let layout = self.layout.with_shape(shape, &self.inner);
        let chunks = layout.map_or(1, |layout| layout.counts().iter().product::<u64>());
        let chunks = usize::try_from(chunks).unwrap_or(usize::MAX);
        len.saturating_add(chunks.saturating_mul(OVERHEAD_BYTES))
    }

    /// Decodes the elements of a shard, in C order and native byte order.
    ///
    /// # Errors
    /// A message, if the shard is corrupt.
    pub(super) fn decode(
        &self,
        shard: &Buffer,
        shape: &[u64],
        recycler: &Arc<Recycler>,
    ) -> Result<StoredValues, String> {
        let layout = self.layout_of(shape)?;
        let index = layout.parse(layout.index_in(shard)?, shard.len() as u64)?;
        let cells: u64 = shape.iter().product();
        let cells = usize::try_from(cells).map_err(|e| e.to_string())?;
        let axes: Vec<usize> = (0..shape.len()).collect();
        let wanted: Vec<Selection> = shape.iter().map(|size| Selection::all(*size)).collect();
        let gather = |chunk: &[u64], storage: &ElementLayout| {
            let axes: Vec<Axis<'_>> = axes
                .iter()
                .map(|&axis| Axis {
                    axis,
                    wanted: &wanted[axis],
                    start: chunk[axis] * self.inner[axis],
                })
                .collect();
            Gather::new(&self.inner, storage, &axes)
        };
        let chunks: u64 = layout.counts().iter().product();
        let stored = (0..chunks).filter_map(|number| {
            let range = index.range(usize::try_from(number).ok()?)?;
            Some((unravel(number, layout.counts()), range))
        });
        let storage = self.chain.storage();
        let decode = |range: std::ops::Range<u64>| {
            let as_usize = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            // The index was checked against the shard's size.
            let len = as_usize(range.end - range.start);
            let encoded = shard.slice_with_length(as_usize(range.start), len);
            self.chain.decode(encoded, &self.inner, recycler)
        };
        let Some(width) = self.element.size() else {
            let fill = one_item(&self.element, &self.fill)?;
            let mut sources: Vec<ArrayRef> = vec![fill];
            let mut places = vec![(0, 0); cells];
            for (chunk, range) in stored {
                let StoredValues::Items(items) = decode(range)? else { continue };
                add_items(&mut sources, &mut places, items, &gather(&chunk, storage));
            }
            let sources: Vec<_> = sources.iter().map(AsRef::as_ref).collect();
            let items = interleave(&sources, &places).map_err(|e| e.to_string())?;
            return Ok(StoredValues::Items(items));
        };
        let mut out = recycler.take(cells.saturating_mul(width));
        repeat(&self.fill, &mut out);
        for (chunk, range) in stored {
            if let StoredValues::Fixed(elements) = decode(range)? {
                gather(&chunk, storage).copy(&elements, &mut out);
            }
        }
        Ok(StoredValues::Fixed(out.freeze()))
    }

    /// Encodes a shard of elements of a fixed size: the inverse of [`WholeShard::decode`]. Omits inner chunks whose
    /// cells all equal the fill value.
    ///
    /// # Errors
    /// A message, if the inner chunks don't divide the shard, or if a codec can't encode.
    pub(super) fn encode(&self, elements: &[u8], shape: &[u64]) -> Result<Vec<u8>, String> {
        let layout = self.layout_of(shape)?;
        let width = self.element.size().ok_or("shards of strings aren't written")?;
        let cells: u64 = self.inner.iter().product();
        let cells = usize::try_from(cells).map_err(|e| e.to_string())?;
        let len = cells.checked_mul(width).ok_or("its chunks are too large")?;
        let mut fill = vec![0; len];
        repeat(&self.fill, &mut fill);
        let storage = ElementLayout::native(shape.len(), width);
        let index_bytes = if layout.has_index_at_end() { None } else { layout.index_bytes() };
        let mut shard = vec![0; usize::try_from(index_bytes.unwrap_or(0)).unwrap_or(0)];
        let chunks: u64 = layout.counts().iter().product();
        let mut ranges = Vec::new();
        for number in 0..chunks {
            let chunk = unravel(number, layout.counts());
            let side = |(index, size): (&u64, &u64)| index * size..(index + 1) * size;
            let sides = chunk.iter().zip(&self.inner).map(side);
            let wanted: Vec<Selection> =
                sides.map(|side| std::iter::once(side).collect()).collect();
            let axes = wanted.iter().enumerate();
            let axes: Vec<_> = axes.map(|(axis, wanted)| Axis { axis, wanted, start: 0 }).collect();
            let mut chunk = vec![0; len];
            Gather::new(shape, &storage, &axes).copy(elements, &mut chunk);
            if chunk == fill {
                ranges.push(None);
                continue;
            }
            let values = StoredValues::Fixed(Buffer::from_vec(chunk));
            let start = shard.len() as u64;
            shard.extend(self.chain.encode(&values, &self.inner)?);
            ranges.push(Some(start..shard.len() as u64));
        }
        let index = layout.encode(&ranges);
        match index_bytes {
            Some(_) => shard[..index.len()].copy_from_slice(&index),
            None => shard.extend(index),
        }
        Ok(shard)
    }

    fn layout_of(&self, shape: &[u64]) -> Result<ShardLayout, String> {
        self.layout.with_shape(shape, &self.inner).ok_or_else(|| {
            let inner = &self.inner;
            format!("chunks of {inner:?} don't divide a shard of {shape:?}, or are too many for it")
        })
    }
}
