//! The part of a store that a query needs: the chunks with selected cells.

use std::{collections::BTreeSet, ops::Range, path::Path};

use datafusion::{
    common::tree_node::TreeNodeRecursion, logical_expr::LogicalPlan,
    object_store::path::Path as Key, prelude::SessionContext,
};
use lsio_core::{Dataset, Location, OpenOptions, Role, dataset::Layout, grid::ChunkGrid};
use lsio_datafusion::prelude::*;

use crate::{
    Error,
    chunks::{indices, list},
    shard::Shard,
};

/// An object, or a range of one.
#[derive(Clone)]
pub(crate) struct Piece {
    pub key: Key,
    /// Range in bytes; `None` for the whole object.
    pub range: Option<Range<u64>>,
    pub len: u64,
}

/// Cells that a query selects.
#[derive(Clone, Copy)]
pub(crate) enum Selected {
    All,
    /// Index ranges along time, latitude and longitude.
    Box([(u64, u64); 3]),
}

impl Selected {
    /// Selection of the query `box` on the grid of make-data.
    pub(crate) const BOX: Self = Self::Box([(0, u64::MAX), (80, 221), (0, 160)]);
    /// 45° N, 90° E, at the first time.
    pub(crate) const POINT: Self = Self::Box([(0, 1), (180, 181), (360, 361)]);

    /// Whether cells are selected in the box at `start` of this shape.
    fn meets(self, start: &[u64], shape: &[u64]) -> bool {
        match self {
            Self::All => true,
            Self::Box(ranges) => {
                let mut dims = ranges.iter().zip(start.iter().zip(shape));
                dims.all(|(&(from, to), (&start, &size))| start < to && start + size > from)
            }
        }
    }
}

/// Pieces of a store that a query needs.
pub(crate) struct Needed {
    pub pieces: Vec<Piece>,
}

impl Needed {
    /// Pieces that a query needs of the store in this local directory; `name` is the store's name on the server.
    pub(crate) fn find(
        store: &Path,
        name: &str,
        sql: &str,
        selected: Selected,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let text = store.to_str().ok_or("the store's path is not UTF-8")?;
        let columns = runtime.block_on(columns(text, sql))?;
        let location = Location::parse(text)?;
        let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default()))?;
        let mut pieces = Vec::new();
        for (variable, role) in dataset.variables() {
            if matches!(role, Role::Data) && columns.contains(variable.name()) {
                let root = store.join(variable.name()).join("c");
                find_pieces(
                    &root,
                    &format!("{name}/{}/c", variable.name()),
                    variable.layout(),
                    selected,
                    &mut pieces,
                )
                .map_err(|e| format!("{}: {e}", root.display()))?;
            }
        }
        if pieces.is_empty() {
            return Err("the query reads no chunks: there is nothing to compare it with".into());
        }
        Ok(Self { pieces })
    }

    /// Bytes of all pieces.
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len).sum()
    }
}

/// Columns that a query reads.
async fn columns(store: &str, sql: &str) -> Result<BTreeSet<String>, Error> {
    let ctx = SessionContext::new().with_zarr();
    ctx.register_zarr("era5", store, OpenOptions::default()).await?;
    let plan = ctx.query(sql).await?.into_optimized_plan()?;
    let mut columns = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            columns.extend(scan.projected_schema.fields().iter().map(|f| f.name().clone()));
            let filters = scan.filters.iter().flat_map(|filter| filter.column_refs());
            columns.extend(filters.map(|column| column.name.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

/// Pieces of one array: objects, or the chunks of shards that aren't wanted whole.
fn find_pieces(
    root: &Path,
    prefix: &str,
    layout: &Layout,
    selected: Selected,
    pieces: &mut Vec<Piece>,
) -> Result<(), Error> {
    let mut files = Vec::new();
    list(root, &mut files)?;
    files.sort_unstable();
    for (path, size) in files {
        let indices = indices(path.strip_prefix(root)?)?;
        let start: Vec<u64> =
            indices.iter().zip(&layout.chunks).map(|(index, size)| index * size).collect();
        if !selected.meets(&start, &layout.chunks) {
            continue;
        }
        let numbers: Vec<String> = indices.iter().map(u64::to_string).collect();
        let key = Key::parse(format!("{prefix}/{}", numbers.join("/")))?;
        let inner = match (selected, &layout.inner_chunks) {
            (Selected::Box(_), Some(inner)) => inner,
            _ => {
                pieces.push(Piece { key, range: None, len: size });
                continue;
            }
        };
        let grid = ChunkGrid::new(layout.chunks.clone(), inner.clone())
            .ok_or("the chunks don't fit the shards")?;
        let shard = Shard::open(&path, usize::try_from(grid.len())?)?;
        for number in 0..grid.len() {
            let mut region = grid.region(number);
            region.start.iter_mut().zip(&start).for_each(|(inner, outer)| *inner += outer);
            let stored = shard.range(usize::try_from(number)?);
            if let Some(range) = stored.filter(|_| selected.meets(&region.start, &region.shape)) {
                let len = range.end - range.start;
                pieces.push(Piece { key: key.clone(), range: Some(range), len });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_meet_chunks() {
        let chunk = [24, 181, 360];
        assert!(Selected::POINT.meets(&[0, 0, 360], &chunk));
        assert!(!Selected::POINT.meets(&[0, 0, 0], &chunk));
        assert!(!Selected::POINT.meets(&[0, 181, 360], &chunk));
        assert!(Selected::BOX.meets(&[240, 181, 0], &chunk));
        assert!(!Selected::BOX.meets(&[240, 362, 0], &chunk));
        assert!(Selected::All.meets(&[240, 362, 0], &chunk));
    }
}
