//! All values of each group, side by side: for statistics that no state of fixed size has, such as the median.
//!
//! How many cells a group has is known, so each group has its place in one buffer. Groups lie in parts, each behind a
//! lock of its own: several tasks add values at the same time, and parts are evaluated in parallel.

use std::{
    mem::take,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use arrow::{array::Array, buffer::BooleanBuffer, datatypes::DataType};

use super::{
    layout::{GroupLayout, Segment},
    native::Native,
    reduction::{Misfit, native_values},
};

/// Number of values of a part, as far as groups can be cut: they fit the second-level cache.
const PART_VALUES: usize = 1 << 18;

/// Values of groups.
#[derive(Debug)]
pub struct Pencils(Kind);

/// Values of one of the types in which they are kept.
#[derive(Debug)]
enum Kind {
    Singles(TypedPencils<f32>),
    Doubles(TypedPencils<f64>),
    Integers(TypedPencils<i64>),
}

/// Part of the groups with their values.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say all")]
pub enum PencilPart {
    Singles(TypedPart<f32>),
    Doubles(TypedPart<f64>),
    Integers(TypedPart<i64>),
}

/// Values of one type.
#[derive(Debug)]
struct TypedPencils<T> {
    /// Binary logarithm of the number of groups of a part.
    shift: u32,
    parts: Vec<Mutex<TypedPart<T>>>,
}

/// Values of consecutive groups.
#[derive(Debug)]
pub struct TypedPart<T> {
    /// Start of each group's place in the buffer, followed by the end of the last one's.
    starts: Vec<usize>,
    /// End of each group's values.
    ends: Vec<usize>,
    values: Vec<T>,
}

/// Consecutive values of a tile's cells.
struct Cells<'a, T> {
    first: usize,
    values: &'a [T],
    /// Cells that count, if not all.
    rows: Option<&'a BooleanBuffer>,
    skip_nan: bool,
}

/// Parts that a task adds to, of which it has locked one.
struct Writer<'a, T> {
    pencils: &'a TypedPencils<T>,
    locked: Option<(usize, MutexGuard<'a, TypedPart<T>>)>,
}

impl Pencils {
    /// Places for values of groups with these numbers of cells. `None` for a type in which values aren't kept.
    #[must_use]
    pub fn new(data_type: &DataType, cells: &[usize]) -> Option<Self> {
        Some(Self(match data_type {
            DataType::Float32 => Kind::Singles(TypedPencils::new(cells)),
            DataType::Float64 => Kind::Doubles(TypedPencils::new(cells)),
            DataType::Int64 => Kind::Integers(TypedPencils::new(cells)),
            _ => return None,
        }))
    }

    /// Bytes of the places of groups that have so many cells in total, for values of `width` bytes.
    #[must_use]
    pub fn bytes(groups: usize, cells: usize, width: usize) -> usize {
        cells.saturating_mul(width).saturating_add(groups.saturating_mul(16))
    }

    /// Adds the values of a tile's cells from `first` on, where the mask `rows` is true. NULL isn't added, nor NaN if
    /// `skip_nan`.
    ///
    /// # Errors
    /// [`Misfit`] for values of another type.
    pub fn add(
        &self,
        layout: &GroupLayout,
        first: usize,
        values: &dyn Array,
        skip_nan: bool,
        rows: Option<&BooleanBuffer>,
    ) -> Result<(), Misfit> {
        let valid =
            values.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner());
        let both;
        let rows = match (valid, rows) {
            (Some(valid), Some(rows)) => {
                both = valid & rows;
                Some(&both)
            }
            (valid, rows) => valid.or(rows),
        };
        let data = values.to_data();
        macro_rules! add {
            ($pencils:expr) => {{
                let values = native_values(&data).ok_or(Misfit)?;
                $pencils.add(layout, &Cells { first, values: &values, rows, skip_nan });
            }};
        }
        match (&self.0, data.data_type()) {
            (Kind::Singles(pencils), DataType::Float32) => add!(pencils),
            (Kind::Doubles(pencils), DataType::Float64) => add!(pencils),
            (Kind::Integers(pencils), DataType::Int64) => add!(pencils),
            _ => return Err(Misfit),
        }
        Ok(())
    }

    /// The parts, in the order of their groups.
    #[must_use]
    pub fn into_parts(self) -> Vec<PencilPart> {
        match self.0 {
            Kind::Singles(own) => own.into_parts().map(PencilPart::Singles).collect(),
            Kind::Doubles(own) => own.into_parts().map(PencilPart::Doubles).collect(),
            Kind::Integers(own) => own.into_parts().map(PencilPart::Integers).collect(),
        }
    }
}

