//! Tiles of a scan, which are boxes of the grid that is written.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrow::{
    array::{ArrayRef, BooleanArray, UInt64Array},
    compute::{nullif, take},
    datatypes::Field,
};
use datafusion::{
    common::runtime::JoinSet,
    error::{DataFusionError, Result},
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_expr_common::physical_expr::is_volatile,
    physical_plan::ExecutionPlan,
};
use lsio_core::{
    Selection,
    grid::{Region, strides, unravel},
    read::Tile,
    write::{NewGroup, StoreWriter},
};

use super::{
    exec::Write,
    fields::{Missing, StoredForm},
    format::WriteRequest,
    grid::{NewDim, NewRole, NewVariable, is_index, is_label, new_group},
    memory::PoolMemory,
    slabs::unsorted,
};
use crate::{
    ZarrSource,
    error::external,
    expression::{Expression, union},
    refusal::Refusal,
    scan::{Execution, Partition, Shares, TileNumbers, TileReader},
    scan_rows::ScanRows,
    schema,
};

/// A scan whose tiles are written.
pub(super) struct TilePlan {
    /// Dimensions of the table that are written, in their order.
    kept: Vec<usize>,
    dims: Vec<NewDim>,
    columns: Vec<TileColumn>,
    passes: Vec<TilePass>,
    /// Whether cells may lack a row.
    masked: bool,
    /// Rows of each cell: those of dimensions along which nothing varies.
    repeated: u64,
}

/// A scan of the variables along the same dimensions.
struct TilePass {
    source: ZarrSource,
    /// Positions of the variables.
    columns: Vec<usize>,
}

/// A variable that is written, of the expression's values.
struct TileColumn {
    expression: Expression,
    variable: NewVariable,
}

/// A column of the query, or a coordinate that it doesn't name.
struct Wanted {
    field: Field,
    source: Option<Field>,
    expression: Expression,
}

