//! The order in which a scan visits its tiles.

use super::{scan::Scan, source::ScanColumn, tiles::DimOrder};
use crate::dataset::Continues;

/// Upper bound on the lines of cells of which states are kept for the tiles behind.
const MOST_LINES_BESIDE: u64 = 2 << 20;

/// Bytes of the state of a line: a count and up to four doubles.
const STATE_BYTES: u64 = 40;

impl Scan {
    /// Visits the tiles in another order: see [`Tiles::with_order`](super::Tiles::with_order). Tiles that continue each other come in their
    /// direction. Unless the order says otherwise, tiles that need the same cells come one after the other, and tiles
    /// that continue each other as far apart as there is memory for the states between them.
    #[must_use]
    pub fn with_order(mut self, first: &[DimOrder]) -> Self {
        let continued: Vec<DimOrder> =
            self.columns.iter().filter_map(ScanColumn::continues).map(DimOrder::from).collect();
        let derived = || self.columns.iter().filter_map(ScanColumn::derived);
        let runs_along = |dim: usize| derived().any(|(derive, _)| derive.runs_along(dim));
        let is = |order: &[DimOrder], dim: usize| order.iter().any(|other| other.dim == dim);
        let rest = (0..self.tiles.shape().len()).filter(|dim| !is(first, *dim));
        let (along, mut others): (Vec<usize>, Vec<usize>) = rest.partition(|dim| runs_along(*dim));
        let beside = match continued.is_empty() {
            true => Vec::new(),
            false => others.split_off(others.len() - self.count_beside(&others, runs_along)),
        };
        let mut order = first.to_vec();
        order.extend(others.into_iter().chain(along).map(DimOrder::forward));
        for own in continued {
            if let Some(other) = order.iter_mut().find(|other| other.dim == own.dim) {
                other.reversed = own.reversed;
            }
        }
        order.extend(beside.into_iter().map(DimOrder::forward));
        self.tiles = self.tiles.with_order(&order);
        self
    }

    /// Estimated memory in bytes for the states that tiles hand on to the tiles behind them.
    #[must_use]
    pub fn carried_bytes(&self) -> usize {
        let order = self.tiles.order();
        let of = |own: Continues| {
            let place = order.iter().position(|other| other.dim == own.dim).unwrap_or(0);
            let tiles = order[place..].iter().filter(|other| other.dim != own.dim);
            let tiles = tiles.map(|other| self.tiles.touched()[other.dim].len());
            let others = (0..order.len()).filter(|dim| *dim != own.dim);
            others
                .map(|dim| self.most_along(dim))
                .chain(tiles)
                .fold(STATE_BYTES, u64::saturating_mul)
        };
        let all = self.columns.iter().filter_map(ScanColumn::continues).map(of);
        usize::try_from(all.fold(0, u64::saturating_add)).unwrap_or(usize::MAX)
    }

    /// Whether values of a tile continue those of the tile before, so that no tile may be left out.
    #[must_use]
    pub fn continues(&self) -> bool {
        self.columns.iter().any(|column| column.continues().is_some())
    }

    /// Whether the last tile along a dimension comes first, as tiles continue each other from there.
    #[must_use]
    pub fn continues_backward(&self) -> bool {
        let mut continued = self.columns.iter().filter_map(ScanColumn::continues);
        continued.any(|continued| continued.reversed)
    }

    /// Number of the last ones of some dimensions whose tiles may all have a state at the same time.
    fn count_beside(&self, others: &[usize], runs_along: impl Fn(usize) -> bool) -> usize {
        let all = (0..self.tiles.shape().len()).filter(|dim| !runs_along(*dim));
        let mut lines = all.map(|dim| self.most_along(dim)).fold(1, u64::saturating_mul);
        let fit = others.iter().rev().take_while(|&&dim| {
            lines = lines.saturating_mul(self.tiles.touched()[dim].len());
            lines <= MOST_LINES_BESIDE
        });
        fit.count()
    }

    /// Upper bound on a tile's indices along a dimension.
    fn most_along(&self, dim: usize) -> u64 {
        self.tiles.shape()[dim].min(self.tiles.selection()[dim].len()).max(1)
    }
}
