//! All values of each group: for statistics that no state of fixed size has, such as the median.
//!
//! How many cells a group has is known, so each group has its place in one buffer. Groups lie in parts, each behind a
//! lock of its own: several tasks add values at the same time, and parts are evaluated in parallel.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::{array::Array, buffer::BooleanBuffer, datatypes::DataType};

use super::{
    layout::{GroupLayout, Segment},
    native::Native,
    pencil_part::{Cells, TypedPart},
    reduction::{Misfit, native_values},
};
use crate::{huge_pages, simd::Simd};

/// Number of values of a part, as far as groups can be cut: they fit the second-level cache.
const PART_VALUES: usize = 1 << 18;

/// Values of groups.
#[derive(Debug)]
pub struct Pencils {
    kind: Kind,
    keeps_nan: bool,
}

/// Which values are kept, and how cells come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PencilKind {
    /// Whether NaN that isn't NULL is kept.
    pub keeps_nan: bool,
    /// Whether cells side by side belong to different groups.
    pub across: bool,
}

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

/// Parts that a task adds to, of which it has locked one.
struct Writer<'a, T> {
    pencils: &'a TypedPencils<T>,
    locked: Option<(usize, MutexGuard<'a, TypedPart<T>>)>,
}

impl Pencils {
    /// Places for values of groups with these numbers of cells. `None` for a type in which values aren't kept.
    #[must_use]
    pub fn new(data_type: &DataType, cells: &[usize], kind: PencilKind) -> Option<Self> {
        let keeps_nan = kind.keeps_nan;
        let kind = match data_type {
            DataType::Float32 => Kind::Singles(TypedPencils::new(cells, kind)),
            DataType::Float64 => Kind::Doubles(TypedPencils::new(cells, kind)),
            DataType::Int64 => Kind::Integers(TypedPencils::new(cells, kind)),
            _ => return None,
        };
        Some(Self { kind, keeps_nan })
    }

    /// Bytes of the places of groups that have so many cells in total, for values of `width` bytes.
    #[must_use]
    pub fn bytes(groups: usize, cells: usize, width: usize) -> usize {
        cells.saturating_mul(width).saturating_add(groups.saturating_mul(16))
    }

