//! The end of a read from outside.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

use crate::Error;

/// Ends reads before they are done. Clones end the same reads.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Stopped>);

#[derive(Debug, Default)]
struct Stopped {
    is: AtomicBool,
    changed: Notify,
}

impl Stop {
    /// Ends the reads: they return [`Error::Interrupted`] as soon as the chunks that are being decoded are, whatever they
    /// wait for.
    pub fn stop(&self) {
        self.0.is.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.is.load(Ordering::Acquire)
    }

    /// Waits for the end.
    pub(super) async fn stopped(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.is_stopped() {
                return;
            }
            changed.await;
        }
    }

    /// What a stopped read returns.
    pub(super) fn error(name: &str) -> Error {
        Error::Interrupted { what: format!("'{name}'"), source: "it was stopped".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let stop = Stop::default();
        let own = stop.clone();
        let waits = runtime.spawn(async move { own.stopped().await });
        assert!(!stop.is_stopped());
        stop.stop();
        runtime.block_on(waits).unwrap();
        runtime.block_on(stop.stopped());
    }
}
