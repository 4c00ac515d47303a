//! Batches of useful size, up to a limit of rows.

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use datafusion::{error::Result, execution::TaskContext};

/// Collects small batches until there are rows enough for one, and cuts off rows beyond a limit.
pub(super) struct Collected {
    schema: SchemaRef,
    /// Small batches, waiting to be concatenated.
    few: Vec<RecordBatch>,
    /// Rows that the limit still allows.
    remaining: Option<usize>,
    batch_size: usize,
    /// Rows given so far.
    given: usize,
}

impl Collected {
    pub(super) fn new(schema: SchemaRef, limit: Option<usize>, context: &TaskContext) -> Self {
        let batch_size = context.session_config().batch_size().max(1);
        Self { schema, few: Vec::new(), remaining: limit, batch_size, given: 0 }
    }

    /// Upper bound on the rows of a batch.
    pub(super) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Rows that the limit still allows.
    pub(super) fn remaining(&self) -> Option<usize> {
        self.remaining
    }

    /// Whether no rows wait.
    pub(super) fn is_empty(&self) -> bool {
        self.few.is_empty()
    }

    /// Whether the limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Adds rows. Returns a batch once there are rows enough: after the first rows fewer, if `early` says that few may
    /// do.
    pub(super) fn add(&mut self, batch: RecordBatch, early: bool) -> Result<Option<RecordBatch>> {
        let mut enough = self.batch_size.min(self.remaining.unwrap_or(usize::MAX)) / 2;
        if early {
            enough = enough.min(self.given);
        }
        if self.few.is_empty() && batch.num_rows() >= enough {
            return Ok(Some(self.limited(batch)));
        }
        self.few.push(batch);
        let rows: usize = self.few.iter().map(RecordBatch::num_rows).sum();
        if rows >= enough { self.rest() } else { Ok(None) }
    }

    /// The rows that are left.
    pub(super) fn rest(&mut self) -> Result<Option<RecordBatch>> {
        let mut few = std::mem::take(&mut self.few);
        let batch = match few.len() {
            0 => return Ok(None),
            1 => few.swap_remove(0),
            _ => concat_batches(&self.schema, &few)?,
        };
        Ok(Some(self.limited(batch)))
    }

    /// Cuts a batch to the limit.
    fn limited(&mut self, batch: RecordBatch) -> RecordBatch {
        self.given += batch.num_rows();
        let Some(remaining) = &mut self.remaining else { return batch };
        let len = batch.num_rows().min(*remaining);
        *remaining -= len;
        batch.slice(0, len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{AsArray as _, Int64Array},
        datatypes::{DataType, Field, Int64Type, Schema},
    };
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    #[test]
    fn rows_stay_in_their_order_up_to_the_limit() {
        let schema = Arc::new(Schema::new(vec![Field::new("i", DataType::Int64, false)]));
        let config = SessionConfig::new().with_batch_size(10);
        let context = SessionContext::new_with_config(config).task_ctx();
        for limit in [None, Some(0), Some(1), Some(7), Some(23), Some(1000)] {
            for early in [false, true] {
                let mut collected = Collected::new(Arc::clone(&schema), limit, &context);
                let (mut rows, mut next) = (Vec::new(), 0);
                let mut take = |batch: Option<RecordBatch>| {
                    let Some(batch) = batch else { return };
                    rows.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
                };
                for len in [1, 2, 1, 0, 3, 10, 9, 1, 4, 1] {
                    if collected.is_full() {
                        break;
                    }
                    let values = Arc::new(Int64Array::from_iter_values(next..next + len));
                    next += len;
                    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![values]).unwrap();
                    take(collected.add(batch, early).unwrap());
                }
                if !collected.is_full() {
                    take(collected.rest().unwrap());
                }
                let expected = 32.min(limit.unwrap_or(usize::MAX)) as i64;
                assert_eq!(rows, (0..expected).collect::<Vec<_>>(), "{limit:?} {early}");
                assert!(
                    limit.is_none_or(|limit| collected.remaining() == Some(limit - rows.len()))
                );
            }
        }
    }
}
