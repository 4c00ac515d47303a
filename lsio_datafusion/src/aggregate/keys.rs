//! Group keys, evaluated once over the dimensions along which they vary.

use std::sync::Arc;

use arrow::{
    array::ArrayRef,
    datatypes::{Field, Schema},
};
use datafusion::{
    common::tree_node::TreeNode as _,
    error::Result,
    logical_expr::EmitTo,
    physical_expr::scalar_subquery::ScalarSubqueryExpr,
    physical_plan::aggregates::{group_values::new_group_values, order::GroupOrdering},
};
use lsio_core::{
    Selection, Table,
    grid::strides,
    read::{Block, Rows, Scan, ScanOptions},
    reduce,
};

use super::slabs::SetStride;
use crate::{
    error::external,
    expression::{Expression, union},
    refusal::Refusal,
};

/// Upper bound on the cells over which a key varies: their groups are held in memory.
const MOST_CELLS: u64 = 64 << 20;

/// Cells for which keys are evaluated at a time.
const BATCH: usize = 1 << 16;

/// Group keys, and the sets of those that share dimensions.
#[derive(Clone, Debug)]
pub(super) struct GroupKeys {
    pub(super) exprs: Vec<(Expression, String)>,
    sets: Vec<KeySet>,
}

/// Keys that are evaluated together.
#[derive(Clone, Debug)]
struct KeySet {
    dims: Vec<usize>,
    /// Positions of the keys.
    exprs: Vec<usize>,
}

/// Groups of the selected cells.
#[derive(Clone, Debug)]
pub(super) struct CellGroups {
    pub(super) sets: Vec<GroupSet>,
    selection: Vec<Selection>,
}

/// Groups along some dimensions, which belong to one set only.
#[derive(Clone, Debug)]
pub(super) struct GroupSet {
    pub(super) dims: Vec<usize>,
    /// The number of groups.
    pub(super) count: usize,
    /// The group of each selected cell along these dimensions, in C order. Groups are numbered in the order
    /// of their first cells.
    pub(super) ids: Vec<u32>,
    /// The positions of the keys.
    pub(super) exprs: Vec<usize>,
    /// The value of each key in every group.
    pub(super) values: Vec<ArrayRef>,
}

impl GroupKeys {
    /// Finds the keys that are evaluated together.
    ///
    /// # Errors
    /// If a key varies over more cells than are held in memory.
    pub(super) fn new(
        exprs: Vec<(Expression, String)>,
        selection: &[Selection],
    ) -> Result<Self, Refusal> {
        let mut sets: Vec<KeySet> = Vec::new();
        for (position, (expr, _)) in exprs.iter().enumerate() {
            let mut set = KeySet { dims: expr.dims().to_vec(), exprs: vec![position] };
            // Merges the sets that share a dimension with it.
            while let Some(other) =
                sets.iter().position(|other| other.dims.iter().any(|d| set.dims.contains(d)))
            {
                let other = sets.remove(other);
                set.dims = union([set.dims.as_slice(), &other.dims].into_iter());
                set.exprs.extend(other.exprs);
            }
            sets.push(set);
        }
        for set in &sets {
            let cells = set.dims.iter().map(|&d| selection[d].len()).fold(1, u64::saturating_mul);
            let names = || {
                let names: Vec<&str> = set.exprs.iter().map(|&e| exprs[e].1.as_str()).collect();
                names.join(", ")
            };
            if cells > MOST_CELLS {
                let reason = format!("GROUP BY {} varies over {cells} cells", names());
                return Err(Refusal::Unsupported(reason));
            }
        }
        // Puts the innermost dimension last, whose groups lie side by side.
        sets.sort_by_key(|set| set.dims.last().copied());
        Ok(Self { exprs, sets })
    }

    /// Dimensions along which some key varies.
    pub(super) fn dims(&self) -> Vec<usize> {
        union(self.sets.iter().map(|set| set.dims.as_slice()))
    }

    /// The groups, if planning knows all that they depend on.
    pub(super) fn known(
        &self,
        table: &Table,
        selection: &[Selection],
    ) -> Result<Option<CellGroups>> {
        for (expr, _) in &self.exprs {
            let waits =
                expr.expr().exists(|e| Ok(e.downcast_ref::<ScalarSubqueryExpr>().is_some()))?;
            let loaded = |&position: &usize| {
                let column = &table.columns[position];
                column.is_known()
            };
            if waits || !expr.columns().iter().all(loaded) {
                return Ok(None);
            }
        }
        self.groups(&self.scan(table, selection)?, selection).map(Some)
    }

    /// Reads the columns that aren't in memory, and finds the groups.
    pub(super) async fn read(&self, table: &Table, selection: &[Selection]) -> Result<CellGroups> {
        let scan = self.scan(table, selection)?;
        scan.load().await.map_err(external)?;
        self.groups(&scan, selection)
    }

