//! Arrays of a store, read into memory of numpy.

use std::{num::NonZero, process, slice, sync::Arc};

use arrow::{array::AsArray as _, compute::cast, datatypes::DataType};
use lsio_core::{
    Dataset, Error, Location,
    dataset::{Role, Variable, ZarrFormat},
    read::into::{Along, Cells, Indices, Place, ReadInto, Stop, ValuesAs, Wanted},
};
use pyo3::{
    buffer::{PyBuffer, PyUntypedBuffer},
    exceptions::{PyBufferError, PyValueError},
    prelude::*,
    types::{PyDict, PyList},
};

use crate::{
    errors,
    process::Process,
    session::open_options,
    texts::put_texts,
    wait::{wait, wait_stopping},
};

/// Metadata of a group, with its arrays.
#[pyclass(frozen)]
pub(crate) struct Store {
    dataset: Arc<Dataset>,
    /// The process whose threads read.
    process: u32,
}

/// Indices of all dimensions: for each a tuple of a start, a step and a number, or an array of uint64. If `points`, arrays
/// are those of points, and tuples are read for each point.
fn cells(indices: &[Bound<'_, PyAny>], points: bool) -> PyResult<Cells> {
    if points {
        return Ok(Cells::Points(indices.iter().map(along).collect::<PyResult<_>>()?));
    }
    let indices = indices.iter().map(|own| {
        Ok(match along(own)? {
            Along::Each(indices) => indices,
            Along::Points(list) => Indices::List(list),
        })
    });
    Ok(Cells::Outer(indices.collect::<PyResult<_>>()?))
}

fn along(own: &Bound<'_, PyAny>) -> PyResult<Along> {
    if let Ok((start, step, len)) = own.extract::<(u64, u64, u64)>() {
        let step = NonZero::new(step).ok_or_else(|| PyValueError::new_err("a step can't be 0"))?;
        return Ok(Along::Each(Indices::Range { start, step, len }));
    }
    Ok(Along::Points(PyBuffer::<u64>::get(own)?.to_vec(own.py())?))
}

#[pymethods]
impl Store {
    /// Opens a store. The options are those of opening a table.
    #[new]
    fn new(py: Python<'_>, location: String, options: Vec<(String, String)>) -> PyResult<Self> {
        let options = open_options(py, &options)?;
        let resources = Process::current()?.resources().clone();
        let opened = wait(py, async move {
            let (location, options) = Location::open_in(&location, options, &resources).await?;
            Dataset::open(&location, &options).await
        })?;
        let dataset = Arc::new(opened.map_err(|error| errors::of_store(py, &error))?);
        Ok(Self { dataset, process: process::id() })
    }

    /// Attributes of the group, as JSON.
    fn attributes(&self) -> String {
        self.dataset.attributes().to_string()
    }

    /// Names of the groups inside.
    fn children(&self) -> Vec<String> {
        self.dataset.children().to_vec()
    }

    /// The version of the Zarr format.
    fn format(&self) -> u8 {
        format(self.dataset.format())
    }

    /// A dictionary for each variable.
    fn variables<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all = PyList::empty(py);
        for (variable, role) in self.dataset.variables() {
            let layout = variable.layout();
            let one = PyDict::new(py);
            one.set_item("name", variable.name())?;
            one.set_item("role", if *role == Role::Data { "data" } else { "coordinate" })?;
            one.set_item("dims", variable.dims())?;
            one.set_item("shape", variable.shape())?;
            one.set_item("chunks", variable.chunk_grid().piece_shape())?;
            one.set_item("objects", &layout.chunks)?;
            one.set_item("sharded", layout.inner_chunks.is_some())?;
            one.set_item("dtype", variable.numpy_dtype())?;
            one.set_item("type", variable.data_type().to_string())?;
            one.set_item("stored_type", &layout.dtype)?;
            one.set_item("format", format(layout.format))?;
            one.set_item("attributes", variable.attributes().to_string())?;
            one.set_item("fill_value", variable.fill_value().map(ToString::to_string))?;
            one.set_item("unreadable", variable.unreadable())?;
            one.set_item("inherited", self.is_inherited(variable))?;
            all.append(one)?;
        }
        Ok(all)
    }

    /// Reads cells into a writable buffer of the result's shape: those where indices of all dimensions meet, or if
    /// `points`, those of points, in a dimension before the others. `values` is `"stored"`, `"f8"` or `"f4"`; the latter are
    /// decoded, with `missing` for what is missing.
    #[pyo3(signature = (name, indices, out, points=false, values="stored", missing=f64::NAN))]
    #[expect(clippy::too_many_arguments, reason = "they have names and defaults in Python")]
    fn read(
        &self,
        py: Python<'_>,
        name: &str,
        indices: Vec<Bound<'_, PyAny>>,
        out: &Bound<'_, PyAny>,
        points: bool,
        values: &str,
        missing: f64,
    ) -> PyResult<()> {
        self.read_into(py, name, cells(&indices, points)?, out, values_as(values, missing)?)
    }

    /// Reads texts of cells into an array of objects in C order. A missing one is `None`.
    #[pyo3(signature = (name, indices, out, points=false))]
    fn read_texts(
        &self,
        py: Python<'_>,
        name: &str,
        indices: Vec<Bound<'_, PyAny>>,
        out: &Bound<'_, PyAny>,
        points: bool,
    ) -> PyResult<()> {
        let variable = Arc::clone(self.variable(py, name)?);
        let cells = cells(&indices, points)?;
        let how = how(py, name)?;
        let read = || variable.read_cells(cells, &how);
        let values = wait_stopping(py, read, || how.stop.stop())?;
        let values = values.map_err(|error| errors::of_store(py, &error))?;
        let texts = cast(&values, &DataType::LargeUtf8)
            .map_err(|e| errors::raise(py, "Error", &e.to_string()))?;
        put_texts(texts.as_string::<i64>(), out)
    }
}

