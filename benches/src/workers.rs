//! Threads that share a list of work, and the time that they take.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use crate::Error;

/// Does `items` units of work on `threads` threads. Returns the seconds from the start of the first thread to the end
/// of the last. Each thread works with the result of its own `prepare`, which isn't timed, and takes the next item when
/// one is done.
pub(crate) fn time<S>(
    threads: usize,
    items: usize,
    prepare: impl Fn() -> Result<S, Error> + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), Error> + Sync,
) -> Result<f64, Error> {
    let gate = Barrier::new(threads);
    let next = AtomicUsize::new(0);
    let share = || -> Result<(Instant, Instant), Error> {
        // A failing thread reaches the gate too: the others wait for it there.
        let prepared = prepare();
        gate.wait();
        let start = Instant::now();
        let mut state = prepared?;
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= items {
                return Ok((start, Instant::now()));
            }
            work(&mut state, item)?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        let mut spans = Vec::with_capacity(threads);
        for worker in workers {
            spans.push(worker.join().map_err(|_| "a worker gave up")??);
        }
        let start = spans.iter().map(|span| span.0).min().ok_or("there are no threads")?;
        let end = spans.iter().map(|span| span.1).max().ok_or("there are no threads")?;
        Ok(end.duration_since(start).as_secs_f64())
    })
}
