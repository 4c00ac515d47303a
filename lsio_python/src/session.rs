//! Sessions: settings, registered tables, and queries.

use std::{collections::HashMap, num::NonZero, process, sync::Arc};

use arrow::record_batch::RecordBatchReader;
use datafusion::{
    common::{ParamValues, ScalarValue, TableReference},
    dataframe::DataFrame,
    datasource::{MemTable, TableProvider},
    error::Result,
    logical_expr::{LogicalPlan, SetVariable, Statement},
    prelude::SessionContext,
};
use lsio_core::{OpenOptions, Resources, cache::DiskCache, uring::Engine};
use lsio_datafusion::{SessionBuilder, clarify, plan_sql, prelude::*};
use pyo3::prelude::*;
use tokio::sync::Mutex;

use crate::{
    blocks::BlockTable,
    capsules, columns, errors,
    frame::Frame,
    parameters::scalar,
    process::Process,
    running::{Course, collect},
    wait::wait,
};

/// A session of the query engine.
#[pyclass(frozen)]
pub(crate) struct Session {
    shared: SharedSession,
}

/// What a session's frames share with it.
#[derive(Clone)]
pub(crate) struct SharedSession {
    ctx: SessionContext,
    /// Held while names stand for frames.
    naming: Arc<Mutex<()>>,
    /// The process that the session's threads are in.
    process: u32,
}

#[pymethods]
impl Session {
    /// Makes a session. Sizes are in bytes.
    #[new]
    #[pyo3(signature = (memory_limit=None, threads=None, engine=None, cache_bytes=None, options=Vec::new()))]
    fn new(
        py: Python<'_>,
        memory_limit: Option<usize>,
        threads: Option<NonZero<usize>>,
        engine: Option<&str>,
        cache_bytes: Option<u64>,
        options: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let engine = engine.map(str::parse::<Engine>).transpose();
        let engine =
            engine.map_err(|e| errors::raise(py, "InvalidRequestError", &e.to_string()))?;
        let resources = resources(Process::current()?, engine, cache_bytes);
        let mut builder =
            SessionBuilder::new(resources.map_err(|error| errors::of_store(py, &error))?);
        if let Some(bytes) = memory_limit {
            builder = builder.with_memory_limit(bytes);
        }
        if let Some(threads) = threads {
            builder = builder.with_threads(threads);
        }
        let ctx = builder.build().map_err(|error| errors::of_query(py, &error))?;
        let ctx = wait(py, async move {
            for (name, value) in options {
                set(&ctx, name, value).await?;
            }
            Ok(ctx)
        })?;
        let ctx = ctx.map_err(|error| errors::of_query(py, &error))?;
        let naming = Arc::default();
        Ok(Self { shared: SharedSession { ctx, naming, process: process::id() } })
    }

