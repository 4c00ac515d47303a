//! Values of cells that lie in runs of a larger array.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayData, ArrayRef, AsArray as _, BooleanBufferBuilder, MutableArrayData,
        PrimitiveArray, UInt64Array, downcast_primitive, make_array,
    },
    buffer::NullBuffer,
    compute::take,
    error::ArrowError,
};

use crate::{Recycler, index_map::Partners};

/// Mean number of neighbouring values from which on copying runs of them beats gathering each.
const LONG_RUN: usize = 8;

/// Values of cells, which follow each other in runs of a larger array. They are copied when some of them are asked for.
#[derive(Debug)]
pub(super) struct Runs {
    values: ArrayRef,
    /// The place of each run's first value, or [`Partners::NONE`] for cells without values.
    starts: Vec<usize>,
    /// Number of values of a run.
    len: usize,
}

/// Values that lie side by side: a place and a number, or only the number.
enum Piece {
    Values(Range<usize>),
    Absent(usize),
}

impl Runs {
    /// Runs of `len` values from each of `starts` on; [`Partners::NONE`] is a run of cells without values.
    pub(super) fn new(values: ArrayRef, starts: Vec<usize>, len: usize) -> Self {
        Self { values, starts, len }
    }

    /// Number of cells.
    pub(super) fn cells(&self) -> usize {
        self.starts.len() * self.len
    }

    /// Values of all cells. They aren't copied if they lie side by side.
    ///
    /// # Errors
    /// Those of arrow.
    pub(super) fn whole(&self) -> Result<ArrayRef, ArrowError> {
        self.slice(0, self.cells())
    }

    /// Values of all cells like [`Runs::whole`], copied to memory of `recycler` if they are numbers.
    ///
    /// # Errors
    /// Those of arrow.
    pub(super) fn whole_in(&self, recycler: &Arc<Recycler>) -> Result<ArrayRef, ArrowError> {
        let (cells, pieces) = (self.cells(), self.pieces(0..self.cells()));
        let one = matches!(pieces.as_slice(), [] | [Piece::Values(_)]);
        let data = self.values.to_data();
        let (Some(width), [buffer], None) =
            (data.data_type().primitive_width(), data.buffers(), data.nulls())
        else {
            return self.copied(&pieces, cells);
        };
        if one || cells < LONG_RUN * pieces.len() {
            return self.copied(&pieces, cells);
        }
        let has_absent = pieces.iter().any(|piece| matches!(piece, Piece::Absent(_)));
        let bytes = buffer.get(data.offset() * width..).unwrap_or_default();
        let mut copies = recycler.take(cells * width);
        let mut valid = BooleanBufferBuilder::new(if has_absent { cells } else { 0 });
        let mut rest: &mut [u8] = &mut copies;
        for piece in pieces {
            let (from, count) = match piece {
                Piece::Values(range) => {
                    (bytes.get(range.start * width..range.end * width), range.len())
                }
                Piece::Absent(count) => (None, count),
            };
            let Some((to, behind)) = rest.split_at_mut_checked(count * width) else { break };
            match from {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0),
            }
            if has_absent {
                valid.append_n(count, from.is_some());
            }
            rest = behind;
        }
        let nulls = has_absent.then(|| NullBuffer::new(valid.finish()));
        let copies = ArrayData::builder(data.data_type().clone())
            .len(cells)
            .add_buffer(copies.freeze())
            .nulls(nulls);
        Ok(make_array(copies.build()?))
    }

    /// Whether all values lie side by side.
    pub(super) fn is_one(&self) -> bool {
        matches!(self.pieces(0..self.cells()).as_slice(), [] | [Piece::Values(_)])
    }

    /// Values of the `len` cells from `start` on.
    ///
    /// # Errors
    /// Those of arrow.
    pub(super) fn slice(&self, start: usize, len: usize) -> Result<ArrayRef, ArrowError> {
        self.copied(&self.pieces(start..start + len), len)
    }

    /// Values of pieces with `len` cells.
    fn copied(&self, pieces: &[Piece], len: usize) -> Result<ArrayRef, ArrowError> {
        match pieces {
            [] => return Ok(self.values.slice(0, 0)),
            [Piece::Values(range)] => return Ok(self.values.slice(range.start, range.len())),
            _ => {}
        }
        if len < LONG_RUN * pieces.len() {
            let mut places: Vec<Option<u64>> = Vec::with_capacity(len);
            for piece in pieces {
                match piece {
                    Piece::Values(range) => {
                        places.extend(range.clone().map(|place| Some(place as u64)));
                    }
                    Piece::Absent(count) => places.extend(std::iter::repeat_n(None, *count)),
                }
            }
            return take(&self.values, &UInt64Array::from(places), None);
        }
        let has_absent = pieces.iter().any(|piece| matches!(piece, Piece::Absent(_)));
        if !has_absent && self.values.null_count() == 0 {
            macro_rules! primitive {
                ($t:ty) => {{
                    let values = self.values.as_primitive::<$t>();
                    let copied = copied(values.values(), pieces, len);
                    let copied = PrimitiveArray::<$t>::new(copied.into(), None);
                    return Ok(Arc::new(copied.with_data_type(values.data_type().clone())));
                }};
            }
            downcast_primitive! {
                self.values.data_type() => (primitive),
                _ => {}
            }
        }
        let data = self.values.to_data();
        let mut out = MutableArrayData::new(vec![&data], has_absent, len);
        for piece in pieces {
            match piece {
                Piece::Values(range) => out.try_extend(0, range.start, range.end)?,
                Piece::Absent(count) => out.try_extend_nulls(*count)?,
            }
        }
        Ok(make_array(out.freeze()))
    }

    /// The values of these cells, in their order: as few pieces as possible.
    fn pieces(&self, cells: Range<usize>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut open: Option<Piece> = None;
        let mut cell = cells.start;
        while cell < cells.end {
            let (run, first) = (cell / self.len, cell % self.len);
            let count = (self.len - first).min(cells.end - cell);
            cell += count;
            let next = match self.starts[run] {
                Partners::NONE => Piece::Absent(count),
                start => Piece::Values(start + first..start + first + count),
            };
            open = Some(match (open.take(), next) {
                (Some(Piece::Values(own)), Piece::Values(next)) if own.end == next.start => {
                    Piece::Values(own.start..next.end)
                }
                (Some(Piece::Absent(own)), Piece::Absent(next)) => Piece::Absent(own + next),
                (last, next) => {
                    pieces.extend(last);
                    next
                }
            });
        }
        pieces.extend(open);
        pieces
    }
}

