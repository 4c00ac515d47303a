//! Aggregates of the frequencies of values: the most frequent one, and the entropy.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem::size_of,
    sync::Arc,
};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array},
    datatypes::UInt64Type,
};
use datafusion::error::Result;

use super::{
    collector::{Collector, GroupedRows, as_lists},
    encoded::OrderedEncoding,
    quantiles::{lists_of, lists_of_numbers},
};

/// Counts values.
#[derive(Debug)]
pub(super) struct ValueCounts {
    tells: ValueStatistic,
    encoding: OrderedEncoding,
}

/// Statistic of the counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum ValueStatistic {
    /// Most frequent value; of several the smallest.
    Mode,
    /// Entropy in bits.
    Entropy,
}

/// Bytes of an entry of the map, estimated.
const ENTRY_BYTES: usize = 2 * size_of::<(Box<[u8]>, u64)>();

impl ValueCounts {
    pub(super) fn new(tells: ValueStatistic, encoding: OrderedEncoding) -> Self {
        Self { tells, encoding }
    }
}

/// Shannon: A Mathematical Theory of Communication (1948).
pub(super) fn entropy<'a>(counts: impl Iterator<Item = &'a u64> + Clone) -> f64 {
    let all: f64 = counts.clone().map(|count| *count as f64).sum();
    let bits = |count: &u64| {
        let share = *count as f64 / all;
        share * -share.log2()
    };
    counts.map(bits).sum()
}

/// Counts a value `times` times. Returns the bytes that this takes.
fn count(counts: &mut HashMap<Box<[u8]>, u64>, value: &[u8], times: u64) -> usize {
    if let Some(count) = counts.get_mut(value) {
        *count = count.saturating_add(times);
        return 0;
    }
    match counts.entry(value.into()) {
        Entry::Occupied(_) => 0,
        Entry::Vacant(entry) => {
            entry.insert(times);
            ENTRY_BYTES + value.len()
        }
    }
}

impl Collector for ValueCounts {
    type GroupState = HashMap<Box<[u8]>, u64>;

    fn update(&self, groups: &mut [Self::GroupState], rows: &GroupedRows<'_>) -> Result<usize> {
        let Some(column) = rows.columns.first() else { return Ok(0) };
        let values = self.encoding.encode(column)?;
        let mut bytes = 0;
        for (row, group) in rows.kept() {
            if let Some(value) = values.get(row) {
                bytes += count(&mut groups[group], value, 1);
            }
        }
        Ok(bytes)
    }

    fn merge(&self, groups: &mut [Self::GroupState], states: &GroupedRows<'_>) -> Result<usize> {
        let [values, counts, ..] = states.columns else { return Ok(0) };
        let (values, counts) = (as_lists(values)?, as_lists(counts)?);
        let mut bytes = 0;
        for (row, group) in states.kept().filter(|(row, _)| values.is_valid(*row)) {
            let (values, counts) = (self.encoding.encode(&values.value(row))?, counts.value(row));
            let counts = counts.as_primitive_opt::<UInt64Type>().into_iter().flatten().flatten();
            for (index, times) in counts.enumerate() {
                if let Some(value) = values.get(index) {
                    bytes += count(&mut groups[group], value, times);
                }
            }
        }
        Ok(bytes)
    }

    fn state(&self, groups: &[Self::GroupState]) -> Result<Vec<ArrayRef>> {
        let values =
            lists_of(&self.encoding, groups, |group| group.keys().map(AsRef::as_ref).collect())?;
        let counts: Vec<Vec<u64>> =
            groups.iter().map(|group| group.values().copied().collect()).collect();
        Ok(vec![values, lists_of_numbers::<UInt64Type>(&counts)?])
    }

    fn evaluate(&self, groups: &mut [Self::GroupState]) -> Result<ArrayRef> {
        if let ValueStatistic::Entropy = self.tells {
            let results =
                groups.iter().map(|group| (!group.is_empty()).then(|| entropy(group.values())));
            return Ok(Arc::new(results.collect::<Float64Array>()));
        }
        self.encoding.decode(groups.iter().map(|group| {
            let most = group.iter().max_by(|(a, m), (b, n)| m.cmp(n).then_with(|| b.cmp(a)));
            most.map(|(value, _)| value.as_ref())
        }))
    }

    fn bytes(group: &Self::GroupState) -> usize {
        group.keys().map(|value| ENTRY_BYTES + value.len()).sum()
    }
}