    /// Adds the values of a tile's cells from `first` on, where the mask `rows` is true. NULL isn't added, nor NaN if
    /// `nan_is_null` or NaN isn't kept.
    ///
    /// # Errors
    /// [`Misfit`] for values of another type.
    pub fn add(
        &self,
        layout: &GroupLayout,
        first: usize,
        values: &dyn Array,
        nan_is_null: bool,
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
        // What is never kept is left out when all values are there.
        let skip_nan = nan_is_null && self.keeps_nan;
        macro_rules! add {
            ($pencils:expr) => {{
                let values = native_values(&data).ok_or(Misfit)?;
                let skip_nan = skip_nan && Simd::detect().sum(&values).is_nan();
                $pencils.add(layout, &Cells { first, values: &values, rows, skip_nan });
            }};
        }
        match (&self.kind, data.data_type()) {
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
        match self.kind {
            Kind::Singles(own) => own.into_parts().map(PencilPart::Singles).collect(),
            Kind::Doubles(own) => own.into_parts().map(PencilPart::Doubles).collect(),
            Kind::Integers(own) => own.into_parts().map(PencilPart::Integers).collect(),
        }
    }
}

impl<T: Native> TypedPencils<T> {
    fn new(cells: &[usize], PencilKind { keeps_nan, across }: PencilKind) -> Self {
        let all: usize = cells.iter().fold(0, |all, cells| all.saturating_add(*cells));
        let parts = all.div_ceil(PART_VALUES).clamp(1, cells.len().max(1));
        let shift = (cells.len() / parts).max(1).ilog2();
        let mut memory = huge_pages::zeroed(TypedPart::<T>::bytes(cells));
        let parts = cells.chunks(1 << shift).map(|cells| {
            let own = memory.split_to(TypedPart::<T>::bytes(cells));
            Mutex::new(TypedPart::new(cells, own, across, !keeps_nan))
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
                writer.push_rows(group, rows.len(), starts, cells);
            }
            return;
        }
        layout.segments(range, |segment, range| match segment {
            Segment::Same(group) => {
                let (part, group) = writer.part(group);
                part.push_all(group, cells, range);
            }
            Segment::Ascending(first) => {
                writer.push_rows(first, range.len(), &[range.start], cells);
            }
            Segment::Scattered(base, offsets) => {
                for (offset, cell) in offsets.iter().zip(range) {
                    let (part, group) = writer.part(base + *offset as usize);
                    part.push_all(group, cells, cell..cell + 1);
                }
            }
        });
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

    /// Adds rows of `len` cells, each of which starts with the group `first` and has the next group in each next cell.
    fn push_rows(&mut self, first: usize, len: usize, rows: &[usize], cells: &Cells<'_, T>) {
        let mut column = 0;
        while column < len {
            let (part, group) = self.part(first + column);
            let own = (part.groups() - group).min(len - column);
            part.push_rows(group, own, rows.iter().map(|row| row + column), cells);
            column += own;
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
            (keeps_nan, nan_is_null, across) in any::<(bool, bool, bool)>(),
            alike: bool,
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
                    && !((nan_is_null || !keeps_nan) && array.value(cell).is_nan())
                {
                    expected[group].push(array.value(cell));
                }
                cell += 1;
            });
            if alike {
                let most = counts.iter().max().copied().unwrap_or(0);
                counts.fill(most);
            }
            let kind = PencilKind { keeps_nan, across };
            let pencils = Pencils::new(&DataType::Float32, &counts, kind).unwrap();
            let mut ends = vec![0, cells];
            ends.extend(cuts.iter().map(|cut| cut % (cells + 1)));
            ends.sort_unstable();
            for pair in ends.windows(2) {
                let len = pair[1] - pair[0];
                let rows = mask.map(|mask| mask.slice(pair[0], len));
                let part = array.slice(pair[0], len);
                pencils.add(&layout, pair[0], &part, nan_is_null, rows.as_ref()).unwrap();
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
    fn blocks_of_large_groups_are_smaller() {
        const GROUPS: usize = 20;
        for size in [1, PART_VALUES / 20, PART_VALUES / 3] {
            let kind = PencilKind { across: true, ..PencilKind::default() };
            let pencils = Pencils::new(&DataType::Float32, &[size; GROUPS], kind).unwrap();
            let keys = [GroupKeys { dims: vec![1], offsets: (0..20).collect() }];
            let layout = GroupLayout::new(&[size, GROUPS], &keys);
            let rows = (0..GROUPS * size).map(|cell| (cell % GROUPS) as f32);
            let rows = Float32Array::from_iter_values(rows);
            pencils.add(&layout, 0, &rows, true, None).unwrap();
            for (group, pencil) in values(pencils).into_iter().enumerate() {
                assert!(pencil.len() == size && pencil.iter().all(|own| *own == group as f32));
            }
        }
    }

    #[test]
    fn many_groups_lie_in_several_parts() {
        let pencils =
            Pencils::new(&DataType::Float32, &vec![PART_VALUES / 10; 100], PencilKind::default())
                .unwrap();
        let parts = pencils.into_parts();
        assert!(parts.len() >= 10, "{}", parts.len());
        // One group can't be cut.
        let parts = Pencils::new(&DataType::Int64, &[PART_VALUES * 3], PencilKind::default())
            .unwrap()
            .into_parts();
        assert_eq!(parts.len(), 1);
        assert_eq!(
            Pencils::new(&DataType::Float64, &[], PencilKind::default())
                .unwrap()
                .into_parts()
                .len(),
            0
        );
        assert!(Pencils::new(&DataType::Utf8, &[1], PencilKind::default()).is_none());
    }

    #[test]
    fn values_of_another_type_are_refused() {
        let layout = GroupLayout::new(&[2], &[]);
        let pencils = Pencils::new(&DataType::Float32, &[2], PencilKind::default()).unwrap();
        let wrong = Int64Array::from(vec![1, 2]);
        assert_eq!(pencils.add(&layout, 0, &wrong, true, None), Err(Misfit));
        // What is more than a group has cells is left out, not put into the next group.
        let more = Float32Array::from(vec![1.0; 2]);
        pencils.add(&layout, 0, &more, true, None).unwrap();
        pencils.add(&layout, 0, &more, true, None).unwrap();
        assert_eq!(values(pencils), [[1.0, 1.0]]);
    }
}