impl TilePlan {
    /// The plan for the rows of an operator. `None` if they must be placed one by one.
    ///
    /// # Errors
    /// If a column has no type in Zarr.
    pub(super) fn new(
        input: &Arc<dyn ExecutionPlan>,
        request: &WriteRequest,
    ) -> Result<Option<Self>> {
        let rows = match ScanRows::of(unsorted(input)) {
            Ok(rows) => rows,
            Err(Refusal::Unsupported(_)) => return Ok(None),
            Err(Refusal::Failed(error)) => return Err(error),
        };
        let ScanRows { source, columns, filters } = rows;
        if !filters.is_empty()
            || request.keys.is_some()
            || source.continues()
            || columns.iter().any(is_volatile)
        {
            return Ok(None);
        }
        let (table, table_schema) = (Arc::clone(source.table()), Arc::clone(source.table_schema()));
        let expression = |expr| Expression::new(expr, &table, &table_schema);
        let mut wanted = Vec::new();
        let fields = request.fields(&input.schema());
        for (number, (field, expr)) in fields.into_iter().zip(columns).enumerate() {
            let own = request.sources.get(number).cloned().flatten();
            wanted.push(Wanted {
                field,
                source: own.map(|field| field.as_ref().clone()),
                expression: expression(expr)?,
            });
        }
        let mut varying = union(wanted.iter().map(|own| own.expression.dims()));
        let filtered = source.filter_dims();
        varying = union([varying.as_slice(), filtered.as_slice()].into_iter());
        let labels = |dim: usize, own: &Wanted| {
            own.expression.as_column().is_some()
                && own.expression.dims() == [dim]
                && is_label(own.source.as_ref())
        };
        let shown: Vec<usize> = varying
            .iter()
            .copied()
            .filter(|dim| wanted.iter().any(|own| labels(*dim, own)))
            .collect();
        let shows = |dim: &usize| shown.contains(dim);
        let selection = source.selection();
        // A query that names no coordinate has them all; otherwise dimensions of one index may be left out.
        let kept: Vec<usize> = if shown.is_empty() {
            varying.clone()
        } else {
            varying.iter().copied().filter(|dim| shows(dim) || selection[*dim].len() != 1).collect()
        };
        if !shown.is_empty() && !kept.iter().all(shows) {
            // Rows of cells that the query doesn't tell apart: an error that names one.
            return Ok(None);
        }
        for &dim in kept.iter().filter(|_| shown.is_empty()) {
            let own = table
                .columns
                .iter()
                .position(|column| column.dims == [dim] && column.name == table.dims[dim].name);
            if let Some(position) = own {
                let field = table_schema.field(position).clone();
                let expr: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), position));
                let expression = expression(expr)?;
                wanted.insert(0, Wanted { source: Some(field.clone()), field, expression });
            }
        }
        let Some(dims) = new_dims(&kept, &wanted, &source, &labels) else { return Ok(None) };
        let names: Vec<&String> = dims.iter().map(|dim| &dim.name).collect();
        if request.options.dims.as_ref().is_some_and(|asked| !asked.iter().eq(names)) {
            return Ok(None);
        }

        // Indices of dimensions that have no labels in the store either.
        let are_indices = |dim: usize| {
            let own = &selection[dim];
            own.ranges().len() <= 1 && own.bounds().start == 0
        };
        wanted.retain(|own| {
            let dim = own.expression.dims().first().copied();
            !is_index(own.source.as_ref()) || !dim.is_some_and(|d| labels(d, own) && are_indices(d))
        });
        let masked = source.leaves_out_rows();
        let mut columns = Vec::with_capacity(wanted.len());
        for own in wanted {
            let position = |dim: &usize| kept.iter().position(|kept| kept == dim);
            let mut of: Vec<usize> = own.expression.dims().iter().filter_map(position).collect();
            let is_labels = matches!(of[..], [dim] if labels(kept[dim], &own));
            let role = match &own.source {
                _ if is_labels => NewRole::Labels,
                Some(source) if schema::is_coordinate(source) => NewRole::Coordinate,
                _ => NewRole::Data,
            };
            // Values of cells without a row are missing.
            let is_masked = masked && role == NewRole::Data;
            if is_masked {
                of = (0..kept.len()).collect();
            }
            let is_nullable = own.field.is_nullable() && may_lack(&own, &table);
            let missing = if role != NewRole::Labels && (is_masked || is_nullable) {
                Missing::Maybe
            } else {
                Missing::Never
            };
            let form = StoredForm::new(&own.field, own.source.as_ref(), missing, None)?;
            let name = own.field.name().clone();
            let variable = NewVariable { name, dims: of, form, role };
            columns.push(TileColumn { expression: own.expression, variable });
        }
        let left_out = (0..table.dims.len()).filter(|dim| !varying.contains(dim));
        let repeated = left_out.map(|dim| selection[dim].len()).fold(1, u64::saturating_mul);
        let mut of: Vec<Vec<usize>> = columns.iter().map(|own| own.variable.dims.clone()).collect();
        of.sort();
        of.dedup();
        let mut passes = Vec::with_capacity(of.len());
        for dims in of {
            let own: Vec<usize> = (0..columns.len())
                .filter(|column| columns[*column].variable.dims == dims)
                .collect();
            let mut needed: Vec<usize> = own
                .iter()
                .flat_map(|&column| columns[column].expression.columns())
                .copied()
                .collect();
            needed.sort_unstable();
            needed.dedup();
            let scanned: Vec<usize> = dims.iter().map(|&dim| kept[dim]).collect();
            let mut selection = source.selection().to_vec();
            for (dim, selection) in selection.iter_mut().enumerate() {
                if !scanned.contains(&dim) && selection.len() > 1 {
                    let first = selection.bounds().start;
                    *selection = std::iter::once(first..first + 1).collect();
                }
            }
            let mut source = source.clone();
            // Which cells have rows is said where values lie along all dimensions.
            if masked && dims.len() < kept.len() {
                source = source.without_filters()?;
                if source.leaves_out_rows() {
                    return Ok(None);
                }
            }
            let source = source.reading(needed, selection, Vec::new())?;
            passes.push(TilePass { source, columns: own });
        }
        Ok(Some(Self { kept, dims, columns, passes, masked, repeated }))
    }
}

