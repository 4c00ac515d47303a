//! [`Lines`]: the dimension along which a window runs.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, UInt64Array},
    compute::{SortOptions, take},
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use datafusion::{
    physical_expr::{PhysicalExpr, PhysicalSortExpr},
    physical_expr_common::physical_expr::is_volatile,
};
use lsio_core::Selection;

use crate::{
    coordinates::evaluated, expression::Expression, refusal::Refusal, scan_rows::ScanRows,
};

/// Upper bound on the indices of a window's dimension.
const MOST_INDICES: u64 = 1 << 22;

/// Partitions and order of a window along its dimension.
#[derive(Debug)]
pub(super) struct Lines {
    /// The dimension, as a position in the grid.
    pub(super) dim: usize,
    /// Its selected indices.
    pub(super) selection: Selection,
    /// The partitions along the dimension: positions among the selected indices, in the order of ORDER BY.
    pub(super) partitions: Vec<Vec<usize>>,
    /// Keys of ORDER BY that vary along the dimension, over the selected indices.
    pub(super) order: Vec<OrderKey>,
    /// Whether no two rows of a partition are peers.
    pub(super) unique: bool,
}

/// A key of ORDER BY.
#[derive(Debug)]
pub(super) struct OrderKey {
    pub(super) values: ArrayRef,
    pub(super) options: SortOptions,
}

impl Lines {
    /// Finds the dimension along which a window runs over rows of a scan.
    ///
    /// # Errors
    /// [`Refusal::Unsupported`] if it runs along none, or along several.
    pub(super) fn new(
        rows: &ScanRows,
        partition_by: &[Arc<dyn PhysicalExpr>],
        order_by: &[PhysicalSortExpr],
    ) -> Result<Self, Refusal> {
        let source = &rows.source;
        let table = source.table();
        let over_table = |expr: &Arc<dyn PhysicalExpr>| over_table(rows, expr);
        let keys = partition_by.iter().map(over_table).collect::<Result<Vec<_>, _>>()?;
        let order = order_by.iter().map(|key| over_table(&key.expr));
        let order = order.collect::<Result<Vec<_>, _>>()?;
        let mut free = Vec::new();
        for (dim, selection) in source.selection().iter().enumerate() {
            let own: Vec<&Expression> = keys.iter().filter(|key| key.dims() == [dim]).collect();
            if selection.len() > 1 && !pins(&own, dim, rows)? {
                free.push(dim);
            }
        }
        let dim = match free.as_slice() {
            [dim] => *dim,
            [] => {
                let of_order = order.iter().find_map(|key| match key.dims() {
                    [dim] => Some(*dim),
                    _ => None,
                });
                let last = table.dims.len().checked_sub(1);
                let none = || Refusal::unsupported("its rows have no dimension");
                of_order.or(last).ok_or_else(none)?
            }
            several => {
                let names: Vec<&str> =
                    several.iter().map(|&d| table.dims[d].name.as_str()).collect();
                return Err(Refusal::Unsupported(format!(
                    "PARTITION BY leaves {} free: a window runs along one dimension",
                    names.join(" and ")
                )));
            }
        };
        let selection = source.selection()[dim].clone();
        if selection.len() > MOST_INDICES {
            return Err(Refusal::Unsupported(format!(
                "{} has {} indices, more than a window is planned for",
                table.dims[dim].name,
                selection.len()
            )));
        }
        let mut along: Vec<&Expression> = Vec::new();
        for key in &keys {
            match key.dims() {
                [own] if *own == dim => along.push(key),
                dims if dims.contains(&dim) => {
                    return Err(Refusal::Unsupported(format!(
                        "PARTITION BY {} varies along several dimensions",
                        key.expr()
                    )));
                }
                _ => {}
            }
        }
        let partitions = partitions(&along, dim, rows, &selection)?;
        let mut lines = Self { dim, selection, partitions, order: Vec::new(), unique: false };
        lines.unique = lines.partitions.iter().all(|partition| partition.len() <= 1);
        for (key, sort) in order.iter().zip(order_by) {
            if lines.unique {
                break;
            }
            match key.dims() {
                [own] if *own == dim => lines.order_by(key, sort.options, rows)?,
                dims if dims.contains(&dim) => {
                    return Err(Refusal::Unsupported(format!(
                        "ORDER BY {} varies along several dimensions",
                        key.expr()
                    )));
                }
                // The same for all rows of a partition.
                _ => {}
            }
        }
        Ok(lines)
    }

