//! Results as Arrow streams, computed as they are taken.

use std::{
    fmt,
    sync::Arc,
    thread::{self, ThreadId},
};

use arrow::{
    array::RecordBatch, datatypes::SchemaRef, error::ArrowError, record_batch::RecordBatchReader,
};
use datafusion::{dataframe::DataFrame, error::Result};
use pyo3::prelude::*;
use tokio::{runtime::Handle, sync::mpsc::Receiver, time::timeout};

use crate::{running::RunningQuery, wait::LOOK};

/// Batches of a query that runs from the first call on, and ends when this is dropped. Calls may come from any thread
/// that isn't the runtime's.
pub(crate) struct QueryReader {
    schema: SchemaRef,
    runtime: Handle,
    /// The thread that has made this: no other one looks for signals, since it might wait for the interpreter's lock
    /// while whoever holds that waits for a batch.
    maker: ThreadId,
    state: State,
}

enum State {
    /// DuckDB opens three streams for a query, and reads one: nothing runs before that.
    Waiting(Box<DataFrame>),
    Running(RunningQuery),
    Ended,
}

impl QueryReader {
    pub(crate) fn new(frame: DataFrame, schema: SchemaRef, runtime: Handle) -> Self {
        let state = State::Waiting(Box::new(frame));
        Self { schema, runtime, maker: thread::current().id(), state }
    }

    /// Whether Ctrl-C has come. Its exception can't be raised here, and raised again when the caller returns it would come
    /// while pyarrow makes an exception of our error, which ends the process: the error stands for both.
    fn interrupted(&self) -> bool {
        thread::current().id() == self.maker
            && Python::try_attach(|py| py.check_signals().is_err()).unwrap_or(false)
    }
}

/// The next batch, or `None` if there is none yet.
fn poll(
    runtime: &Handle,
    batches: &mut Receiver<Result<RecordBatch>>,
) -> Option<Option<Result<RecordBatch>>> {
    runtime.block_on(async { timeout(LOOK, batches.recv()).await.ok() })
}

impl fmt::Debug for QueryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryReader").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Iterator for QueryReader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let State::Waiting(_) = &self.state
            && let State::Waiting(frame) = std::mem::replace(&mut self.state, State::Ended)
        {
            self.state = State::Running(RunningQuery::start(&self.runtime, *frame, Arc::default()));
        }
        loop {
            let State::Running(running) = &mut self.state else { return None };
            match poll(&self.runtime, &mut running.batches) {
                Some(Some(Ok(batch))) => return Some(Ok(batch)),
                Some(Some(Err(error))) => {
                    self.state = State::Ended;
                    return Some(Err(ArrowError::ExternalError(Box::new(error))));
                }
                Some(None) => self.state = State::Ended,
                None if self.interrupted() => {
                    self.state = State::Ended;
                    return Some(Err(ArrowError::ComputeError("interrupted by Ctrl-C".to_owned())));
                }
                None => {}
            }
        }
    }
}

impl RecordBatchReader for QueryReader {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}
