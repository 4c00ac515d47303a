//! Where a caller finds what it asked for, whichever thread brings it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::error::ReadError;

/// What came for a span, and its number.
pub(crate) type Delivery = (usize, Result<Bytes, ReadError>);

/// Deliveries for one caller. It needs no asynchronous runtime.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    deliveries: VecDeque<Delivery>,
    /// The caller that waits, and the number of deliveries for which it does.
    waiting: Option<(usize, Waker)>,
}

impl Mailbox {
    /// Brings something, and wakes the caller if it is enough. Failures are always enough.
    pub(crate) fn deliver(&self, span: usize, result: Result<Bytes, ReadError>) {
        let mut state = self.state();
        if self.is_closed() {
            drop(state);
            // What came too late is freed here, after the lock is free.
            return;
        }
        let failed = result.is_err();
        state.deliveries.push_back((span, result));
        let there = state.deliveries.len();
        let waker = state.waiting.take_if(|(wanted, _)| failed || there >= *wanted);
        drop(state);
        if let Some((_, waker)) = waker {
            waker.wake();
        }
    }

    /// The next delivery. If there is none, the task is woken when `wanted` are there.
    pub(crate) fn poll(&self, context: &mut Context<'_>, wanted: usize) -> Poll<Delivery> {
        let mut state = self.state();
        match state.deliveries.pop_front() {
            Some(delivery) => Poll::Ready(delivery),
            None => {
                state.waiting = Some((wanted, context.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// Has a task woken by the next delivery, as if it had polled. Wakes it now if there is one.
    pub(crate) fn wake_later(&self, waker: Waker) {
        let mut state = self.state();
        if state.deliveries.is_empty() && state.waiting.is_none() {
            state.waiting = Some((1, waker));
        } else {
            // Something is there, or somebody waits here already, who may be another task.
            drop(state);
            waker.wake();
        }
    }

    /// Says that nobody will look any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        self.closed.store(true, Ordering::Release);
        let left = std::mem::take(&mut *state);
        drop(state);
        drop(left);
    }

    /// Whether nobody looks any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