    /// Orders the rows of each partition by a further key.
    fn order_by(
        &mut self,
        key: &Expression,
        options: SortOptions,
        rows: &ScanRows,
    ) -> Result<(), Refusal> {
        let values = evaluated(&[key], &[self.dim], &rows.source)?;
        for values in values {
            let values = selected(&values, &self.selection)?;
            self.order.push(OrderKey { values, options });
        }
        let fields = self
            .order
            .iter()
            .map(|key| SortField::new_with_options(key.values.data_type().clone(), key.options));
        let values: Vec<ArrayRef> = self.order.iter().map(|key| Arc::clone(&key.values)).collect();
        let keys = rows_of(fields.collect(), &values)?;
        self.unique = true;
        for partition in &mut self.partitions {
            partition.sort_by(|one, other| keys.row(*one).cmp(&keys.row(*other)));
            let ties = partition.windows(2).any(|pair| keys.row(pair[0]) == keys.row(pair[1]));
            self.unique &= !ties;
        }
        Ok(())
    }
}

/// An expression over the input's columns as one over the table.
pub(super) fn over_table(
    rows: &ScanRows,
    expr: &Arc<dyn PhysicalExpr>,
) -> Result<Expression, Refusal> {
    if is_volatile(expr) {
        return Err(Refusal::Unsupported(format!("{expr} is another value each time")));
    }
    let unknown = || Refusal::unsupported("it names columns that its input lacks");
    let expr = rows.over_table(expr)?.ok_or_else(unknown)?;
    Ok(Expression::new(expr, rows.source.table(), rows.source.table_schema())?)
}

/// Whether keys along one dimension differ for each of its selected indices.
fn pins(keys: &[&Expression], dim: usize, rows: &ScanRows) -> Result<bool, Refusal> {
    if keys.is_empty() {
        return Ok(false);
    }
    let selection = &rows.source.selection()[dim];
    let groups = partitions(keys, dim, rows, selection)?;
    Ok(groups.len() as u64 == selection.len())
}

/// Positions among the selected indices with equal keys, in the order of their first.
fn partitions(
    keys: &[&Expression],
    dim: usize,
    rows: &ScanRows,
    selection: &Selection,
) -> Result<Vec<Vec<usize>>, Refusal> {
    let len = usize::try_from(selection.len()).unwrap_or(usize::MAX);
    if keys.is_empty() {
        return Ok(if len == 0 { Vec::new() } else { vec![(0..len).collect()] });
    }
    let values = evaluated(keys, &[dim], &rows.source)?;
    let values = values.iter().map(|values| selected(values, selection));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let fields = values.iter().map(|values| SortField::new(values.data_type().clone()));
    let rows = rows_of(fields.collect(), &values)?;
    let mut known: HashMap<OwnedRow, usize> = HashMap::new();
    let mut partitions: Vec<Vec<usize>> = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        let next = partitions.len();
        let partition = *known.entry(row.owned()).or_insert(next);
        if partition == next {
            partitions.push(Vec::new());
        }
        partitions[partition].push(position);
    }
    Ok(partitions)
}

/// Values at the selected indices.
pub(super) fn selected(values: &ArrayRef, selection: &Selection) -> Result<ArrayRef, Refusal> {
    let indices = UInt64Array::from_iter_values(selection.iter());
    take(values, &indices, None).map_err(|error| Refusal::Failed(error.into()))
}

/// Values in a form that compares; NULL equals NULL.
fn rows_of(fields: Vec<SortField>, values: &[ArrayRef]) -> Result<Rows, Refusal> {
    let converter = RowConverter::new(fields);
    let rows = converter.and_then(|converter| converter.convert_columns(values));
    rows.map_err(|error| Refusal::Unsupported(format!("its keys can't be compared: {error}")))
}
