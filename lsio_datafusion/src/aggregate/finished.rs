//! Results of shares of the tiles, which are sent in the order of the shares.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use arrow::array::RecordBatch;
use datafusion::error::Result;
use tokio::sync::mpsc::Sender;

/// Results of a share of the tiles.
#[derive(Default)]
pub(super) struct FinishedShare {
    pub(super) batches: Vec<RecordBatch>,
    /// Bytes that its states had: they count until the results are sent, so that not too many wait.
    pub(super) bytes: usize,
}

/// Results that wait for those of the shares before.
#[derive(Default)]
pub(super) struct FinishedShares {
    waiting: Mutex<BTreeMap<u64, FinishedShare>>,
    /// The share whose results are sent next; locked by the worker that sends.
    next: tokio::sync::Mutex<u64>,
}

impl FinishedShares {
    /// Adds the results of a share.
    pub(super) fn add(&self, share: u64, finished: FinishedShare) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(share, finished);
    }

    /// Sends the results of shares in their order, as far as they are there, in batches of at most `batch_size` rows.
    /// Calls `sent` with the bytes of each share's states. If another worker does so already, it sends these too.
    pub(super) async fn send(
        &self,
        rows: &Sender<Result<RecordBatch>>,
        batch_size: usize,
        sent: impl Fn(usize),
    ) {
        loop {
            let Ok(mut next) = self.next.try_lock() else { return };
            while let Some(FinishedShare { batches, bytes }) = self.take(*next) {
                *next += 1;
                sent(bytes);
                for batch in batches {
                    send(batch, batch_size, rows).await;
                }
            }
            let waiting = *next;
            drop(next);
            // Another worker may have come just before the lock was free again.
            if !self.waiting.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&waiting) {
                return;
            }
        }
    }

    fn take(&self, share: u64) -> Option<FinishedShare> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&share)
    }
}

/// Sends a batch in batches of at most `batch_size` rows.
pub(super) async fn send(
    batch: RecordBatch,
    batch_size: usize,
    rows: &Sender<Result<RecordBatch>>,
) {
    let mut start = 0;
    while start < batch.num_rows() {
        let len = batch_size.min(batch.num_rows() - start);
        // The reader is gone.
        if rows.send(Ok(batch.slice(start, len))).await.is_err() {
            return;
        }
        start += len;
    }
}
