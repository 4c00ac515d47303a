//! `COPY … TO 'file.csv'` with distinct NULL and empty text.

use std::{fmt, sync::Arc};

use arrow::{csv::WriterBuilder, datatypes::SchemaRef, record_batch::RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::{
    common::{
        runtime::SpawnedTask,
        tree_node::{Transformed, TreeNode as _},
    },
    datasource::{
        file_format::{
            csv::CsvSink,
            write::{
                BatchSerializer, demux::DemuxedStreamReceiver,
                orchestration::spawn_writer_tasks_and_join,
            },
        },
        physical_plan::{FileSink, FileSinkConfig},
        sink::{DataSink, DataSinkExec},
    },
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan},
};
use object_store::ObjectStore;

use crate::text::csv;

/// Makes a plan that writes CSV write NULL as nothing, the empty text as `""`, and durations as DuckDB and
/// pandas read them.
///
/// arrow 59's writer, which DataFusion 55.2 uses, writes both as nothing, and six hours as `PT21600S`. It
/// stays where a statement sets how NULL, quotes or times are written.
pub(super) fn told_apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(exec) = node.downcast_ref::<DataSinkExec>() else {
            return Ok(Transformed::no(node));
        };
        let Some(sink) = exec.sink().downcast_ref::<CsvSink>() else {
            return Ok(Transformed::no(node));
        };
        let options = sink.writer_options();
        if !is_default(&options.writer_options) {
            return Ok(Transformed::no(node));
        }
        let sink = Sink(CsvSink::new(sink.config().clone(), options.clone()));
        let input = Arc::clone(exec.input());
        let exec = DataSinkExec::new(input, Arc::new(sink), exec.sort_order().clone());
        Ok(Transformed::yes(Arc::new(exec) as Arc<dyn ExecutionPlan>))
    })
    .map(|plan| plan.data)
}

/// Whether only the header and the delimiter are set.
fn is_default(options: &WriterBuilder) -> bool {
    let plain = WriterBuilder::new().with_header(options.header());
    let plain = plain.with_delimiter(options.delimiter());
    // Doubled quotes equal quotes as the escape.
    let plain = plain.with_double_quote(options.double_quote()).with_escape(options.escape());
    options.double_quote() && format!("{options:?}") == format!("{plain:?}")
}

/// Sink that writes by our CSV writer.
struct Sink(CsvSink);

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DisplayAs for Sink {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as(form, f)
    }
}

#[async_trait]
impl FileSink for Sink {
    fn config(&self) -> &FileSinkConfig {
        self.0.config()
    }

    async fn spawn_writer_tasks_and_join(
        &self,
        context: &Arc<TaskContext>,
        demux: SpawnedTask<Result<()>>,
        files: DemuxedStreamReceiver,
        store: Arc<dyn ObjectStore>,
    ) -> Result<u64> {
        let options = self.0.writer_options();
        let serializer = Rows {
            header: options.writer_options.header(),
            delimiter: options.writer_options.delimiter(),
        };
        spawn_writer_tasks_and_join(
            context,
            Arc::new(serializer),
            options.compression.into(),
            options.compression_level,
            store,
            demux,
            files,
        )
        .await
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        DataSink::schema(&self.0)
    }

    async fn write_all(
        &self,
        data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        FileSink::write_all(self, data, context).await
    }
}

struct Rows {
    header: bool,
    delimiter: u8,
}

impl BatchSerializer for Rows {
    fn serialize(&self, batch: RecordBatch, initial: bool) -> Result<Bytes> {
        let mut out = Vec::with_capacity(4096);
        if self.header && initial {
            let schema = batch.schema();
            let names = schema.fields().iter().map(|field| field.name().as_str());
            csv::header(&mut out, names, self.delimiter)?;
        }
        csv::rows(&mut out, &batch, self.delimiter)?;
        Ok(out.into())
    }
}
