//! Values in the row where another one is largest or smallest.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use datafusion::error::Result;

use super::{
    collector::{Collector, GroupedRows},
    encoded::OrderedEncoding,
};

/// Keeps the row with the largest or smallest key. Of rows with equal keys it is the one with the smallest
/// value, so that the order of rows doesn't matter.
#[derive(Debug)]
pub(super) struct Extreme {
    largest: bool,
    value: OrderedEncoding,
    key: OrderedEncoding,
}

/// Row kept of a group.
#[derive(Clone, Debug)]
pub(super) struct Best {
    value: Box<[u8]>,
    key: Box<[u8]>,
}

impl Extreme {
    pub(super) fn new(largest: bool, value: OrderedEncoding, key: OrderedEncoding) -> Self {
        Self { largest, value, key }
    }

    fn is_better(&self, value: &[u8], key: &[u8], than: &Best) -> bool {
        let order = key.cmp(&than.key);
        match if self.largest { order.reverse() } else { order } {
            Ordering::Less => true,
            Ordering::Equal => *value < *than.value,
            Ordering::Greater => false,
        }
    }
}

impl Collector for Extreme {
    type GroupState = Option<Best>;

    fn update(&self, groups: &mut [Self::GroupState], rows: &GroupedRows<'_>) -> Result<usize> {
        let [value, key, ..] = rows.columns else { return Ok(0) };
        let (values, keys) = (self.value.encode(value)?, self.key.encode(key)?);
        let (mut before, mut after) = (0, 0);
        for (row, group) in rows.kept() {
            let (Some(value), Some(key)) = (values.get(row), keys.get(row)) else { continue };
            let best = &mut groups[group];
            if best.as_ref().is_none_or(|best| self.is_better(value, key, best)) {
                before += Self::bytes(best);
                *best = Some(Best { value: value.into(), key: key.into() });
                after += Self::bytes(best);
            }
        }
        // The reported size never shrinks where a shorter text replaces a longer one.
        Ok(usize::saturating_sub(after, before))
    }

    fn merge(&self, groups: &mut [Self::GroupState], states: &GroupedRows<'_>) -> Result<usize> {
        // States are rows.
        self.update(groups, states)
    }

    fn state(&self, groups: &[Self::GroupState]) -> Result<Vec<ArrayRef>> {
        let values = groups.iter().map(|best| best.as_ref().map(|best| &*best.value));
        let keys = groups.iter().map(|best| best.as_ref().map(|best| &*best.key));
        Ok(vec![self.value.decode(values)?, self.key.decode(keys)?])
    }

    fn evaluate(&self, groups: &mut [Self::GroupState]) -> Result<ArrayRef> {
        self.value.decode(groups.iter().map(|best| best.as_ref().map(|best| &*best.value)))
    }

    fn bytes(group: &Self::GroupState) -> usize {
        group.as_ref().map_or(0, |best| best.value.len() + best.key.len())
    }
}
