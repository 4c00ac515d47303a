//! Results as streams of batches, computed as they are taken.

use std::fmt;

use arrow::{
    array::{Array as _, ArrayData, ArrayRef, MutableArrayData, RecordBatch, make_array},
    datatypes::SchemaRef,
    error::ArrowError,
    record_batch::RecordBatchReader,
};
use datafusion::{dataframe::DataFrame, error::Result};
use futures::StreamExt as _;
use lsio_core::uring::is_read_memory;
use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, channel},
    task::JoinHandle,
};

/// Batches that are computed before they are asked for.
const AHEAD: usize = 2;

/// Batches of a query that runs from the first call on, and ends when this is dropped. Calls may come from any thread
/// that isn't the runtime's.
pub(crate) struct QueryReader {
    schema: SchemaRef,
    runtime: Handle,
    state: State,
}

enum State {
    /// DuckDB opens three streams for a query, and reads one: nothing runs before that.
    Waiting(Box<DataFrame>),
    Running {
        batches: Receiver<Result<RecordBatch>>,
        task: JoinHandle<()>,
    },
    Ended,
}

impl QueryReader {
    pub(crate) fn new(frame: DataFrame, schema: SchemaRef, runtime: Handle) -> Self {
        Self { schema, runtime, state: State::Waiting(Box::new(frame)) }
    }

    fn start(&self, frame: DataFrame) -> State {
        let (give, batches) = channel(AHEAD);
        let task = self.runtime.spawn(async move {
            let mut stream = match frame.execute_stream().await {
                Ok(stream) => stream,
                Err(error) => {
                    let _ = give.send(Err(error)).await;
                    return;
                }
            };
            while let Some(batch) = stream.next().await {
                if give.send(batch).await.is_err() {
                    return;
                }
            }
        });
        State::Running { batches, task }
    }
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
            self.state = self.start(*frame);
        }
        let State::Running { batches, .. } = &mut self.state else { return None };
        match batches.blocking_recv() {
            Some(Ok(batch)) => Some(kept(batch)),
            Some(Err(error)) => {
                self.state = State::Ended;
                Some(Err(ArrowError::ExternalError(Box::new(error))))
            }
            None => {
                self.state = State::Ended;
                None
            }
        }
    }
}

impl RecordBatchReader for QueryReader {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

impl Drop for QueryReader {
    fn drop(&mut self) {
        if let State::Running { task, .. } = &self.state {
            task.abort();
        }
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
