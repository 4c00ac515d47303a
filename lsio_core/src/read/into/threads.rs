//! Threads that a read may use beside its caller's, and what each of them takes.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Threads in use beside those of callers: all reads of a process share the processors.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Threads taken from those to spare, until it is dropped.
pub(super) struct Spare(usize);

/// The numbers below a bound, each of which one of several threads takes.
///
/// A thread takes its own stretch in order, and then what others have left: threads that work side by side on neighbours
/// would wait for the same pages of the caller's memory.
pub(super) struct Stretches {
    len: usize,
    /// Of each stretch, the next number that nobody has taken.
    next: Vec<AtomicUsize>,
}

impl Spare {
    /// Takes up to `most` threads, or as many as there are.
    pub(super) fn take(most: usize) -> Self {
        let all = thread::available_parallelism().map_or(1, usize::from) - 1;
        let mut taken = 0;
        let update = BUSY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| {
            taken = most.min(all.saturating_sub(busy));
            Some(busy + taken)
        });
        Self(if update.is_ok() { taken } else { 0 })
    }

    pub(super) fn count(&self) -> usize {
        self.0
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        BUSY.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Stretches {
    /// The numbers below `len`, for this many threads.
    pub(super) fn new(len: usize, threads: usize) -> Self {
        let next =
            (0..threads.max(1)).map(|thread| AtomicUsize::new(len * thread / threads.max(1)));
        Self { len, next: next.collect() }
    }

    /// The next number for a thread. `None` if all are taken.
    pub(super) fn take(&self, thread: usize) -> Option<usize> {
        let count = self.next.len();
        (0..count).map(|beyond| (thread + beyond) % count).find_map(|stretch| {
            let end = self.len * (stretch + 1) / count;
            // A thread looks once more at each stretch that is used up: no counter can overflow.
            let number = self.next.get(stretch)?.fetch_add(1, Ordering::Relaxed);
            (number < end).then_some(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn every_number_is_taken_once() {
        for (len, threads) in [(0, 1), (1, 3), (7, 2), (100, 4)] {
            let stretches = Stretches::new(len, threads);
            let taken = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for thread in 0..threads {
                    let (stretches, taken) = (&stretches, &taken);
                    scope.spawn(move || {
                        while let Some(number) = stretches.take(thread) {
                            taken.lock().unwrap().push(number);
                        }
                    });
                }
            });
            let mut taken = taken.into_inner().unwrap();
            taken.sort_unstable();
            assert_eq!(taken, (0..len).collect::<Vec<_>>());
        }
        // A thread alone takes its own stretch first.
        let stretches = Stretches::new(6, 2);
        let taken: Vec<_> = std::iter::from_fn(|| stretches.take(1)).collect();
        assert_eq!(taken, [3, 4, 5, 0, 1, 2]);
    }
}
