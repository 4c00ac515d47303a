//! Sums of a column times a factor that lacks some of its dimensions, such as the cosine of the
//! latitude: the column is summed for each value of the factor, and multiplied once for all of them.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, Float64Type},
};
use lsio_core::reduce::{Keys, Layout, Reduction, Wanted};

/// The cells, on average, that a factor must be for.
const SHARED: usize = 16;

/// The sums of a tile.
#[derive(Debug)]
pub(super) struct WeightedSum {
    /// The streamed column that is summed, by its position.
    pub(super) column: usize,
    pub(super) layout: Layout,
    pub(super) sums: Reduction,
    /// Of each sum, the group that it belongs to, and its factor.
    targets: Vec<(usize, f64)>,
}

impl WeightedSum {
    /// For a column of this type, and a factor along `dims`. `None` if that isn't worth its while, the
    /// factor isn't a finite number everywhere, or it varies along the same dimensions as a key.
    pub(super) fn new(
        (column, data_type): (usize, &DataType),
        shape: &[usize],
        keys: &[Keys],
        (dims, factor): (&[usize], &ArrayRef),
    ) -> Option<Self> {
        let factor = factor.as_primitive_opt::<Float64Type>()?;
        let usable = factor.null_count() == 0 && factor.values().iter().all(|f| f.is_finite());
        if !usable || keys.iter().any(|keys| keys.dims.iter().any(|dim| dims.contains(dim))) {
            return None;
        }
        let cells: usize = shape.iter().product();
        // The groups of the tile, numbered anew so that there are few.
        let mut own: Vec<Keys> = Vec::new();
        let mut targets = vec![(0_usize, 1.0)];
        for keys in keys {
            let mut distinct = keys.offsets.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let stride = u32::try_from(targets.len()).ok()?;
            if targets.len().checked_mul(distinct.len())? > cells / SHARED {
                return None;
            }
            let number = |offset: &u32| {
                let position = distinct.binary_search(offset).unwrap_or(0);
                u32::try_from(position).unwrap_or(u32::MAX).saturating_mul(stride)
            };
            if !keys.dims.is_empty() {
                let offsets = keys.offsets.iter().map(number).collect();
                own.push(Keys { dims: keys.dims.clone(), offsets });
            }
            targets = distinct
                .iter()
                .flat_map(|offset| targets.iter().map(|(g, f)| (g + *offset as usize, *f)))
                .collect();
        }
        let stride = u32::try_from(targets.len()).ok()?;
        if targets.len().checked_mul(factor.len())? > cells / SHARED {
            return None;
        }
        let offsets = (0..u32::try_from(factor.len()).ok()?).map(|i| i * stride).collect();
        own.push(Keys { dims: dims.to_vec(), offsets });
        targets = factor
            .values()
            .iter()
            .flat_map(|factor| targets.iter().map(|(group, _)| (*group, *factor)))
            .collect();
        let wanted = Wanted { sum: true, ..Wanted::default() };
        let sums = Reduction::new(data_type, wanted, targets.len())?;
        Some(Self { column, layout: Layout::new(shape, &own), sums, targets })
    }

    /// Multiplies, and adds the products to the groups.
    pub(super) fn finish(self, groups: &mut Reduction) {
        let states = self.sums.finish();
        for ((group, factor), (sum, count)) in
            self.targets.into_iter().zip(states.sums.into_iter().zip(states.counts))
        {
            if count > 0 {
                groups.add_sum(group, sum * factor, count);
                groups.add_weight(group, factor * count as f64);
            }
        }
    }
}
