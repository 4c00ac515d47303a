//! A few threads for calls that may wait: opening files, copies from the page cache, and without io_uring all reads.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// A call for a worker.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads that are started while there are more jobs than idle threads.
#[derive(Debug)]
pub(crate) struct Workers(Arc<SharedQueue>);

struct SharedQueue {
    state: Mutex<QueueState>,
    work: Condvar,
    limit: usize,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    stop: bool,
}

impl Workers {
    /// Up to `limit` threads, none of them started yet.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(SharedQueue {
            state: Mutex::default(),
            work: Condvar::new(),
            limit: limit.max(1),
        }))
    }

    /// Runs a job on a thread, after the jobs before it.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state();
        state.jobs.push_back(Box::new(job));
        // A woken thread counts as idle until it runs: it is for an earlier job.
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
                // The other threads will take the job.
                Err(_) if state.threads > 0 => {}
                // There is no other thread. Blocking here is worse than a thread, and better than never.
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

/// Runs a job. A panic drops the job, which its waiters notice; the thread goes on.
pub(crate) fn run(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        log::error!("a read ended in a panic");
    }
}

impl Drop for Workers {
    /// The threads end after the jobs that they have.
    fn drop(&mut self) {
        self.0.state().stop = true;
        self.0.work.notify_all();
    }
}

impl SharedQueue {
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

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedQueue {
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
        // Each job waits for the other: a single thread would never end.
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