    /// Plans a statement. Statements that change something run at once; others when their rows are asked for. `tables`
    /// are frames that the statement names; `progress` is called while one runs that changes something.
    #[pyo3(signature = (sql, parameters=None, tables=HashMap::new(), progress=None))]
    fn sql(
        &self,
        py: Python<'_>,
        sql: String,
        parameters: Option<HashMap<String, Bound<'_, PyAny>>>,
        tables: HashMap<String, Py<Frame>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Frame> {
        let parameters = parameters.unwrap_or_default();
        let parameters = parameters.into_iter().map(|(name, value)| Ok((name, scalar(&value)?)));
        let parameters = parameters.collect::<PyResult<HashMap<String, ScalarValue>>>()?;
        let named = tables.into_iter().map(|(name, frame)| (name, frame.get().frame().clone()));
        self.shared.query(py, sql, parameters, named.collect(), progress)
    }

    /// Registers a store as a table.
    fn register_store(
        &self,
        py: Python<'_>,
        name: String,
        location: String,
        options: Vec<(String, String)>,
    ) -> PyResult<()> {
        let ctx = self.shared.ctx(py)?.clone();
        let options = open_options(py, &options)?;
        let done = wait(py, async move {
            ctx.deregister_table(name.as_str())?;
            ctx.register_zarr(&name, &location, options).await
        })?;
        done.map_err(|error| errors::of_query(py, &error))
    }

    /// Registers the rows of an object with an Arrow stream, which are taken now.
    fn register_rows(&self, py: Python<'_>, name: &str, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let ctx = self.shared.ctx(py)?.clone();
        let reader = capsules::take_stream(rows)?;
        let taken = py.detach(move || -> Result<MemTable> {
            let schema = reader.schema();
            let batches = reader.collect::<Result<Vec<_>, _>>()?;
            MemTable::try_new(schema, vec![batches])
        });
        let table: Arc<dyn TableProvider> =
            Arc::new(taken.map_err(|error| errors::of_query(py, &error))?);
        let register = || -> Result<()> {
            ctx.deregister_table(name)?;
            ctx.register_table(name, table).map(|_| ())
        };
        register().map_err(|error| errors::of_query(py, &error))
    }

    /// Registers a table whose rows Python makes as they are asked for: of each column the name and the type of numpy, and an
    /// object whose `scan(names)` iterates over blocks of rows.
    fn register_blocks(
        &self,
        py: Python<'_>,
        name: &str,
        fields: Vec<(String, String)>,
        blocks: Py<PyAny>,
    ) -> PyResult<()> {
        let ctx = self.shared.ctx(py)?;
        let table = Arc::new(BlockTable::new(&fields, blocks)?);
        let register = || -> Result<()> {
            ctx.deregister_table(name)?;
            ctx.register_table(name, table).map(|_| ())
        };
        register().map_err(|error| errors::of_query(py, &error))
    }

    /// Rows of columns: of each the name, numpy's type, and the elements as unsigned integers of their width; or
    /// `"text"` and a list.
    fn rows(
        &self,
        py: Python<'_>,
        columns: Vec<(String, String, Bound<'_, PyAny>)>,
    ) -> PyResult<Frame> {
        let batch = columns::batch(&columns)?;
        let frame = self.shared.ctx(py)?.read_batch(batch);
        let frame = frame.map_err(|error| errors::of_query(py, &error))?;
        Ok(Frame::new(self.shared.clone(), frame))
    }

    /// Registers a frame as a view.
    fn register_frame(&self, py: Python<'_>, name: &str, frame: &Frame) -> PyResult<()> {
        let ctx = self.shared.ctx(py)?;
        let register = || -> Result<()> {
            ctx.deregister_table(name)?;
            ctx.register_table(name, frame.frame().clone().into_view()).map(|_| ())
        };
        register().map_err(|error| errors::of_query(py, &error))
    }

    /// Forgets a table. False if there is none of this name.
    fn deregister(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let forgotten = self.shared.ctx(py)?.deregister_table(name);
        Ok(forgotten.map_err(|error| errors::of_query(py, &error))?.is_some())
    }

    /// A registered table, or a store by its path or URL.
    fn table(&self, py: Python<'_>, name: String) -> PyResult<Frame> {
        let ctx = self.shared.ctx(py)?.clone();
        let frame = wait(py, async move {
            // A path has dots, as names with a schema do: then the schema isn't known.
            let named = TableReference::from(name.as_str());
            let is_known = ctx.table_exist(named.clone()).unwrap_or(false);
            ctx.table(if is_known { named } else { TableReference::bare(name) }).await
        })?;
        let frame = frame.map_err(|error| errors::of_query(py, &error))?;
        Ok(Frame::new(self.shared.clone(), frame))
    }

    /// A store as a table, opened with options.
    fn open(
        &self,
        py: Python<'_>,
        location: String,
        options: Vec<(String, String)>,
    ) -> PyResult<Frame> {
        let ctx = self.shared.ctx(py)?.clone();
        let options = open_options(py, &options)?;
        let frame = wait(py, async move { ctx.read_zarr(&location, options).await })?;
        let frame = frame.map_err(|error| errors::of_query(py, &error))?;
        Ok(Frame::new(self.shared.clone(), frame))
    }

    /// Sets an option, such as `lsio.nan_as_null`.
    fn set(&self, py: Python<'_>, name: String, value: String) -> PyResult<()> {
        let ctx = self.shared.ctx(py)?.clone();
        let done = wait(py, async move { set(&ctx, name, value).await })?;
        done.map_err(|error| errors::of_query(py, &error))
    }
}

impl SharedSession {
    /// # Errors
    /// `lsio.Error` in a process that was forked from the session's: its threads are the parent's.
    pub(crate) fn ctx(&self, py: Python<'_>) -> PyResult<&SessionContext> {
        if self.process == process::id() {
            return Ok(&self.ctx);
        }
        let text = "this session was made before the process was forked, and its threads are the parent's: \
            make another one with lsio.connect()";
        Err(errors::raise(py, "Error", text))
    }

    /// Plans a statement in which names stand for frames.
    pub(crate) fn query(
        &self,
        py: Python<'_>,
        sql: String,
        parameters: HashMap<String, ScalarValue>,
        tables: Vec<(String, DataFrame)>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Frame> {
        let ctx = self.ctx(py)?.clone();
        let naming = Arc::clone(&self.naming);
        let course = Arc::new(Course::default());
        let planned = Course::wait(py, Arc::clone(&course), progress, async move {
            let _held = naming.lock().await;
            let mut hidden = Vec::with_capacity(tables.len());
            for (name, frame) in tables {
                let before = ctx.deregister_table(name.as_str())?;
                ctx.register_table(name.as_str(), frame.into_view())?;
                hidden.push((name, before));
            }
            let planned = plan(&ctx, &sql, parameters, &course).await;
            for (name, before) in hidden {
                ctx.deregister_table(name.as_str())?;
                if let Some(before) = before {
                    ctx.register_table(name.as_str(), before)?;
                }
            }
            planned.map_err(|error| clarify(error, &sql, &ctx.state()))
        })?;
        let frame = planned.map_err(|error| errors::of_query(py, &error))?;
        Ok(Frame::new(self.clone(), frame))
    }
}

/// Sets an option, also one of the runtime, as `SET` does.
async fn set(ctx: &SessionContext, variable: String, value: String) -> Result<()> {
    let set = Statement::SetVariable(SetVariable { variable, value });
    ctx.execute_logical_plan(LogicalPlan::Statement(set)).await.map(|_| ())
}

/// Plans a statement, and runs it if it changes something.
async fn plan(
    ctx: &SessionContext,
    sql: &str,
    parameters: HashMap<String, ScalarValue>,
    course: &Course,
) -> Result<DataFrame> {
    let mut plan = plan_sql(&ctx.state(), sql).await?;
    if !parameters.is_empty() {
        plan = plan.with_param_values(ParamValues::from(parameters))?;
    }
    let runs_now = matches!(plan, LogicalPlan::Copy(_) | LogicalPlan::Dml(_));
    let frame = ctx.execute_logical_plan(plan).await?;
    if !runs_now {
        return Ok(frame);
    }
    let schema = Arc::clone(frame.schema().inner());
    let batches = collect(frame, course).await?;
    ctx.read_table(Arc::new(MemTable::try_new(schema, vec![batches])?))
}

/// Options of opening a store, by their names.
pub(crate) fn open_options(py: Python<'_>, options: &[(String, String)]) -> PyResult<OpenOptions> {
    let mut open = OpenOptions::default();
    for (name, value) in options {
        open.set(name, value).map_err(|error| errors::of_store(py, &error))?;
    }
    Ok(open)
}

/// The resources of a session: the process's, or others that it asks for.
fn resources(
    process: &Process,
    engine: Option<Engine>,
    cache_bytes: Option<u64>,
) -> lsio_core::Result<Resources> {
    let mut resources = process.resources().clone();
    if let Some(bytes) = cache_bytes {
        let cache = DiskCache::open(resources.cache_directory()?, bytes)?;
        process.remember(&cache);
        resources = Process::resources_builder().with_cache(cache).build();
    }
    Ok(match engine {
        Some(engine) => resources.with_engine(engine),
        None => resources,
    })
}
