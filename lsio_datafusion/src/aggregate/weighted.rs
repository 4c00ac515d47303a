//! Sums of a column times a factor that lacks some of its dimensions, such as the cosine of the
//! latitude: the column is summed for each value of the factor, and multiplied once for all of them.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, Float64Type},
};
use lsio_core::reduce::{GroupKeys, GroupLayout, Reduction, Wanted};

/// Least number of cells for each value of a factor, on average.
const SHARED: usize = 16;

/// Sums of a tile.
#[derive(Debug)]
pub(super) struct WeightedSum {
    /// Position of the streamed column that is summed.
    pub(super) column: usize,
    pub(super) layout: GroupLayout,
    pub(super) sums: Reduction,
    /// One for each sum.
    targets: Vec<Target>,
}

/// The values of a factor along some of a tile's dimensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor<'a> {
    pub(super) dims: &'a [usize],
    pub(super) values: &'a ArrayRef,
}

/// The group that a sum is added to after multiplication.
#[derive(Clone, Copy, Debug)]
struct Target {
    group: usize,
    factor: f64,
}

impl WeightedSum {
    /// Prepares sums of a column of this type. `None` if there are too few cells for each value of the
    /// factor, the factor isn't a finite number everywhere, or a key varies along some of its dimensions and
    /// others.
    pub(super) fn new(
        column: usize,
        data_type: &DataType,
        shape: &[usize],
        keys: &[GroupKeys],
        Factor { dims, values }: Factor<'_>,
    ) -> Option<Self> {
        let factor = values.as_primitive_opt::<Float64Type>()?;
        if factor.null_count() > 0 || !factor.values().iter().all(|f| f.is_finite()) {
            return None;
        }
        let (beside, across): (Vec<&GroupKeys>, Vec<&GroupKeys>) =
            keys.iter().partition(|keys| keys.dims.iter().all(|dim| dims.contains(dim)));
        if across.iter().any(|keys| keys.dims.iter().any(|dim| dims.contains(dim))) {
            return None;
        }
        let most = shape.iter().product::<usize>() / SHARED;
        let (mut own, targets) = renumber(&across, most)?;
        let stride = u32::try_from(targets.len()).ok()?;
        if targets.len().checked_mul(factor.len())? > most {
            return None;
        }
        let offsets = (0..u32::try_from(factor.len()).ok()?).map(|i| i * stride).collect();
        own.push(GroupKeys { dims: dims.to_vec(), offsets });
        let targets = factor.values().iter().enumerate().flat_map(|(position, factor)| {
            let group: usize =
                beside.iter().map(|keys| offset_at(keys, dims, position, shape)).sum();
            targets.iter().map(move |target| Target { group: target + group, factor: *factor })
        });
        let targets: Vec<_> = targets.collect();
        let wanted = Wanted { sum: true, ..Wanted::default() };
        let sums = Reduction::new(data_type, wanted, targets.len())?;
        Some(Self { column, layout: GroupLayout::new(shape, &own), sums, targets })
    }

    /// Multiplies the sums, and adds the products to the groups.
    pub(super) fn finish(self, groups: &mut Reduction) {
        let states = self.sums.finish();
        for (Target { group, factor }, (sum, count)) in
            self.targets.into_iter().zip(states.sums.into_iter().zip(states.counts.iter()))
        {
            if count > 0 {
                groups.add_sum(group, sum * factor, count);
                groups.add_weight(group, factor * count as f64);
            }
        }
    }
}

/// Renumbers the groups of a tile densely; `None` if there are more than `most`. Returns the keys for the new
/// numbers, and the group of each new number.
fn renumber(keys: &[&GroupKeys], most: usize) -> Option<(Vec<GroupKeys>, Vec<usize>)> {
    let mut own = Vec::new();
    let mut groups = vec![0_usize];
    for keys in keys {
        let mut distinct = keys.offsets.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let stride = u32::try_from(groups.len()).ok()?;
        if groups.len().checked_mul(distinct.len())? > most {
            return None;
        }
        let number = |offset: &u32| {
            let position = distinct.binary_search(offset).unwrap_or(0);
            u32::try_from(position).unwrap_or(u32::MAX).saturating_mul(stride)
        };
        let offsets = keys.offsets.iter().map(number).collect();
        own.push(GroupKeys { dims: keys.dims.clone(), offsets });
        groups = distinct
            .iter()
            .flat_map(|offset| groups.iter().map(|group| group + *offset as usize))
            .collect();
    }
    Some((own, groups))
}

/// Offset of a key at a position along `dims`, which include the key's dimensions.
fn offset_at(keys: &GroupKeys, dims: &[usize], position: usize, shape: &[usize]) -> usize {
    let mut stride = 1;
    let mut at = 0;
    for dim in keys.dims.iter().rev() {
        let inner = dims.iter().rev().take_while(|other| *other != dim);
        let inner: usize = inner.map(|&dim| shape[dim]).product();
        at += position / inner.max(1) % shape[*dim].max(1) * stride;
        stride *= shape[*dim];
    }
    keys.offsets.get(at).map_or(0, |offset| *offset as usize)
}
