//! Orders of rows along the dimensions, by the order of tiles.

use arrow::{
    array::{Array as _, ArrayRef},
    compute::{SortOptions, kernels::cmp::lt},
};
use datafusion::{
    error::Result,
    physical_expr::{PhysicalSortExpr, expressions::Column},
};
use lsio_core::{
    Table,
    read::{DimOrder, Tiles},
};

/// Order of tiles for an order of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visits {
    /// Slowest dimension first.
    pub(super) order: Vec<DimOrder>,
    /// Whether rows come exactly in their order.
    pub(super) exact: bool,
}

/// Finds the order of tiles that gives rows in an order as far as possible. `columns` are those of the
/// output, by their positions in the table. `None` if the first key isn't a coordinate in memory whose values
/// ascend or descend.
pub(super) fn visits(
    order: &[PhysicalSortExpr],
    columns: &[usize],
    table: &Table,
    tiles: &Tiles,
) -> Result<Option<Visits>> {
    let mut dims: Vec<DimOrder> = Vec::new();
    let mut exact = true;
    for key in order {
        let position = key.expr.downcast_ref::<Column>().and_then(|c| columns.get(c.index()));
        let along = match position {
            Some(&position) => along(table, position, key.options, tiles)?,
            None => None,
        };
        match along {
            Some(Along::OneValue) => {}
            // Rows with equal earlier keys differ in this one only if such a key repeats.
            Some(Along::Dimension { dim, .. }) if dims.iter().any(|other| other.dim == dim) => {
                exact = false;
            }
            Some(Along::Dimension { dim, reversed, strict }) => {
                dims.push(DimOrder { dim, reversed });
                exact = exact && (strict || dims.len() == order.len());
            }
            None => {
                exact = false;
                break;
            }
        }
    }
    if dims.is_empty() {
        return Ok(None);
    }
    let exact = exact && rows_follow(&dims, tiles);
    Ok(Some(Visits { order: dims, exact }))
}

/// Variation of a column.
enum Along {
    /// Constant.
    OneValue,
    /// Ordered along a dimension, in the wanted direction or reversed.
    Dimension { dim: usize, reversed: bool, strict: bool },
}

fn along(
    table: &Table,
    position: usize,
    options: SortOptions,
    tiles: &Tiles,
) -> Result<Option<Along>> {
    let column = &table.columns[position];
    let &[dim] = column.dims.as_slice() else {
        return Ok(column.dims.is_empty().then_some(Along::OneValue));
    };
    if tiles.selection()[dim].len() <= 1 {
        return Ok(Some(Along::OneValue));
    }
    let Direction { ascends, strict } = match (column.is_index(), column.loaded()) {
        (true, _) => Direction { ascends: true, strict: true },
        (false, Some(values)) => match direction(values)? {
            Some(direction) => direction,
            None => return Ok(None),
        },
        (false, None) => return Ok(None),
    };
    Ok(Some(Along::Dimension { dim, reversed: ascends == options.descending, strict }))
}

/// Direction of ordered values.
struct Direction {
    /// Whether they ascend; otherwise they descend.
    ascends: bool,
    /// Whether each differs from the one before.
    strict: bool,
}

/// Direction of values; `None` if they aren't ordered, or some are NULL.
fn direction(values: &ArrayRef) -> Result<Option<Direction>> {
    let ordered = |ascends, strict| Ok(Some(Direction { ascends, strict }));
    let Some(pairs) = values.len().checked_sub(1) else { return ordered(true, true) };
    if values.null_count() > 0 || values.data_type().is_nested() {
        return Ok(None);
    }
    let (before, after) = (values.slice(0, pairs), values.slice(1, pairs));
    let up = lt(&before, &after)?.true_count();
    let down = lt(&after, &before)?.true_count();
    match (up, down) {
        (up, 0) => ordered(true, up == pairs),
        (0, down) => ordered(false, down == pairs),
        _ => Ok(None),
    }
}

/// Whether rows come in the order of these dimensions if tiles do. Within a tile rows are in C order.
fn rows_follow(dims: &[DimOrder], tiles: &Tiles) -> bool {
    // The keys must be the grid's first dimensions with more than one index.
    let varying: Vec<usize> =
        (0..tiles.shape().len()).filter(|&dim| tiles.selection()[dim].len() > 1).collect();
    let keys: Vec<usize> = dims.iter().map(|order| order.dim).collect();
    if !varying.starts_with(&keys) {
        return false;
    }
    let one_index = |dim: usize| {
        let size = tiles.shape()[dim];
        size == 1 || tiles.selection()[dim].chunks(size).len() == tiles.selection()[dim].len()
    };
    let one_tile = |dim: usize| tiles.touched()[dim].len() <= 1;
    // First come dimensions of which a tile has one index, then at most one of which it has several; all that
    // vary faster must be whole.
    let split = varying.iter().position(|&dim| !one_index(dim)).unwrap_or(varying.len());
    if split >= keys.len() {
        return true;
    }
    // Rows within a tile are never reversed.
    let forward = dims[split..].iter().all(|order| !order.reversed);
    forward && varying[split + 1..].iter().all(|&dim| one_tile(dim))
}

#[cfg(test)]
mod tests {
    use lsio_core::Selection;

    use super::*;

    #[test]
    fn which_visits_are_exact() {
        let tiles =
            |shape: [u64; 3]| Tiles::new(shape.to_vec(), vec![Selection::all(6); 3]).unwrap();
        let order = |dims: &[(usize, bool)]| -> Vec<DimOrder> {
            dims.iter().map(|&(dim, reversed)| DimOrder { dim, reversed }).collect()
        };
        let follow = |shape, dims: &[(usize, bool)]| rows_follow(&order(dims), &tiles(shape));
        // Whole maps.
        assert!(follow([1, 6, 6], &[(0, false)]));
        assert!(follow([1, 6, 6], &[(0, true)]));
        assert!(follow([1, 6, 6], &[(0, true), (1, false), (2, false)]));
        assert!(follow([2, 6, 6], &[(0, false), (1, false)]));
        assert!(!follow([2, 6, 6], &[(0, true)]));
        assert!(!follow([1, 6, 6], &[(0, false), (1, true)]));
        assert!(!follow([1, 6, 6], &[(1, false)]));
        assert!(!follow([1, 6, 6], &[(0, false), (2, false)]));
        // Maps in parts.
        assert!(follow([1, 3, 6], &[(0, true)]));
        assert!(follow([1, 3, 6], &[(0, false), (1, false)]));
        assert!(follow([1, 3, 3], &[(0, false)]));
        assert!(!follow([1, 3, 3], &[(0, false), (1, false)]));
        assert!(!follow([2, 3, 6], &[(0, false)]));
        // Single indices count for nothing.
        let some = Tiles::new(
            vec![2, 2, 6],
            vec![Selection::all(1), Selection::all(6), Selection::all(6)],
        );
        assert!(rows_follow(&order(&[(1, false)]), &some.unwrap()));
    }
}
