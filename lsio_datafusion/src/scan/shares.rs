//! Tiles handed out in shares: what a worker keeps of a share is its own, as long as there are shares that no other
//! worker has opened.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Consecutive tiles of one execution, cut into shares.
pub(crate) struct Shares {
    /// Number of shares.
    count: u64,
    tiles: Box<dyn Fn(u64) -> Range<u64> + Send + Sync>,
    /// Whether workers open shares of their own, before they help others.
    apart: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// First share that no worker has opened.
    unopened: u64,
    /// Shares with tiles that nobody has taken, or with workers.
    open: BTreeMap<u64, OpenShare>,
    /// The shares of each worker that it hasn't left, in the order in which it took tiles of them.
    workers: Vec<VecDeque<u64>>,
}

#[derive(Debug)]
struct OpenShare {
    /// Tiles that nobody has taken.
    left: Range<u64>,
    /// How often workers have entered it, and not left it.
    workers: usize,
}

impl Shares {
    /// Shares of which each has the tiles that `tiles` gives for its number. With `apart`, each worker opens shares of
    /// its own before it helps others; otherwise all work on one share.
    pub(crate) fn new(
        count: u64,
        apart: bool,
        workers: usize,
        tiles: impl Fn(u64) -> Range<u64> + Send + Sync + 'static,
    ) -> Self {
        let workers = vec![VecDeque::new(); workers];
        let state = State { unopened: 0, open: BTreeMap::new(), workers };
        Self { count, tiles: Box::new(tiles), apart, state: Mutex::new(state) }
    }

    /// The next tile for a worker.
    pub(crate) fn take(&self, worker: usize) -> Option<u64> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let last = state.workers.get(worker)?.back().copied();
        if let Some(own) = last.and_then(|share| state.open.get_mut(&share))
            && let Some(tile) = own.left.next()
        {
            return Some(tile);
        }
        if self.apart
            && let Some(tile) = self.open(state, worker)
        {
            return Some(tile);
        }
        // The share with the most tiles left is the one whose workers need help most.
        let most = state.open.iter_mut().max_by_key(|(_, open)| open.left.end - open.left.start);
        if let Some((&share, open)) = most
            && let Some(tile) = open.left.next()
        {
            open.workers += 1;
            state.workers[worker].push_back(share);
            return Some(tile);
        }
        self.open(state, worker)
    }

    /// Skips the tiles before this one of the worker's share.
    pub(crate) fn skip_to(&self, worker: usize, tile: u64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let last = state.workers.get(worker).and_then(|own| own.back());
        if let Some(own) = last.and_then(|share| state.open.get_mut(share)) {
            own.left.start = own.left.start.max(tile.min(own.left.end));
        }
    }

    /// Notes that a worker goes on with a tile of this share, or ends. Returns the shares without tiles and workers from
    /// then on.
    pub(crate) fn go_on(&self, worker: usize, share: Option<u64>) -> Vec<u64> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut done = Vec::new();
        let Some(own) = state.workers.get_mut(worker) else { return done };
        while let Some(left) = own.pop_front_if(|own| Some(*own) != share) {
            let Some(open) = state.open.get_mut(&left) else { continue };
            open.workers = open.workers.saturating_sub(1);
            if open.workers == 0 && open.left.is_empty() {
                state.open.remove(&left);
                done.push(left);
            }
        }
        done
    }

    /// Opens the next share; the first of its tiles.
    fn open(&self, state: &mut State, worker: usize) -> Option<u64> {
        while state.unopened < self.count {
            let share = state.unopened;
            state.unopened += 1;
            let mut left = (self.tiles)(share);
            if let Some(tile) = left.next() {
                state.open.insert(share, OpenShare { left, workers: 1 });
                state.workers[worker].push_back(share);
                return Some(tile);
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").field("count", &self.count).field("apart", &self.apart).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(apart: bool) -> Shares {
        Shares::new(3, apart, 2, |share| share * 4..(share + 1) * 4)
    }

    #[test]
    fn workers_stay_apart_until_no_share_is_left() {
        let shares = shares(true);
        let take = |worker: usize, count: usize| -> Vec<u64> {
            (0..count).filter_map(|_| shares.take(worker)).collect()
        };
        assert_eq!((take(0, 2), take(1, 3)), (vec![0, 1], vec![4, 5, 6]));
        // The third share is opened by the first worker that needs one, and the other one helps.
        assert_eq!((take(0, 3), take(1, 2)), (vec![2, 3, 8], vec![7, 9]));
        // Both have tiles of shares that they haven't gone on from.
        assert_eq!(shares.go_on(0, Some(0)), Vec::<u64>::new());
        assert_eq!(shares.go_on(0, Some(2)), [0]);
        assert_eq!(shares.go_on(1, Some(1)), Vec::<u64>::new());
        shares.skip_to(1, 11);
        assert_eq!((take(0, 2), take(1, 2)), (vec![11], vec![]));
        assert_eq!(shares.go_on(0, None), Vec::<u64>::new());
        assert_eq!(shares.go_on(1, None), [1, 2]);
    }

    #[test]
    fn workers_stay_together() {
        let shares = shares(false);
        let taken: Vec<u64> = (0..12).filter_map(|turn| shares.take(turn % 2)).collect();
        assert_eq!(taken, (0..12).collect::<Vec<_>>());
        assert_eq!(shares.take(0), None);
        assert_eq!(shares.go_on(0, Some(2)), Vec::<u64>::new());
        assert_eq!(shares.go_on(1, None), [0, 1]);
        assert_eq!(shares.go_on(0, None), [2]);
    }
}
