//! Frames: planned queries, and the rows of those that ran.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::RecordBatch, datatypes::SchemaRef, record_batch::RecordBatchIterator,
    util::display::FormatOptions,
};
use datafusion::{
    common::Column,
    dataframe::DataFrame,
    logical_expr::{Expr, LogicalPlanBuilder},
    physical_plan::collect,
};
use lsio_datafusion::{notes, result_notes, schema::DIMS};
use pyo3::{
    prelude::*,
    types::{PyCapsule, PyList},
};

use crate::{
    capsules, columns, errors, meaning,
    process::Process,
    session::SharedSession,
    stream::{QueryReader, kept},
    wait::wait,
};

/// A planned query.
#[pyclass(frozen)]
pub(crate) struct Frame {
    session: SharedSession,
    frame: DataFrame,
}

/// Rows of a query.
#[pyclass(frozen)]
pub(crate) struct Batches {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    notes: Vec<String>,
}

impl Frame {
    pub(crate) fn new(session: SharedSession, frame: DataFrame) -> Self {
        Self { session, frame }
    }

    pub(crate) fn frame(&self) -> &DataFrame {
        &self.frame
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.frame.schema().inner())
    }
}

#[pymethods]
impl Frame {
    /// Names of the columns, their types, and their metadata: for means and the like those of what is averaged.
    fn columns(&self) -> Vec<(String, String, HashMap<String, String>)> {
        let (plan, schema) = (self.frame.logical_plan(), self.schema());
        let fields = schema.fields().iter().enumerate();
        let described = fields.map(|(at, field)| {
            let mut metadata = field.metadata().clone();
            if metadata.is_empty()
                && let Some(source) = meaning::source(plan, at)
            {
                metadata = source.metadata().clone();
                // It varies along other dimensions than its source.
                metadata.remove(DIMS);
            }
            (field.name().clone(), field.data_type().to_string(), metadata)
        });
        described.collect()
    }

    /// Metadata of the whole.
    fn metadata(&self) -> HashMap<String, String> {
        self.schema().metadata().clone()
    }

    /// Columns that tell the rows apart: the keys of the outermost aggregate. `None` without one.
    fn keys(&self) -> Option<Vec<String>> {
        let fields = self.frame.schema().fields();
        let keys = meaning::keys(self.frame.logical_plan())?;
        keys.into_iter().map(|at| fields.get(at).map(|field| field.name().clone())).collect()
    }

    /// Whether the rows are in an order that the statement asks for.
    fn is_ordered(&self) -> bool {
        meaning::is_ordered(self.frame.logical_plan())
    }

    /// For a column that is a dimension's coordinate: the coordinate's labels, in the store's order.
    fn labels(&self, py: Python<'_>, name: &str) -> PyResult<Option<Self>> {
        let plan = self.frame.logical_plan();
        let scanned = plan
            .schema()
            .index_of_column_by_name(None, name)
            .and_then(|at| meaning::scanned(plan, at));
        let Some((scan, at)) = scanned else { return Ok(None) };
        let schema = scan.source.schema();
        let Some(field) = schema.fields().get(at) else { return Ok(None) };
        let own = serde_json::json!([field.name()]).to_string();
        if field.metadata().get(DIMS) != Some(&own) {
            return Ok(None);
        }
        let state = self.session.ctx(py)?.state();
        let column = Expr::Column(Column::new(Some(scan.table_name.clone()), field.name()));
        let labels = LogicalPlanBuilder::scan(scan.table_name, scan.source, Some(vec![at]))
            .and_then(|scan| scan.aggregate(vec![column], Vec::<Expr>::new()))
            .and_then(LogicalPlanBuilder::build);
        let labels = labels.map_err(|error| errors::of_query(py, &error))?;
        Ok(Some(Self::new(self.session.clone(), DataFrame::new(state, labels))))
    }

    /// Plans a statement in which `this` is the frame, and other names stand for other frames.
    #[pyo3(signature = (sql, others=HashMap::new()))]
    fn query(
        &self,
        py: Python<'_>,
        sql: String,
        others: HashMap<String, Py<Self>>,
    ) -> PyResult<Self> {
        let mut tables = vec![("this".to_owned(), self.frame.clone())];
        tables.extend(others.into_iter().map(|(name, frame)| (name, frame.get().frame.clone())));
        self.session.query(py, sql, HashMap::new(), tables)
    }

    /// Runs the query, and keeps its rows.
    fn collect(&self, py: Python<'_>) -> PyResult<Batches> {
        self.session.ctx(py)?;
        let (frame, schema) = (self.frame.clone(), self.schema());
        let done = wait(py, async move {
            let task = Arc::new(frame.task_ctx());
            let plan = frame.create_physical_plan().await?;
            let mut said = notes(&plan)?;
            let batches = collect(Arc::clone(&plan), task).await?;
            said.extend(result_notes(&plan)?);
            Ok((batches, said))
        })?;
        let (batches, notes) = done.map_err(|error| errors::of_query(py, &error))?;
        Ok(Batches { schema, batches, notes })
    }

    /// How the query is computed, as text.
    #[pyo3(signature = (analyze=false, verbose=false))]
    fn explain(&self, py: Python<'_>, analyze: bool, verbose: bool) -> PyResult<Batches> {
        self.session.ctx(py)?;
        let explained = self.frame.clone().explain(verbose, analyze);
        let explained = explained.map_err(|error| errors::of_query(py, &error))?;
        Self::new(self.session.clone(), explained).collect(py)
    }

    /// The rows as an Arrow stream, computed as they are taken.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface lets a producer ignore what is requested.
        drop(requested_schema);
        self.session.ctx(py)?;
        let runtime = Process::current()?.runtime().handle().clone();
        let reader = QueryReader::new(self.frame.clone(), self.schema(), runtime);
        capsules::stream(py, Box::new(reader))
    }

    /// The schema in Arrow's C interface.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsules::schema(py, &self.schema())
    }
}

#[pymethods]
impl Batches {
    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// What the engine has noted about the query.
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Each column for numpy: see `columns`.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        columns::exported(py, &self.schema, &self.batches)
    }

    /// Up to `most` rows as text, a list for each row.
    fn texts(&self, py: Python<'_>, most: usize) -> PyResult<Vec<Vec<String>>> {
        let options = FormatOptions::default().with_null("");
        let shown = columns::texts(&self.batches, most, &options);
        shown.map_err(|error| errors::raise(py, "Error", &error.to_string()))
    }

    /// The rows as an Arrow stream.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let batches: Vec<_> = self.batches.iter().cloned().map(kept).collect();
        capsules::stream(py, Box::new(RecordBatchIterator::new(batches, Arc::clone(&self.schema))))
    }

    /// The schema in Arrow's C interface.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsules::schema(py, &self.schema)
    }
}