/// Copies values of pieces, none of them absent.
fn copied<T: Copy>(values: &[T], pieces: &[Piece], len: usize) -> Vec<T> {
    let mut copied = Vec::with_capacity(len);
    for piece in pieces {
        if let Piece::Values(range) = piece {
            copied.extend_from_slice(&values[range.clone()]);
        }
    }
    copied
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_are_those_of_all_values(
            starts in prop::collection::vec(prop::option::of(0_usize..60), 0..6),
            len in 1_usize..40,
            range in (0.0_f64..1.0, 0.0_f64..1.0),
            with_nulls: bool,
        ) {
            let numbers = Int64Array::from_iter(
                (0..100_i64).map(|v| (!with_nulls || v % 3 != 1).then_some(v)),
            );
            let doubles = Float64Array::from_iter(numbers.iter().map(|v| v.map(|v| v as f64)));
            let strings = StringArray::from_iter(numbers.iter().map(|v| v.map(|v| v.to_string())));
            let places = starts.iter().flat_map(|start| {
                (0..len).map(move |i| start.map(|start| (start + i) as u64))
            });
            let places: UInt64Array = places.collect();
            let starts: Vec<usize> =
                starts.iter().map(|start| start.unwrap_or(Partners::NONE)).collect();
            let arrays: [ArrayRef; 3] = [Arc::new(numbers), Arc::new(doubles), Arc::new(strings)];
            for values in arrays {
                let runs = Runs::new(Arc::clone(&values), starts.clone(), len);
                let expected = take(&values, &places, None).unwrap();
                prop_assert_eq!(&runs.whole().unwrap(), &expected);
                prop_assert_eq!(&runs.whole_in(&Arc::default()).unwrap(), &expected);
                let start = (range.0 * runs.cells() as f64) as usize;
                let count = (range.1 * (runs.cells() - start) as f64) as usize;
                let slice = runs.slice(start, count).unwrap();
                prop_assert_eq!(&slice, &expected.slice(start, count));
            }
        }
    }
}
