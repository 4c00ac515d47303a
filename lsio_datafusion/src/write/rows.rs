//! Rows in any order: placed into the grid of their labels, which is known when all have come.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, RecordBatch, UInt64Array},
    compute::{concat, sort_to_indices, take},
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::{
    common::{exec_err, plan_err},
    error::Result,
    execution::memory_pool::{MemoryConsumer, MemoryReservation},
    physical_plan::{ExecutionPlanProperties as _, execute_stream_partitioned},
};
use futures::{StreamExt as _, stream};
use lsio_core::{
    Error,
    grid::{checked_product, strides},
    write::{NewGroup, StoreWriter},
};

use super::{
    exec::Write,
    fields::{Missing, StoredForm},
    format::WriteRequest,
    grid::{NewDim, NewRole, NewVariable, is_label, new_group},
    memory::PoolMemory,
    slabs::unsorted,
    whole::write_whole,
};
use crate::{
    error::external,
    prepared::{NONE, Ordinals},
    schema,
};

/// Cells for each row beyond which nearly all of an array would be missing.
const CELLS_PER_ROW: u64 = 100;

/// Cells that any number of rows may have.
const FEW_CELLS: u64 = 1 << 20;

/// Writes the rows of the input, and returns their number.
pub(super) async fn write(write: &Write) -> Result<u64> {
    let input = unsorted(&write.input);
    // As the query orders them, if it does.
    let plan = if input.output_partitioning().partition_count() > 1 { input } else { &write.input };
    let pool = write.context.memory_pool();
    let memory = MemoryConsumer::new("ZarrWriteRows").register(pool);
    let streams = execute_stream_partitioned(Arc::clone(plan), Arc::clone(&write.context))?;
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows = stream::select_all(streams);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        reserve(&memory, batch.get_array_memory_size())?;
        batches.push(batch);
    }
    write_batches(write, batches).await
}

fn reserve(memory: &MemoryReservation, bytes: usize) -> Result<()> {
    memory.try_grow(bytes).map_err(|error| {
        error.context(
            "these rows are held until all have come, since only then their grid is known: raise the limit of memory \
             (-m), or write fewer at a time",
        )
    })
}