    fn scan(&self, table: &Table, selection: &[Selection]) -> Result<Scan> {
        let options = ScanOptions { held_bytes: u64::MAX, ..ScanOptions::default() };
        Scan::new(table, &self.columns(), selection.to_vec(), &options).map_err(external)
    }

    fn columns(&self) -> Vec<usize> {
        union(self.exprs.iter().map(|(expr, _)| expr.columns()))
    }

    fn groups(&self, scan: &Scan, selection: &[Selection]) -> Result<CellGroups> {
        let columns = self.columns();
        let all: Vec<usize> = (0..columns.len()).collect();
        let tile = scan.local(&all, scan.tiles().whole()).map_err(external)?;
        let sets = self.sets.iter().map(|set| {
            let fields = set.exprs.iter().map(|&e| {
                let (expr, name) = &self.exprs[e];
                Ok(Field::new(name, expr.data_type()?, true))
            });
            let fields: Vec<_> = fields.collect::<Result<_>>()?;
            let mut groups = new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?;
            let rows: Vec<_> = set
                .exprs
                .iter()
                .map(|&e| {
                    let own = self.exprs[e].0.columns().iter();
                    let positions: Vec<usize> =
                        own.filter_map(|c| columns.binary_search(c).ok()).collect();
                    tile.rows(&set.dims, &positions).map_err(external)
                })
                .collect::<Result<_>>()?;
            let cells = rows.first().map_or(0, Rows::len);
            let mut ids: Vec<u32> = Vec::with_capacity(cells);
            let mut batch = Vec::new();
            for start in (0..cells).step_by(BATCH) {
                let len = BATCH.min(cells - start);
                let keys = set.exprs.iter().zip(&rows).map(|(&e, rows)| {
                    self.exprs[e].0.evaluate(rows.slice(start, len).map_err(external)?, len)
                });
                groups.intern(&keys.collect::<Result<Vec<_>>>()?, &mut batch)?;
                // There are at most as many groups as cells, whose number fits 32 bits.
                ids.extend(batch.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)));
            }
            Ok(GroupSet {
                dims: set.dims.clone(),
                count: groups.len(),
                ids,
                exprs: set.exprs.clone(),
                values: if groups.is_empty() { Vec::new() } else { groups.emit(EmitTo::All)? },
            })
        });
        Ok(CellGroups { sets: sets.collect::<Result<_>>()?, selection: selection.to_vec() })
    }
}

impl CellGroups {
    /// Number of all groups; `None` if it doesn't fit 64 bits.
    pub(super) fn len(&self) -> Option<usize> {
        self.sets.iter().try_fold(1_usize, |groups, set| groups.checked_mul(set.count))
    }

    /// Number of selected cells.
    pub(super) fn cells(&self) -> usize {
        let cells = self.selection.iter().map(Selection::len).fold(1, u64::saturating_mul);
        usize::try_from(cells).unwrap_or(usize::MAX)
    }

    /// Number of selected cells along the dimensions along which no key varies.
    pub(super) fn cells_without_key(&self) -> usize {
        let has_key = |dim: &usize| self.sets.iter().any(|set| set.dims.contains(dim));
        let dims = (0..self.selection.len()).filter(|dim| !has_key(dim));
        let cells = dims.map(|dim| self.selection[dim].len()).fold(1, u64::saturating_mul);
        usize::try_from(cells).unwrap_or(usize::MAX)
    }

    /// Offsets of a block's cells in the groups of a slab, one list for each set of keys.
    pub(super) fn of_block(&self, block: &Block, slab: &[SetStride]) -> Vec<reduce::GroupKeys> {
        self.sets
            .iter()
            .zip(slab)
            .map(|(set, SetStride { first, stride })| {
                let along: Vec<Vec<u64>> = set
                    .dims
                    .iter()
                    .map(|&dim| {
                        let positions = block.selections()[dim].ranges().flat_map(|range| {
                            let start = self.selection[dim].rank(range.start);
                            start..start + (range.end - range.start)
                        });
                        positions.collect()
                    })
                    .collect();
                let sizes: Vec<u64> =
                    set.dims.iter().map(|&dim| self.selection[dim].len()).collect();
                let mut cells = vec![0_u64];
                for (positions, stride) in along.iter().zip(strides(&sizes)) {
                    cells = cells
                        .iter()
                        .flat_map(|cell| positions.iter().map(move |p| cell + p * stride))
                        .collect();
                }
                let offsets = cells
                    .iter()
                    .map(|&cell| {
                        let id = set.ids[usize::try_from(cell).unwrap_or(usize::MAX)];
                        id.wrapping_sub(*first).wrapping_mul(*stride)
                    })
                    .collect();
                reduce::GroupKeys { dims: set.dims.clone(), offsets }
            })
            .collect()
    }
}
