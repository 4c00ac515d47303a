//! States that tiles hand on to the tiles behind them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::tiles::{Block, Tiles};
use crate::dataset::Carried;

/// Position of a column, and the numbers along each dimension of the tile for which a state is meant.
type CarryKey = (usize, Vec<u64>);

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
    /// Waits for the state that the tile before this one along `dim` hands on. `None` for the first tile.
    pub(super) async fn wait(
        &self,
        column: usize,
        block: &Block,
        dim: usize,
        tiles: &Tiles,
    ) -> Option<Carried> {
        let number = tiles.number_along(block, dim);
        tiles.before_along(dim, number)?;
        let key = (column, tiles.numbers(block));
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

    /// Keeps the state of a tile for the tile behind it along `dim`.
    pub(super) fn hand_on(
        &self,
        column: usize,
        block: &Block,
        dim: usize,
        tiles: &Tiles,
        state: Option<Carried>,
    ) {
        let number = tiles.number_along(block, dim);
        let Some(next) = tiles.after_along(dim, number) else { return };
        let mut numbers = tiles.numbers(block);
        if let Some(own) = numbers.get_mut(dim) {
            *own = next;
        }
        self.lock().insert((column, numbers), state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CarryKey, Option<Carried>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
