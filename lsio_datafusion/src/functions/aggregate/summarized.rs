//! [`Collector`] of a [`Summary`].

use std::{fmt, sync::Arc};

use arrow::array::{ArrayRef, Float64Array};
use datafusion::error::Result;

use super::{
    collector::{Collector, GroupedRows},
    rows::{doubles, for_each},
    summary::Summary,
};

/// Result of a group's summary.
pub(super) type Finish<S> = fn(&S) -> Option<f64>;

/// Keeps a summary of each group.
pub(super) struct Summarized<S, const K: usize, const W: usize> {
    finish: Finish<S>,
}

impl<S, const K: usize, const W: usize> Summarized<S, K, W> {
    pub(super) fn new(finish: Finish<S>) -> Self {
        Self { finish }
    }
}

impl<S, const K: usize, const W: usize> fmt::Debug for Summarized<S, K, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summarized").finish_non_exhaustive()
    }
}

impl<S: Summary<K, W>, const K: usize, const W: usize> Collector for Summarized<S, K, W> {
    type GroupState = S;

    fn update(&self, groups: &mut [S], rows: &GroupedRows<'_>) -> Result<usize> {
        for_each(rows.columns, rows.filter(), |row, values| groups[rows.group(row)].add(values))?;
        Ok(0)
    }

    fn merge(&self, groups: &mut [S], states: &GroupedRows<'_>) -> Result<usize> {
        let columns = doubles::<W>(states.columns)?;
        for (row, group) in states.kept() {
            groups[group].merge(&S::from_doubles(columns.map(|column| column.value(row))));
        }
        Ok(0)
    }

    fn state(&self, groups: &[S]) -> Result<Vec<ArrayRef>> {
        let mut columns: [Vec<f64>; W] = std::array::from_fn(|_| Vec::with_capacity(groups.len()));
        for group in groups {
            for (column, double) in columns.iter_mut().zip(group.to_doubles()) {
                column.push(double);
            }
        }
        Ok(columns.map(|column| Arc::new(Float64Array::from(column)) as ArrayRef).to_vec())
    }

    fn evaluate(&self, groups: &mut [S]) -> Result<ArrayRef> {
        let results = groups.iter().map(|group| (self.finish)(group));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn bytes(_group: &S) -> usize {
        0
    }
}