impl Store {
    /// Whether the array lies in a group above.
    fn is_inherited(&self, variable: &Variable) -> bool {
        !variable.location().path().prefix_matches(self.dataset.location().path())
    }

    fn variable(&self, py: Python<'_>, name: &str) -> PyResult<&Arc<Variable>> {
        if self.process != process::id() {
            let text = "this store was opened before the process was forked: open it again";
            return Err(errors::raise(py, "Error", text));
        }
        self.dataset.variable(name).map_err(|error| errors::of_store(py, &error))
    }

    fn read_into(
        &self,
        py: Python<'_>,
        name: &str,
        cells: Cells,
        out: &Bound<'_, PyAny>,
        values: ValuesAs,
    ) -> PyResult<()> {
        let variable = Arc::clone(self.variable(py, name)?);
        let buffer = PyUntypedBuffer::get(out)?;
        if buffer.readonly() {
            return Err(PyBufferError::new_err("the memory to read into can't be written"));
        }
        let mut shape: Vec<u64> = buffer.shape().iter().map(|size| *size as u64).collect();
        let strides: Option<Vec<usize>> =
            buffer.strides().iter().map(|stride| usize::try_from(*stride).ok()).collect();
        let mut strides = strides.ok_or_else(|| {
            PyBufferError::new_err(
                "the memory to read into runs backwards: give one with positive strides",
            )
        })?;
        let width = buffer.item_size();
        let len = if shape.contains(&0) {
            0
        } else {
            let steps = buffer.shape().iter().zip(&strides);
            steps.fold(width, |len, (size, stride)| len + (size - 1) * stride)
        };
        if cells.shape().is_empty() && shape == [1] {
            // The one cell of an array without dimensions: a buffer has at least one.
            shape.clear();
            strides.clear();
        }
        let start = buffer.buf_ptr().cast::<u8>();
        let memory: &mut [u8] = if start.is_null() || len == 0 {
            &mut []
        } else {
            // SAFETY: the exporter of a writable buffer promises that these bytes exist while the buffer is held. That
            // no other thread touches the array during the read is up to the caller, as for numpy's own functions.
            unsafe { slice::from_raw_parts_mut(start, len) }
        };
        let place = Place::new(memory, &shape, &strides, width).map_err(PyValueError::new_err)?;
        let how = how(py, name)?;
        let wanted = vec![Wanted { cells, place }];
        let read = || variable.read_into(wanted, values, &how);
        let read = wait_stopping(py, read, || how.stop.stop());
        drop(buffer);
        let read = read?;
        read.map(|_| ()).map_err(|error| errors::of_store(py, &error))
    }
}

/// How this process reads the array of this name.
fn how(py: Python<'_>, name: &str) -> PyResult<ReadInto> {
    let process = Process::current()?;
    let engine = process.resources().engine();
    let engine = engine.map_err(|e| errors::raise(py, "InvalidRequestError", &e.to_string()))?;
    let page_cache = process.resources().engines().page_cache(engine);
    let page_cache = page_cache
        .map_err(|source| errors::of_store(py, &Error::Store { key: name.to_owned(), source }))?;
    let runtime = process.runtime().handle().clone();
    Ok(ReadInto { runtime, page_cache, stop: Stop::default() })
}

fn values_as(name: &str, missing: f64) -> PyResult<ValuesAs> {
    Ok(match name {
        "stored" => ValuesAs::Stored,
        "f8" => ValuesAs::Float64 { missing },
        "f4" => ValuesAs::Float32 { missing: missing as f32 },
        other => {
            let text = format!("values can't be read as '{other}': use 'stored', 'f8' or 'f4'");
            return Err(PyValueError::new_err(text));
        }
    })
}

fn format(format: ZarrFormat) -> u8 {
    match format {
        ZarrFormat::V2 => 2,
        ZarrFormat::V3 => 3,
    }
}
