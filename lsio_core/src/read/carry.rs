//! States that tiles hand on to the tiles behind them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::tiles::{Block, Tiles};
use crate::dataset::Carried;

/// Position of a column, the numbers along each dimension of the tile for which a state is meant, and the number of the
/// strip of this tile.
type CarryKey = (usize, Vec<u64>, usize);

/// A part of a tile that continues the same part of the tile before.
#[derive(Clone, Copy, Debug)]
pub(super) struct CarriedStrip<'a> {
    /// Position of the column.
    pub(super) column: usize,
    /// The tile's cells, and the number of the strip in it.
    pub(super) block: &'a Block,
    pub(super) strip: usize,
    /// The dimension along which tiles continue each other.
    pub(super) dim: usize,
}

/// States by the tiles that will take them.
///
/// A tile's state is taken once. Tiles are taken in order and each worker goes through its own in order, so the tile
/// that is furthest behind never waits.
#[derive(Debug, Default)]
pub(super) struct Carries {
    states: Mutex<HashMap<CarryKey, Option<Carried>>>,
    changed: Notify,
}

impl Carries {
    /// Waits for the state that the tile before hands on. `None` for the first tile.
    pub(super) async fn wait(&self, own: CarriedStrip<'_>, tiles: &Tiles) -> Option<Carried> {
        let number = tiles.number_along(own.block, own.dim);
        tiles.before_along(own.dim, number)?;
        let key = (own.column, tiles.numbers(own.block), own.strip);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change goes unnoticed.
            changed.as_mut().enable();
            if let Some(state) = self.lock().remove(&key) {
                return state;
            }
            changed.await;
        }
    }

    /// Keeps a state for the tile behind.
    pub(super) fn hand_on(&self, own: CarriedStrip<'_>, tiles: &Tiles, state: Option<Carried>) {
        let number = tiles.number_along(own.block, own.dim);
        let Some(next) = tiles.after_along(own.dim, number) else { return };
        let mut numbers = tiles.numbers(own.block);
        if let Some(number) = numbers.get_mut(own.dim) {
            *number = next;
        }
        self.lock().insert((own.column, numbers, own.strip), state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CarryKey, Option<Carried>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
