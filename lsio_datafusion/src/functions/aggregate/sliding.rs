//! Sliding frames of windows.

use std::mem::{size_of, take};

use arrow::array::ArrayRef;
use datafusion::{common::exec_err, error::Result, logical_expr::Accumulator, scalar::ScalarValue};

use super::{rows::for_each, summarized::Finish, summary::Summary};

/// Keeps a [`Summary`] of a sliding frame without subtracting: a queue of two stacks. A row is added at most
/// twice, however long the frame is.
///
/// DataFusion 55.2 subtracts the rows that leave: floats leave a residue, a variance may become negative and
/// its root NaN, and after 10¹⁷ or an infinity every later frame is wrong.
#[derive(Debug)]
pub(super) struct Sliding<S, const K: usize, const W: usize> {
    /// For each older row, the summary from it to the last older row; the oldest row's is last.
    older: Vec<S>,
    /// Newer rows, and their summary.
    newer: Vec<[f64; K]>,
    summary: S,
    finish: Finish<S>,
}

impl<S: Summary<K, W>, const K: usize, const W: usize> Sliding<S, K, W> {
    pub(super) fn new(finish: Finish<S>) -> Self {
        Self { older: Vec::new(), newer: Vec::new(), summary: S::default(), finish }
    }

    /// Removes the oldest row. Returns whether there was one.
    fn pop(&mut self) -> bool {
        if self.older.is_empty() {
            let mut summary = S::default();
            self.older.extend(self.newer.drain(..).rev().map(|row| {
                summary.add(row);
                summary
            }));
            take(&mut self.summary);
        }
        self.older.pop().is_some()
    }

    fn whole(&self) -> S {
        let mut whole = self.older.last().copied().unwrap_or_default();
        whole.merge(&self.summary);
        whole
    }
}

impl<S: Summary<K, W>, const K: usize, const W: usize> Accumulator for Sliding<S, K, W> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each(values, None, |_, row| {
            self.newer.push(row);
            self.summary.add(row);
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut missing = false;
        for_each(values, None, |_, _: [f64; K]| missing |= !self.pop())?;
        if missing {
            return exec_err!("more rows leave the frame of a window than have come to it");
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.finish)(&self.whole())))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.older.capacity() * size_of::<S>()
            + self.newer.capacity() * size_of::<[f64; K]>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.whole().to_doubles().map(ScalarValue::from).to_vec())
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        exec_err!("frames of windows aren't merged")
    }
}
