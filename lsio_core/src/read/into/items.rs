//! Cells as an array of Arrow: for values of variable length, which have no place of a fixed size.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::{
    array::{ArrayRef, UInt32Array, new_empty_array},
    compute::{interleave, take},
};

use super::{super::stored::Stored, ChunkSink, plan::Plan, streamed::Scratch};
use crate::{Error, Recycler, Result, Variable, dataset::ElementLayout};

/// Bytes of a reference to a value.
pub(super) const REFERENCE: usize = 8;

/// Collects the wanted values of each chunk; the place of a cell gets a reference to its value.
pub(super) struct Collector<'a> {
    variable: &'a Variable,
    sources: Mutex<Vec<ArrayRef>>,
    /// The source that is the fill value.
    fill: OnceLock<u32>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(variable: &'a Variable) -> Self {
        Self { variable, sources: Mutex::default(), fill: OnceLock::new() }
    }

    /// The values that references refer to, in their order.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather them.
    pub(super) fn finish(self, references: &[u8]) -> Result<ArrayRef> {
        let failed = |reason| Error::Decode { array: self.variable.path(), reason };
        let sources = self.sources.into_inner().unwrap_or_else(PoisonError::into_inner);
        if references.is_empty() {
            return Ok(new_empty_array(self.variable.data_type()));
        }
        let places = references.as_chunks::<REFERENCE>().0.iter().map(|reference| {
            let [a, b, c, d, rest @ ..] = *reference;
            (u32::from_ne_bytes([a, b, c, d]) as usize, u32::from_ne_bytes(rest) as usize)
        });
        let places: Vec<(usize, usize)> = places.collect();
        if places.iter().any(|(source, at)| sources.get(*source).is_none_or(|own| *at >= own.len()))
        {
            return Err(failed("values of some cells are missing".to_owned()));
        }
        let sources: Vec<_> = sources.iter().map(AsRef::as_ref).collect();
        interleave(&sources, &places).map_err(|e| failed(e.to_string()))
    }

    /// Adds values. Returns the number of the source.
    fn add(&self, values: ArrayRef) -> Result<u32> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let number = u32::try_from(sources.len()).map_err(|_| Error::Decode {
            array: self.variable.path(),
            reason: "its values come from too many chunks".to_owned(),
        })?;
        sources.push(values);
        Ok(number)
    }

    /// The source that is the fill value; a chunk that isn't stored is made of it.
    fn fill(&self, chunk: &[u64], recycler: &Arc<Recycler>) -> Result<u32> {
        if let Some(number) = self.fill.get() {
            return Ok(*number);
        }
        let values = self.variable.decode_chunk(chunk, None, recycler)?;
        let number = self.add(values.slice(0, values.len().min(1)))?;
        Ok(*self.fill.get_or_init(|| number))
    }
}

impl ChunkSink for Collector<'_> {
    fn put(
        &self,
        chunk: &[u64],
        stored: Option<&Stored>,
        plan: &Plan<'_>,
        _: &mut Scratch,
        recycler: &Arc<Recycler>,
    ) -> Result<()> {
        let broken = |reason| self.variable.broken_chunk(chunk, reason);
        let shape = self.variable.chunk_grid().region_at(chunk).shape;
        let layout = ElementLayout::native(shape.len(), REFERENCE);
        let mut wanted: Vec<u32> = Vec::new();
        let mut cells: Vec<(usize, usize)> = Vec::new();
        plan.gathers(chunk, (&layout, &shape), |number, gather| {
            gather.for_each(|from, to| {
                wanted.push(u32::try_from(from).unwrap_or(u32::MAX));
                cells.push((number, to));
            });
        });
        let (source, is_fill) = match stored {
            None => (self.fill(chunk, recycler)?, true),
            Some(stored) => {
                let encoded = stored.bytes(recycler).map_err(broken)?;
                let values = self.variable.decode_chunk(chunk, Some(&encoded), recycler)?;
                // What isn't wanted needn't be kept.
                let values = take(&values, &UInt32Array::from(wanted), None);
                (self.add(values.map_err(|e| broken(e.to_string()))?)?, false)
            }
        };
        // SAFETY: a chunk is put once.
        let mut targets = unsafe { plan.own_cells() };
        for (at, (number, to)) in cells.into_iter().enumerate() {
            let place = targets.get_mut(number);
            let place = place.and_then(|own| own.bytes(to * REFERENCE..(to + 1) * REFERENCE));
            let Some(place) = place else { continue };
            let at = if is_fill { 0 } else { u32::try_from(at).unwrap_or(u32::MAX) };
            let (first, second) = place.split_at_mut(REFERENCE / 2);
            first.copy_from_slice(&source.to_ne_bytes());
            second.copy_from_slice(&at.to_ne_bytes());
        }
        Ok(())
    }
}