/// Whether a column of the store may lack values: integers without a fill value never do.
fn may_lack(own: &Wanted, table: &lsio_core::Table) -> bool {
    let column = own.expression.as_column().and_then(|column| table.columns[column].variable());
    column.is_none_or(|variable| {
        ["_FillValue", "missing_value"].iter().any(|name| variable.attributes().get(name).is_some())
            || variable.layout().format == lsio_core::write::ZarrFormat::V2
            || !own.field.data_type().is_integer()
    })
}

/// The dimensions that are written. `None` if two have one name.
fn new_dims(
    kept: &[usize],
    wanted: &[Wanted],
    source: &ZarrSource,
    labels: &impl Fn(usize, &Wanted) -> bool,
) -> Option<Vec<NewDim>> {
    let table = source.table();
    let mut dims: Vec<NewDim> = Vec::new();
    for &dim in kept {
        let column = wanted.iter().find(|own| labels(dim, own));
        let name = column.map_or(&table.dims[dim].name, |own| own.field.name());
        if dims.iter().any(|other| other.name == *name) {
            return None;
        }
        let chunks = wanted.iter().flat_map(|own| own.expression.columns()).filter_map(|&column| {
            let column = &table.columns[column];
            let position = column.dims.iter().position(|own| *own == dim)?;
            let variable = column.variable().filter(|_| column.dims.len() > 1)?;
            variable.chunk_grid().chunk_shape().get(position).copied()
        });
        let (size, chunk) = (source.selection()[dim].len(), chunks.max());
        dims.push(NewDim { name: name.clone(), size, chunk });
    }
    Some(dims)
}

/// Writes the tiles, and returns the number of rows.
pub(super) async fn write(write: &Write, plan: TilePlan) -> Result<u64> {
    let variables: Vec<NewVariable> = plan.columns.iter().map(|own| own.variable.clone()).collect();
    let group = new_group(&plan.dims, &variables, &write.request, &write.input.schema())?;
    let group = NewGroup { memory: Some(PoolMemory::new(&write.context)), ..group };
    let writer = StoreWriter::create(&write.location, group).await.map_err(external)?;
    let work = Arc::new(Work { writer, plan, rows: AtomicU64::new(0) });
    for pass in 0..work.plan.passes.len() {
        write_pass(write, &work, pass).await?;
    }
    write.count(&work.writer.commit().await.map_err(external)?);
    let cells = work.plan.dims.iter().map(|dim| dim.size).fold(1, u64::saturating_mul);
    let rows = if work.plan.masked { work.rows.load(Ordering::Relaxed) } else { cells };
    Ok(rows.saturating_mul(work.plan.repeated))
}

/// Writes the tiles of one scan.
async fn write_pass(write: &Write, work: &Arc<Work>, pass: usize) -> Result<()> {
    let source = &work.plan.passes[pass].source;
    let source = if source.is_of_execution() {
        source.for_execution(&write.context).await?
    } else {
        source.clone()
    };
    let tiles = source.tiles().len();
    let workers = write.context.session_config().target_partitions().max(1);
    let workers = workers.min(usize::try_from(tiles).unwrap_or(usize::MAX)).max(1);
    let execution = Execution::new(workers);
    let shares = Arc::new(Shares::new(1, false, workers, move |_| 0..tiles));
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let numbers = TileNumbers::in_shares(&execution, &shares, worker);
        let partition = Partition { index: worker, count: workers };
        let reader = source.reader(numbers, partition, &write.context, &write.metrics)?;
        tasks.spawn(Arc::clone(work).write_tiles(pass, reader));
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| DataFusionError::External(error.into()))??;
    }
    Ok(())
}

/// Shared by the workers.
struct Work {
    writer: StoreWriter,
    plan: TilePlan,
    rows: AtomicU64,
}

