//! Tables whose rows Python makes, block by block, as they are asked for.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions},
    buffer::NullBuffer,
    compute::nullif,
    datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, TableType},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{TryStreamExt as _, stream};
use pyo3::{prelude::*, types::PyIterator};

use crate::columns;

/// A table of Python's blocks.
pub(crate) struct BlockTable {
    schema: SchemaRef,
    /// Python's object: `scan(names)` iterates over blocks, each the number of its rows and the columns of these names.
    blocks: Arc<Py<PyAny>>,
}

/// Some columns of the table.
struct Blocks {
    schema: SchemaRef,
    blocks: Arc<Py<PyAny>>,
}

impl BlockTable {
    /// A table with columns of these names and types of numpy.
    ///
    /// # Errors
    /// `TypeError`, if values of a type can't be a column.
    pub(crate) fn new(fields: &[(String, String)], blocks: Py<PyAny>) -> PyResult<Self> {
        let fields = fields.iter().map(|(name, dtype)| {
            let data_type = columns::data_type(dtype)?;
            Ok(Field::new(name, data_type, true))
        });
        let schema = Arc::new(Schema::new(fields.collect::<PyResult<Vec<_>>>()?));
        Ok(Self { schema, blocks: Arc::new(blocks) })
    }
}

impl fmt::Debug for BlockTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockTable").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for BlockTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Only the columns that are asked for are made.
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => SchemaRef::clone(&self.schema),
        };
        let blocks = Arc::clone(&self.blocks);
        let blocks = Arc::new(Blocks { schema: SchemaRef::clone(&schema), blocks });
        let plan = StreamingTableExec::try_new(schema, vec![blocks], None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

impl PartitionStream for Blocks {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = SchemaRef::clone(&self.schema);
        let blocks = Arc::clone(&self.blocks);
        let batches = stream::try_unfold(None, move |scan: Option<Py<PyIterator>>| {
            let (schema, blocks) = (SchemaRef::clone(&schema), Arc::clone(&blocks));
            // Python may compute for long: a query's own threads don't wait for it.
            let next = tokio::task::spawn_blocking(move || next(scan, &schema, &blocks));
            async move { next.await.map_err(|e| DataFusionError::External(Box::new(e)))? }
        });
        let schema = SchemaRef::clone(&self.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, batches.into_stream()))
    }
}

/// The next block of a scan, which begins where there is none yet.
fn next(
    scan: Option<Py<PyIterator>>,
    schema: &SchemaRef,
    blocks: &Py<PyAny>,
) -> Result<Option<(RecordBatch, Option<Py<PyIterator>>)>> {
    Python::attach(|py| -> PyResult<_> {
        let scan = match scan {
            Some(scan) => scan.into_bound(py),
            None => {
                let names: Vec<&str> =
                    schema.fields().iter().map(|field| field.name().as_str()).collect();
                blocks.bind(py).call_method1("scan", (names,))?.try_iter()?
            }
        };
        let Some(block) = scan.clone().next().transpose()? else { return Ok(None) };
        let (rows, own): (usize, Vec<(String, String, Bound<'_, PyAny>)>) = block.extract()?;
        let arrays =
            own.iter().map(|(_, dtype, values)| columns::import(dtype, values).map(nan_as_null));
        let arrays = arrays.collect::<PyResult<Vec<_>>>()?;
        Ok(Some((rows, arrays, scan.unbind())))
    })
    .map_err(|raised| DataFusionError::External(Box::new(raised)))?
    .map(|(rows, arrays, scan)| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(SchemaRef::clone(schema), arrays, &options)?;
        Ok((batch, Some(scan)))
    })
    .transpose()
}

/// Missing values of xarray are NaN.
fn nan_as_null(array: ArrayRef) -> ArrayRef {
    let valid: Option<NullBuffer> = match array.data_type() {
        DataType::Float32 => {
            Some(array.as_primitive::<Float32Type>().values().iter().map(|v| !v.is_nan()).collect())
        }
        DataType::Float64 => {
            Some(array.as_primitive::<Float64Type>().values().iter().map(|v| !v.is_nan()).collect())
        }
        _ => None,
    };
    match valid.filter(|valid| valid.null_count() > 0) {
        Some(valid) => {
            let missing = !valid.inner();
            nullif(&array, &missing.into()).unwrap_or(array)
        }
        None => array,
    }
}