impl<T> TypedPart<T> {
    /// Number of groups.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.ends.len()
    }

    /// Values of each group. Their order within a group means nothing, and may be changed.
    pub fn pencils(&mut self) -> impl Iterator<Item = &mut [T]> {
        let mut rest = self.values.as_mut_slice();
        self.starts.windows(2).zip(&self.ends).map(move |(place, end)| {
            let (own, others) = take(&mut rest).split_at_mut(place[1] - place[0]);
            rest = others;
            &mut own[..end - place[0]]
        })
    }

    /// The rest of a group's place.
    fn free(&mut self, group: usize) -> &mut [T] {
        &mut self.values[self.ends[group]..self.starts[group + 1]]
    }
}

impl<T: Native> TypedPencils<T> {
    fn new(cells: &[usize]) -> Self {
        let all: usize = cells.iter().fold(0, |all, cells| all.saturating_add(*cells));
        let parts = all.div_ceil(PART_VALUES).clamp(1, cells.len().max(1));
        let shift = (cells.len() / parts).max(1).ilog2();
        let parts = cells.chunks(1 << shift).map(|cells| {
            let mut starts = Vec::with_capacity(cells.len() + 1);
            let mut end = 0;
            for cells in cells {
                starts.push(end);
                end += cells;
            }
            starts.push(end);
            let ends = starts[..cells.len()].to_vec();
            Mutex::new(TypedPart { starts, ends, values: vec![T::usize_as(0); end] })
        });
        Self { shift, parts: parts.collect() }
    }

    fn into_parts(self) -> impl Iterator<Item = TypedPart<T>> {
        self.parts.into_iter().map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, layout: &GroupLayout, cells: &Cells<'_, T>) {
        let mut writer = Writer { pencils: self, locked: None };
        let range = cells.first..cells.first + cells.values.len();
        if let Some(rows) = layout.repeated_rows(range.clone()) {
            for (group, starts) in rows.by_group() {
                writer.columns(group, rows.len(), starts, cells);
            }
            return;
        }
        layout.segments(range, |segment, range| match segment {
            Segment::Same(group) => writer.push_all(group, cells, range),
            Segment::Ascending(first) => {
                for (group, cell) in (first..).zip(range) {
                    writer.push_all(group, cells, cell..cell + 1);
                }
            }
            Segment::Scattered(base, offsets) => {
                for (offset, cell) in offsets.iter().zip(range) {
                    writer.push_all(base + *offset as usize, cells, cell..cell + 1);
                }
            }
        });
    }
}

impl<T: Native> Cells<'_, T> {
    fn counts(&self, cell: usize) -> bool {
        !(self.skip_nan && self.values[cell].is_nan())
            && self.rows.is_none_or(|rows| rows.value(cell))
    }
}

