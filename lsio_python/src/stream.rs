//! Results as Arrow streams, computed as they are taken.

use std::{
    fmt,
    sync::Arc,
    thread::{self, ThreadId},
};

use arrow::{
    array::{Array as _, ArrayData, ArrayRef, MutableArrayData, RecordBatch, make_array},
    datatypes::SchemaRef,
    error::ArrowError,
    record_batch::RecordBatchReader,
};
use datafusion::{dataframe::DataFrame, error::Result};
use lsio_core::uring::is_read_memory;
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
}

/// What came of waiting for a batch.
enum Polled {
    Batch(Result<RecordBatch>),
    Ended,
    Waiting,
    Interrupted,
}

fn poll(runtime: &Handle, batches: &mut Receiver<Result<RecordBatch>>) -> Polled {
    match runtime.block_on(async { timeout(LOOK, batches.recv()).await }) {
        Ok(Some(batch)) => Polled::Batch(batch),
        Ok(None) => Polled::Ended,
        Err(_) => Polled::Waiting,
    }
}

/// The same after a look for signals, and without the interpreter's lock, which the caller may hold and the query may need.
/// The exception of Ctrl-C can't be raised here; raised again when the caller returns, it would come while pyarrow makes an
/// exception of our error, which ends the process. So the error stands for both.
fn poll_detached(runtime: &Handle, batches: &mut Receiver<Result<RecordBatch>>) -> Polled {
    let polled = Python::try_attach(|py| match py.check_signals() {
        Ok(()) => py.detach(|| poll(runtime, batches)),
        Err(_) => Polled::Interrupted,
    });
    polled.unwrap_or_else(|| poll(runtime, batches))
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
        let State::Running(running) = &mut self.state else { return None };
        let mut polled = poll(&self.runtime, &mut running.batches);
        while let Polled::Waiting = polled {
            polled = if thread::current().id() == self.maker {
                poll_detached(&self.runtime, &mut running.batches)
            } else {
                poll(&self.runtime, &mut running.batches)
            };
        }
        let failed = match polled {
            Polled::Batch(Ok(batch)) => return Some(kept(batch)),
            Polled::Batch(Err(error)) => Some(ArrowError::ExternalError(Box::new(error))),
            Polled::Interrupted => {
                Some(ArrowError::ComputeError("interrupted by Ctrl-C".to_owned()))
            }
            Polled::Ended | Polled::Waiting => None,
        };
        self.state = State::Ended;
        failed.map(Err)
    }
}

impl RecordBatchReader for QueryReader {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

/// A batch that its taker may keep: without memory that is for reads, which a forked process doesn't have.
pub(crate) fn kept(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !batch.columns().iter().any(|column| is_lent(&column.to_data())) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(|column| {
        let data = column.to_data();
        if is_lent(&data) { copied(&data) } else { Ok(ArrayRef::clone(column)) }
    });
    RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)
}

fn is_lent(data: &ArrayData) -> bool {
    let nulls = data.nulls().is_some_and(|nulls| is_read_memory(nulls.buffer()));
    let buffers = data.buffers().iter().any(|buffer| is_read_memory(buffer));
    nulls || buffers || data.child_data().iter().any(is_lent)
}

fn copied(data: &ArrayData) -> Result<ArrayRef, ArrowError> {
    let mut copy = MutableArrayData::new(vec![data], false, data.len());
    copy.try_extend(0, 0, data.len())?;
    Ok(make_array(copy.freeze()))
}