/// Writes rows that are in memory.
pub(super) async fn write_batches(write: &Write, batches: Vec<RecordBatch>) -> Result<u64> {
    let request = &write.request;
    let schema = write.input.schema();
    let fields = request.fields(&schema);
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let columns = whole_columns(&schema, &batches)?;
    drop(batches);
    let of = dims(&schema, request)?;
    let axes = of.iter().map(|&column| Axis::new(&columns[column], schema.field(column)));
    let axes = axes.collect::<Result<Vec<_>>>()?;
    let sizes: Vec<u64> = axes.iter().map(Axis::size).collect();
    let rows = count as u64;
    let all = checked_product(&sizes).unwrap_or(u64::MAX);
    if all > FEW_CELLS && all > rows.saturating_mul(CELLS_PER_ROW) && !request.options.sparse {
        let dims = of.iter().zip(&sizes);
        let dims = dims.map(|(&column, size)| format!("{} ({size})", schema.field(column).name()));
        return exec_err!(
            "{rows} rows along {} would be arrays of {all} cells, nearly all of them missing: name fewer dimensions \
             with the option dims, or allow it with the option sparse",
            dims.collect::<Vec<_>>().join(", ")
        );
    }
    if of.is_empty() && rows > 1 {
        return plan_err!(
            "{rows} rows have no dimension: name the columns that tell them apart with the option dims (there are {})",
            schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    // As rows bring labels, if that is the grid's order; else sorted.
    let met = cells(&axes, &sizes, count, false);
    let in_order = rows == all && met.iter().zip(0..).all(|(own, cell)| *own == cell);
    let cells = if in_order { met } else { cells(&axes, &sizes, count, true) };
    let new_dims: Vec<NewDim> = of
        .iter()
        .zip(&sizes)
        .map(|(&column, size)| NewDim {
            name: schema.field(column).name().clone(),
            size: *size,
            chunk: None,
        })
        .collect();
    let source = |column: usize| request.sources.get(column).and_then(Option::as_deref);
    let (mut variables, mut values) = (Vec::new(), Vec::new());
    for (dim, (&column, axis)) in of.iter().zip(&axes).enumerate() {
        let labels = if in_order { axis.labels.clone() } else { axis.sorted.labels.clone() };
        let field = schema.field(column);
        if let Some(own) = NewVariable::labels(dim, field, source(column), &labels)? {
            variables.push(own);
            values.push(labels);
        }
    }
    for (column, own) in columns.iter().enumerate() {
        if of.contains(&column) {
            continue;
        }
        let field = schema.field(column);
        let missing = if rows < all || own.logical_null_count() > 0 {
            Missing::Maybe
        } else {
            Missing::Never
        };
        let role = match source(column) {
            Some(source) if schema::is_coordinate(source) => NewRole::Coordinate,
            _ => NewRole::Data,
        };
        variables.push(NewVariable {
            name: field.name().clone(),
            dims: (0..of.len()).collect(),
            form: StoredForm::new(field, source(column), missing, Some(own))?,
            role,
        });
        values.push(Arc::clone(own));
    }
    let group = new_group(&new_dims, &variables, request, &schema)?;
    let group = NewGroup { memory: Some(PoolMemory::new(&write.context)), ..group };
    let writer = Arc::new(StoreWriter::create(&write.location, group).await.map_err(external)?);
    let workers = write.context.session_config().target_partitions();
    for (number, (variable, values)) in variables.iter().zip(&values).enumerate() {
        let values = variable.form.encode(values)?;
        if variable.role == NewRole::Labels || in_order {
            write_whole(&writer, number, &values, workers).await?;
            continue;
        }
        let written = writer.arrays()[number].write_cells(&cells, &values).await;
        written.map_err(|error| match error {
            Error::WrittenTwice { cell, .. } => twice(&cell, &new_dims, &axes),
            error => external(error),
        })?;
    }
    write.count(&writer.commit().await.map_err(external)?);
    Ok(rows)
}

/// The columns of all batches.
fn whole_columns(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<ArrayRef>> {
    (0..schema.fields().len())
        .map(|column| {
            let parts: Vec<&dyn arrow::array::Array> =
                batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            if parts.is_empty() {
                return Ok(arrow::array::new_empty_array(schema.field(column).data_type()));
            }
            Ok(concat(&parts)?)
        })
        .collect()
}

/// The columns that are dimensions, in their order.
fn dims(schema: &SchemaRef, request: &WriteRequest) -> Result<Vec<usize>> {
    let names = || {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        names.join(", ")
    };
    if let Some(wanted) = &request.options.dims {
        let position = |name: &String| match schema.index_of(name) {
            Ok(position) => Ok(position),
            Err(_) => plan_err!(
                "the option dims names '{name}', which isn't a column: there are {}",
                names()
            ),
        };
        return wanted.iter().map(position).collect();
    }
    if let Some(keys) = &request.keys {
        let mut keys = keys.clone();
        keys.sort_unstable();
        return Ok(keys);
    }
    let source = |column: &usize| request.sources.get(*column).and_then(Option::as_deref);
    let labels: Vec<usize> =
        (0..schema.fields().len()).filter(|column| is_label(source(column))).collect();
    if labels.is_empty() {
        return plan_err!(
            "no column tells the rows apart: name the dimensions with OPTIONS (dims '…') (there are {})",
            names()
        );
    }
    Ok(labels)
}

/// A dimension: the labels, and of each row the place of its label among them.
struct Axis {
    /// Labels in the order in which rows bring them.
    labels: ArrayRef,
    places: Vec<u64>,
    sorted: Sorted,
}

/// Labels in ascending order, or as they came if that was descending.
struct Sorted {
    labels: ArrayRef,
    /// The place of each label, by its place among those that came.
    places: Vec<u64>,
}

impl Axis {
    fn new(column: &ArrayRef, field: &Field) -> Result<Self> {
        if column.logical_null_count() > 0 {
            return plan_err!(
                "the column '{}' is a dimension and has NULL: leave those rows out (WHERE {0} IS NOT NULL), or name \
                 other dimensions with the option dims",
                field.name()
            );
        }
        let mut known = Ordinals::new(std::slice::from_ref(column), vec![true])?;
        let places = known.of(std::slice::from_ref(column))?;
        let mut firsts: Vec<u64> = vec![NONE; known.len()];
        for (row, place) in (0..).zip(&places) {
            let first = usize::try_from(*place).ok().and_then(|place| firsts.get_mut(place));
            if let Some(first) = first.filter(|first| **first == NONE) {
                *first = row;
            }
        }
        let labels = take(column, &UInt64Array::from(firsts), None)?;
        let order = sort_to_indices(&labels, None, None)?;
        let descends = labels.len() > 1
            && order.values().iter().rev().enumerate().all(|(at, own)| at == *own as usize);
        let sorted = if descends {
            Sorted { labels: Arc::clone(&labels), places: (0..labels.len() as u64).collect() }
        } else {
            let mut of: Vec<u64> = vec![0; labels.len()];
            for (place, own) in (0..).zip(order.values()) {
                of[*own as usize] = place;
            }
            Sorted { labels: take(&labels, &order, None)?, places: of }
        };
        Ok(Self { labels, places, sorted })
    }

    fn size(&self) -> u64 {
        self.labels.len() as u64
    }
}

/// The cell of each row, in C order.
fn cells(axes: &[Axis], sizes: &[u64], rows: usize, sorted: bool) -> Vec<u64> {
    let strides = strides(sizes);
    let mut cells = vec![0_u64; rows];
    for (axis, stride) in axes.iter().zip(&strides) {
        for (cell, place) in cells.iter_mut().zip(&axis.places) {
            let place = match sorted {
                true => usize::try_from(*place)
                    .ok()
                    .and_then(|place| axis.sorted.places.get(place))
                    .copied()
                    .unwrap_or(0),
                false => *place,
            };
            *cell = cell.wrapping_add(place.wrapping_mul(*stride));
        }
    }
    cells
}

/// The error for two rows of one cell.
fn twice(cell: &[u64], dims: &[NewDim], axes: &[Axis]) -> datafusion::error::DataFusionError {
    let labels = cell.iter().zip(dims).zip(axes).map(|((index, dim), axis)| {
        let index = usize::try_from(*index).unwrap_or(0);
        let label = arrow::util::display::array_value_to_string(&axis.sorted.labels, index);
        format!("{} = {}", dim.name, label.unwrap_or_default())
    });
    let labels: Vec<String> = labels.collect();
    datafusion::common::exec_datafusion_err!(
        "several rows have {}: name the dimensions that tell rows apart with the option dims",
        labels.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use lsio_core::grid::unravel;

    use super::*;

    #[test]
    fn rows_find_their_cells() {
        let field = Field::new("x", arrow::datatypes::DataType::Int32, true);
        let axis = |labels: &[i32]| {
            let column: ArrayRef = Arc::new(Int32Array::from(labels.to_vec()));
            Axis::new(&column, &field).unwrap()
        };
        let axes = [axis(&[5, 5, 3, 9]), axis(&[2, 1, 2, 1])];
        let sizes = [3, 2];
        assert_eq!(cells(&axes, &sizes, 4, false), [0, 1, 2, 5]);
        assert_eq!(cells(&axes, &sizes, 4, true), [2, 3, 0, 5]);
        assert_eq!(unravel(5, &sizes), [2, 1]);
        let column: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let error = Axis::new(&column, &field).err().unwrap().to_string();
        assert!(error.contains("'x'") && error.contains("NULL"), "{error}");
    }
}
