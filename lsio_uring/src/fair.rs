//! A queue that divides bytes fairly among its callers.

use std::collections::{HashMap, VecDeque};

/// Bytes that a caller may take per turn.
const QUANTUM: u64 = 1 << 20;

/// A queue of items with sizes. Each caller gets the same share of bytes, in whatever order and number it enqueues:
/// deficit round robin (Shreedhar and Varghese, SIGCOMM 1995). Items of one caller stay in order.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    lanes: HashMap<u64, Lane<T>>,
    /// Waiting callers, in the order of their turns.
    turns: VecDeque<u64>,
}

#[derive(Debug)]
struct Lane<T> {
    items: VecDeque<(u64, T)>,
    /// Bytes that the caller may still take.
    credit: u64,
}

impl<T> FairQueue<T> {
    pub(crate) fn new() -> Self {
        Self { lanes: HashMap::new(), turns: VecDeque::new() }
    }

    /// Adds an item of a caller.
    pub(crate) fn push(&mut self, caller: u64, bytes: u64, item: T) {
        let turns = &mut self.turns;
        let lane = self.lanes.entry(caller).or_insert_with(|| {
            turns.push_back(caller);
            Lane { items: VecDeque::new(), credit: QUANTUM }
        });
        lane.items.push_back((bytes, item));
    }

    /// Takes the next item in turn.
    pub(crate) fn pop(&mut self) -> Option<T> {
        loop {
            let caller = *self.turns.front()?;
            let Some(lane) = self.lanes.get_mut(&caller) else {
                self.turns.pop_front();
                continue;
            };
            let cost = lane.items.front().map_or(0, |(bytes, _)| *bytes);
            if self.turns.len() > 1 && lane.credit < cost {
                lane.credit += QUANTUM;
                self.turns.rotate_left(1);
                continue;
            }
            lane.credit = lane.credit.saturating_sub(cost);
            let item = lane.items.pop_front().map(|(_, item)| item);
            if lane.items.is_empty() {
                self.lanes.remove(&caller);
                self.turns.pop_front();
            }
            if item.is_some() {
                return item;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shared_not_items() {
        let mut queue = FairQueue::new();
        for n in 0..100 {
            queue.push(1, 8 << 20, (1, n));
        }
        for n in 0..100 {
            queue.push(2, 1 << 20, (2, n));
        }
        let order: Vec<(u64, i32)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order.len(), 200);
        // The small items are through after about as many bytes of large ones.
        let last_small = order.iter().rposition(|(caller, _)| *caller == 2).unwrap();
        let large = order[..last_small].iter().filter(|(caller, _)| *caller == 1).count();
        assert!((10..=15).contains(&large), "{large}");
        for caller in [1, 2] {
            let own: Vec<_> = order.iter().filter(|(c, _)| *c == caller).map(|(_, n)| *n).collect();
            assert!(own.is_sorted());
        }
        assert!(queue.turns.is_empty() && queue.lanes.is_empty());
    }

    #[test]
    fn a_newcomer_does_not_wait_for_a_long_queue() {
        let mut queue = FairQueue::new();
        for n in 0..10_000 {
            queue.push(1, 16 << 10, n);
        }
        for _ in 0..10 {
            queue.pop();
        }
        queue.push(2, 16 << 10, -1);
        let waited = std::iter::from_fn(|| queue.pop()).position(|n| n == -1).unwrap();
        assert!(waited <= 64, "{waited}");
    }
}
