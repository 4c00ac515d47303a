//! A few threads for what may wait: opening files, copies out of the page cache, and where there is
//! no io_uring, all reads.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Something to do.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads that are started when there is more to do than the others can take.
#[derive(Debug)]
pub(crate) struct Workers(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    limit: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    stop: bool,
}

impl Workers {
    /// At most `limit` threads, none of them started yet.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            limit: limit.max(1),
        }))
    }

    /// Has a thread do something, after what was given before.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state();
        state.jobs.push_back(Box::new(job));
        // A thread that was woken counts as idle until it runs: it is for a job before this one.
        if state.jobs.len() <= state.idle {
            drop(state);
            self.0.work.notify_one();
            return;
        }
        if state.threads < self.0.limit {
            let shared = Arc::clone(&self.0);
            let started =
                thread::Builder::new().name("lsio-worker".to_owned()).spawn(move || shared.serve());
            match started {
                Ok(_) => state.threads += 1,
                // The others will come to it.
                Err(_) if state.threads > 0 => {}
                // There are no others. Waiting here is worse than a thread, and better than never.
                Err(error) => {
                    log::warn!("no thread can be started for reads: {error}");
                    let jobs = std::mem::take(&mut state.jobs);
                    drop(state);
                    jobs.into_iter().for_each(run);
                }
            }
        }
    }
}

/// Does a job. If it panics, whoever waits for it sees that it is gone, and the thread goes on.
pub(crate) fn run(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        log::error!("a read ended in a panic");
    }
}

impl Drop for Workers {
    /// The threads end after what they have been given.
    fn drop(&mut self) {
        self.0.state().stop = true;
        self.0.work.notify_all();
    }
}

impl Shared {
    fn serve(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                run(job);
                state = self.state();
            } else if state.stop {
                state.threads -= 1;
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_run_at_the_same_time_and_after_a_panic() {
        let workers = Workers::new(2);
        workers.spawn(|| panic!("a job that fails"));
        let (left, right) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        // Each waits for the other: one thread alone would never end.
        workers.spawn(move || {
            left.0.send(()).unwrap();
            right.1.recv().unwrap();
        });
        let (done, end) = mpsc::channel();
        workers.spawn(move || {
            right.0.send(()).unwrap();
            left.1.recv().unwrap();
            done.send(()).unwrap();
        });
        end.recv().unwrap();
    }

    #[test]
    fn what_was_given_is_done_before_the_end() {
        let (done, end) = mpsc::channel();
        let workers = Workers::new(1);
        for n in 0..100 {
            let done = done.clone();
            workers.spawn(move || done.send(n).unwrap());
        }
        drop((workers, done));
        assert!(end.iter().eq(0..100));
    }
}
