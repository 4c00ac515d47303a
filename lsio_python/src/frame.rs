//! Frames: planned queries, and the rows of those that ran.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema, SchemaRef},
    record_batch::RecordBatchIterator,
    util::display::FormatOptions,
};
use datafusion::{
    common,
    dataframe::DataFrame,
    datasource::{MemTable, source_as_provider},
    error::Result,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
};
use lsio_datafusion::{ZarrDataFrame as _, meaning, schema::DIMS};
use pyo3::{
    prelude::*,
    types::{PyCapsule, PyList},
};

use crate::{
    capsules, columns, errors,
    pending::Pending,
    process::Process,
    rows::RowStream,
    running::{Course, collect},
    session::SharedSession,
    stream::{QueryReader, kept},
};

/// A planned query.
#[pyclass(frozen)]
pub(crate) struct Frame {
    session: SharedSession,
    frame: DataFrame,
    /// The rows, if they are in memory, and what their columns meant in the query.
    held: Option<Held>,
}

/// Rows in memory.
#[derive(Clone)]
struct Held {
    batches: Batches,
    columns: Vec<Column>,
    keys: Option<Vec<String>>,
    /// The plan of the query that made them.
    plan: LogicalPlan,
}

/// A column's name, its type, and its metadata.
type Column = (String, String, HashMap<String, String>);

/// Rows of a query.
#[pyclass(frozen, skip_from_py_object)]
#[derive(Clone)]
pub(crate) struct Batches {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    notes: Vec<String>,
}

impl Frame {
    pub(crate) fn new(session: SharedSession, frame: DataFrame) -> Self {
        Self { session, frame, held: None }
    }

    pub(crate) fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// The plan that tells what the rows mean.
    fn told(&self) -> &LogicalPlan {
        self.held.as_ref().map_or(self.frame.logical_plan(), |held| &held.plan)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.frame.schema().inner())
    }

    /// Work that makes the rows.
    fn work(&self, course: Arc<Course>) -> impl Future<Output = Result<Batches>> + Send + 'static {
        let (frame, schema) = (self.frame.clone(), self.schema());
        let held = self.held.as_ref().map(|held| held.batches.clone());
        async move {
            if let Some(batches) = held {
                return Ok(batches);
            }
            let batches = collect(frame, &course).await?;
            Ok(Batches { schema, batches, notes: course.take_notes() })
        }
    }
}

impl Batches {
    pub(crate) fn new(schema: SchemaRef, batches: Vec<RecordBatch>, notes: Vec<String>) -> Self {
        Self { schema, batches, notes }
    }

    /// A table of the rows. Any column may have missing values, since what a plan promises isn't always kept.
    fn table(&self) -> Result<MemTable> {
        let fields = self.schema.fields().iter();
        let fields: Vec<Field> =
            fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()));
        let named = |batch: &RecordBatch| {
            RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())
        };
        let batches = self.batches.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        MemTable::try_new(schema, vec![batches])
    }
}

#[pymethods]
impl Frame {
    /// Names of the columns, their types, and their metadata: for means and the like those of what is averaged.
    fn columns(&self) -> Vec<Column> {
        if let Some(held) = &self.held {
            return held.columns.clone();
        }
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
        if let Some(held) = &self.held {
            return held.keys.clone();
        }
        let fields = self.frame.schema().fields();
        let keys = meaning::keys(self.frame.logical_plan())?;
        keys.into_iter().map(|at| fields.get(at).map(|field| field.name().clone())).collect()
    }

    /// Whether the rows are in an order that the statement asks for.
    fn is_ordered(&self) -> bool {
        meaning::is_ordered(self.told())
    }

    /// For a column that is a dimension's coordinate: the coordinate's labels, in the store's order.
    fn labels(&self, py: Python<'_>, name: &str) -> PyResult<Option<Self>> {
        let plan = self.told();
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
        // Rows in memory have the order in which a query brought them.
        let provider = source_as_provider(&scan.source);
        if provider.is_ok_and(|provider| provider.downcast_ref::<MemTable>().is_some()) {
            return Ok(None);
        }
        let state = self.session.ctx(py)?.state();
        let column = common::Column::new(Some(scan.table_name.clone()), field.name());
        let column = Expr::Column(column);
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
        self.session.query(py, sql, HashMap::new(), tables, None)
    }

    /// Runs the query, and keeps its rows. `progress` is called with the chunks done, and those in all.
    #[pyo3(signature = (progress=None))]
    fn collect(&self, py: Python<'_>, progress: Option<Py<PyAny>>) -> PyResult<Batches> {
        self.session.ctx(py)?;
        let course = Arc::new(Course::default());
        let work = self.work(Arc::clone(&course));
        let done = Course::wait(py, course, progress, work)?;
        done.map_err(|error| errors::of_query(py, &error))
    }

    /// The same for an event loop: `done` is called at the end, by another thread.
    fn start(&self, py: Python<'_>, done: Py<PyAny>) -> PyResult<Pending> {
        self.session.ctx(py)?;
        let course = Arc::new(Course::default());
        let work = self.work(Arc::clone(&course));
        Pending::start(async move { work.await.map(Some) }, course, done)
    }

    /// Runs the query, whose rows are taken batch by batch.
    fn stream(&self, py: Python<'_>) -> PyResult<RowStream> {
        self.session.ctx(py)?;
        RowStream::start(self.frame.clone(), self.schema())
    }

    /// A frame of rows of this one, whose columns mean the same.
    fn of_rows(&self, py: Python<'_>, batches: &Batches) -> PyResult<Self> {
        let ctx = self.session.ctx(py)?;
        let mut names = HashSet::new();
        if let Some(twice) = batches.schema.fields().iter().find(|own| !names.insert(own.name())) {
            let text = format!("two columns are named '{}': rename one with AS", twice.name());
            return Err(errors::raise(py, "InvalidRequestError", &text));
        }
        let frame = batches.table().and_then(|table| ctx.read_table(Arc::new(table)));
        let frame = frame.map_err(|error| errors::of_query(py, &error))?;
        // Notes are told once.
        let batches = Batches { notes: Vec::new(), ..batches.clone() };
        let (columns, keys) = (self.columns(), self.keys());
        let held = Held { batches, columns, keys, plan: self.told().clone() };
        Ok(Self { session: self.session.clone(), frame, held: Some(held) })
    }

    /// The statement that writes the rows as a Zarr group: its only row is their number.
    fn writing_zarr(
        &self,
        py: Python<'_>,
        target: &str,
        options: HashMap<String, String>,
    ) -> PyResult<Self> {
        let written = self.frame.clone().writing_zarr(target, options);
        let frame = written.map_err(|error| errors::of_query(py, &error))?;
        Ok(Self::new(self.session.clone(), frame))
    }

    /// How the query is computed, as text.
    #[pyo3(signature = (analyze=false, verbose=false))]
    fn explain(&self, py: Python<'_>, analyze: bool, verbose: bool) -> PyResult<Batches> {
        self.session.ctx(py)?;
        let explained = self.frame.clone().explain(verbose, analyze);
        let explained = explained.map_err(|error| errors::of_query(py, &error))?;
        Self::new(self.session.clone(), explained).collect(py, None)
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