impl<T: Native> Writer<'_, T> {
    /// The part of a group, locked, and the group's number in it.
    fn part(&mut self, group: usize) -> (&mut TypedPart<T>, usize) {
        let number = group >> self.pencils.shift;
        if self.locked.as_ref().is_none_or(|(locked, _)| *locked != number) {
            // Only one is locked at a time.
            self.locked = None;
        }
        let parts = &self.pencils.parts;
        let (_, part) = self.locked.get_or_insert_with(|| {
            (number, parts[number].lock().unwrap_or_else(PoisonError::into_inner))
        });
        (part, group & ((1 << self.pencils.shift) - 1))
    }

    /// Adds cells of one group.
    fn push_all(&mut self, group: usize, cells: &Cells<'_, T>, range: Range<usize>) {
        let (part, group) = self.part(group);
        let mut added = 0;
        let free = part.free(group);
        for cell in range {
            if cells.counts(cell)
                && let Some(place) = free.get_mut(added)
            {
                *place = cells.values[cell];
                added += 1;
            }
        }
        part.ends[group] += added;
    }

    /// Adds rows of cells, each of which starts with the same group and has the next group in each next cell. Goes
    /// along the columns: a group's values are written one after the other.
    fn columns(&mut self, first: usize, len: usize, rows: &[usize], cells: &Cells<'_, T>) {
        for column in 0..len {
            let (part, group) = self.part(first + column);
            let free = part.free(group);
            let mut added = 0;
            for row in rows {
                let cell = row + column;
                let value = cells.values[cell];
                if let Some(place) = free.get_mut(added) {
                    // Written again by the next value if this one doesn't count.
                    *place = value;
                    added += usize::from(cells.counts(cell));
                }
            }
            part.ends[group] += added;
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Int64Array};
    use proptest::prelude::*;

    use super::*;
    use crate::reduce::GroupKeys;

    fn values(pencils: Pencils) -> Vec<Vec<f32>> {
        let parts = pencils.into_parts().into_iter();
        parts
            .flat_map(|part| match part {
                PencilPart::Singles(mut part) => {
                    assert_eq!(part.groups(), part.pencils().count());
                    part.pencils().map(|pencil| pencil.to_vec()).collect::<Vec<_>>()
                }
                _ => panic!("pencils of another type"),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn each_group_has_its_values(
            shape in (1_usize..9, 1_usize..5, 1_usize..60),
            key in 0..6,
            holes in prop::collection::vec(0_u8..12, 1..300),
            masked: bool,
            skip_nan: bool,
            cuts in prop::collection::vec(any::<usize>(), 0..3),
        ) {
            let shape = [shape.0, shape.1, shape.2];
            let keys = |dim: usize, id: &dyn Fn(u32) -> u32| GroupKeys {
                dims: vec![dim],
                offsets: (0..shape[dim] as u32).map(id).collect(),
            };
            let keys = match key {
                0 => vec![],
                1 => vec![keys(1, &|i| i)],
                2 => vec![keys(2, &|i| i), keys(1, &|i| i * 60)],
                3 => vec![keys(2, &|i| i / 12)],
                4 => vec![keys(2, &|i| i), keys(1, &|i| i * 60), keys(0, &|i| 300 * (i % 2))],
                _ => vec![keys(2, &|i| i * 7 % 31), keys(0, &|i| 31 * (i % 2))],
            };
            let layout = GroupLayout::new(&shape, &keys);
            let cells = layout.cells();
            let holes: Vec<u8> = holes.iter().copied().cycle().take(cells).collect();
            let array: Float32Array = holes
                .iter()
                .enumerate()
                .map(|(cell, hole)| match hole {
                    0 => None,
                    1 => Some(f32::NAN),
                    _ => Some(cell as f32),
                })
                .collect();
            let mask: BooleanBuffer = holes.iter().map(|hole| *hole != 5).collect();
            let mask = masked.then_some(&mask);
            let mut counts = vec![0; 700];
            let mut expected = vec![Vec::new(); 700];
            let mut cell = 0;
            layout.groups(0..cells, |group| {
                counts[group] += 1;
                if array.is_valid(cell)
                    && mask.is_none_or(|mask| mask.value(cell))
                    && !(skip_nan && array.value(cell).is_nan())
                {
                    expected[group].push(array.value(cell));
                }
                cell += 1;
            });
            let pencils = Pencils::new(&DataType::Float32, &counts).unwrap();
            let mut ends = vec![0, cells];
            ends.extend(cuts.iter().map(|cut| cut % (cells + 1)));
            ends.sort_unstable();
            for pair in ends.windows(2) {
                let len = pair[1] - pair[0];
                let rows = mask.map(|mask| mask.slice(pair[0], len));
                let part = array.slice(pair[0], len);
                pencils.add(&layout, pair[0], &part, skip_nan, rows.as_ref()).unwrap();
            }
            for (mut own, mut plain) in values(pencils).into_iter().zip(expected) {
                own.sort_by(f32::total_cmp);
                plain.sort_by(f32::total_cmp);
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                prop_assert_eq!(bits(own), bits(plain));
            }
        }
    }

    #[test]
    fn many_groups_lie_in_several_parts() {
        let pencils = Pencils::new(&DataType::Float32, &vec![PART_VALUES / 10; 100]).unwrap();
        let parts = pencils.into_parts();
        assert!(parts.len() >= 10, "{}", parts.len());
        // One group can't be cut.
        let parts = Pencils::new(&DataType::Int64, &[PART_VALUES * 3]).unwrap().into_parts();
        assert_eq!(parts.len(), 1);
        assert_eq!(Pencils::new(&DataType::Float64, &[]).unwrap().into_parts().len(), 0);
        assert!(Pencils::new(&DataType::Utf8, &[1]).is_none());
    }

    #[test]
    fn values_of_another_type_are_refused() {
        let layout = GroupLayout::new(&[2], &[]);
        let pencils = Pencils::new(&DataType::Float32, &[2]).unwrap();
        let wrong = Int64Array::from(vec![1, 2]);
        assert_eq!(pencils.add(&layout, 0, &wrong, true, None), Err(Misfit));
        // What is more than a group has cells is left out, not put into the next group.
        let more = Float32Array::from(vec![1.0; 2]);
        pencils.add(&layout, 0, &more, true, None).unwrap();
        pencils.add(&layout, 0, &more, true, None).unwrap();
        assert_eq!(values(pencils), [[1.0, 1.0]]);
    }
}
