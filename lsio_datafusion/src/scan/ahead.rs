//! Reading ahead: a budget of bytes that all readers of a process share.
//!
//! Each reader may always fetch one tile. What it fetches beyond that comes from the budget, of which a reader gets an
//! equal share at most, so that no query waits for what others hold: with more readers each gets less, and the sum stays.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes ahead of local storage: far more than any drive needs in flight.
static LOCAL: Budget = Budget::new(64 << 20);

/// Bytes ahead over a network: in 75 ms a link of 10 Gbit/s transfers 94 MB.
static REMOTE: Budget = Budget::new(96 << 20);

/// Bytes that may be fetched ahead.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
    held: AtomicUsize,
    readers: AtomicUsize,
}

/// One reader's part of a budget.
#[derive(Debug)]
pub(super) struct Share {
    of: &'static Budget,
    held: usize,
}

impl Budget {
    pub(super) const fn new(bytes: usize) -> Self {
        Self { bytes, held: AtomicUsize::new(0), readers: AtomicUsize::new(0) }
    }

    /// The budget for a kind of storage.
    pub(super) fn of(is_remote: bool) -> &'static Self {
        if is_remote { &REMOTE } else { &LOCAL }
    }

    /// Share of a new reader.
    pub(super) fn share(&'static self) -> Share {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Share { of: self, held: 0 }
    }
}

impl Share {
    /// Takes bytes, if the share has them. The first tile is always allowed: `is_first`.
    pub(super) fn take(&mut self, bytes: usize, is_first: bool) -> bool {
        let budget = self.of;
        let readers = budget.readers.load(Ordering::Relaxed).max(1);
        let share = budget.bytes / readers;
        let fits = |all: usize| all.saturating_add(bytes) <= budget.bytes;
        // A tile larger than the share is fetched while the tile before it is decoded, if others leave room.
        let is_fair = self.held == 0 || self.held.saturating_add(bytes) <= share;
        if is_first {
            budget.held.fetch_add(bytes, Ordering::Relaxed);
        } else if !is_fair {
            return false;
        } else {
            let add = |all| fits(all).then_some(all + bytes);
            if budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
                return false;
            }
        }
        self.held += bytes;
        true
    }

    /// Whether the share is used up, or the budget.
    pub(super) fn is_used_up(&self) -> bool {
        let readers = self.of.readers.load(Ordering::Relaxed).max(1);
        self.held >= self.of.bytes / readers
            || self.of.held.load(Ordering::Relaxed) >= self.of.bytes
    }

    /// Changes what was taken for a tile once it is known: `guessed` bytes to `bytes`.
    pub(super) fn correct(&mut self, guessed: usize, bytes: usize) {
        self.give_back(guessed);
        self.of.held.fetch_add(bytes, Ordering::Relaxed);
        self.held += bytes;
    }

    /// Gives back the bytes of a tile.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.of.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives back all that is held.
    pub(super) fn give_back_all(&mut self) {
        self.give_back(self.held);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back_all();
        self.of.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const TILE: usize = 10;

    /// Lets readers fetch ahead and decode in turns until all tiles are done. Returns the most bytes that were held.
    fn run(budget: &'static Budget, readers: usize, tiles: usize) -> usize {
        let mut left = tiles;
        let mut most = 0;
        let mut all: Vec<(Share, VecDeque<usize>)> =
            (0..readers).map(|_| (budget.share(), VecDeque::new())).collect();
        while left > 0 || all.iter().any(|(_, ahead)| !ahead.is_empty()) {
            for (share, ahead) in &mut all {
                while left > 0 && share.take(TILE, ahead.is_empty()) {
                    ahead.push_back(TILE);
                    left -= 1;
                }
                assert!(!ahead.is_empty() || left == 0, "every reader gets on");
            }
            most = most.max(budget.held.load(Ordering::Relaxed));
            for (share, ahead) in &mut all {
                if let Some(bytes) = ahead.pop_front() {
                    share.give_back(bytes);
                }
            }
        }
        drop(all);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        assert_eq!(budget.readers.load(Ordering::Relaxed), 0);
        most
    }

    #[test]
    fn all_readers_together_stay_within_the_budget() {
        static BUDGET: Budget = Budget::new(100);
        assert_eq!(run(&BUDGET, 1, 50), 100);
        assert_eq!(run(&BUDGET, 2, 50), 100);
        for readers in [4, 16, 64] {
            let most = run(&BUDGET, readers, 500);
            assert!(
                most >= readers * TILE.min(100 / readers) && most <= 100 + readers * TILE,
                "{most}"
            );
        }
    }

    #[test]
    fn a_reader_gets_an_equal_share() {
        static BUDGET: Budget = Budget::new(100);
        let count = |share: &mut Share| (0..).take_while(|n| share.take(TILE, *n == 0)).count();
        let mut first = BUDGET.share();
        assert_eq!(count(&mut first), 10);
        // One that comes later is not kept waiting, and its share is there once the first has used its tiles.
        let mut second = BUDGET.share();
        assert_eq!(count(&mut second), 1);
        first.give_back(8 * TILE);
        second.give_back_all();
        assert_eq!(count(&mut second), 5);
        assert!(first.take(TILE, false) && first.take(TILE, false) && first.take(TILE, false));
        assert!(!first.take(TILE, false));
        // A tile larger than the share, and one larger than the budget.
        drop(second);
        first.give_back_all();
        let _third = BUDGET.share();
        assert!(first.take(80, false) && !first.take(1, false));
        first.correct(80, 20);
        assert!(first.take(30, false));
        first.give_back_all();
        assert!(!first.take(101, false) && first.take(101, true));
    }
}