impl Work {
    async fn write_tiles(self: Arc<Self>, pass: usize, mut reader: TileReader) -> Result<()> {
        let TilePass { source, columns: written } = &self.plan.passes[pass];
        while let Some(mut ready) = reader.next(None).await? {
            reader.decode(&mut ready).await?;
            let columns = reader.work().columns.clone();
            let position = |column: usize| columns.binary_search(&column).ok();
            let absent = ready.rows.as_ref().map(|rows| BooleanArray::new(!rows, None));
            if source.leaves_out_rows() {
                let all = ready.tile.block().rows();
                let rows = ready.rows.as_ref().map_or(all, |rows| rows.count_set_bits());
                self.rows.fetch_add(rows as u64, Ordering::Relaxed);
            }
            for &number in written {
                let values = self.values(number, &ready.tile, &position, absent.as_ref())?;
                let dims = &self.plan.columns[number].variable.dims;
                let of: Vec<usize> = dims.iter().map(|&dim| self.plan.kept[dim]).collect();
                let block = ready.tile.block().selections();
                let own: Vec<&Selection> = of.iter().map(|&dim| &block[dim]).collect();
                let all: Vec<&Selection> = of.iter().map(|&dim| &source.selection()[dim]).collect();
                for (region, values) in boxes(&own, &all, values)? {
                    let array = &self.writer.arrays()[number];
                    array.write(&region, &values).await.map_err(external)?;
                }
                tokio::task::yield_now().await;
            }
            reader.give_back(ready.reserved);
        }
        Ok(())
    }

    /// The stored values of a variable in a tile, missing where there is no row.
    fn values(
        &self,
        number: usize,
        tile: &Tile,
        position: &impl Fn(usize) -> Option<usize>,
        absent: Option<&BooleanArray>,
    ) -> Result<ArrayRef> {
        let TileColumn { expression, variable } = &self.plan.columns[number];
        let mut values = expression.on(tile, position)?;
        if self.plan.masked && variable.role == NewRole::Data {
            values = tile.broadcast(&values, expression.dims()).map_err(external)?;
            if let Some(absent) = absent {
                values = nullif(&values, absent)?;
            }
        }
        variable.form.encode(&values)
    }
}

/// The boxes of the new array that a tile's values are in: selected indices that a filter left out lie between them.
fn boxes(
    own: &[&Selection],
    all: &[&Selection],
    values: ArrayRef,
) -> Result<Vec<(Region, ArrayRef)>> {
    // Of each dimension runs of indices that follow each other: the place in the array, the place in the tile, the length.
    let mut runs: Vec<Vec<(u64, u64, u64)>> = Vec::with_capacity(own.len());
    for (own, all) in own.iter().zip(all) {
        let mut of: Vec<(u64, u64, u64)> = Vec::new();
        let mut place = 0;
        for range in own.ranges() {
            let (start, len) = (all.rank(range.start), range.end - range.start);
            match of.last_mut().filter(|(first, _, count)| first + *count == start) {
                Some((_, _, count)) => *count += len,
                None => of.push((start, place, len)),
            }
            place += len;
        }
        runs.push(of);
    }
    let counts: Vec<u64> = runs.iter().map(|runs| runs.len() as u64).collect();
    let shape: Vec<u64> = own.iter().map(|own| own.len()).collect();
    let strides = strides(&shape);
    let number = counts.iter().product::<u64>();
    let mut boxes = Vec::with_capacity(usize::try_from(number).unwrap_or(0));
    for number in 0..number {
        let chosen: Vec<(u64, u64, u64)> = unravel(number, &counts)
            .into_iter()
            .zip(&runs)
            .filter_map(|(at, runs)| runs.get(usize::try_from(at).ok()?).copied())
            .collect();
        let region = Region {
            start: chosen.iter().map(|(start, ..)| *start).collect(),
            shape: chosen.iter().map(|(.., len)| *len).collect(),
        };
        if region.shape == shape {
            boxes.push((region, Arc::clone(&values)));
            continue;
        }
        let cells = (0..region.cells()).map(|cell| {
            let along = unravel(cell, &region.shape).into_iter().zip(&chosen).zip(&strides);
            along.map(|((index, (_, place, _)), stride)| (place + index) * stride).sum::<u64>()
        });
        let indices = UInt64Array::from_iter_values(cells);
        boxes.push((region, take(&values, &indices, None)?));
    }
    Ok(boxes)
}
