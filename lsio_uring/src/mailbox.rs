//! Deliveries of a caller's reads, from any thread.

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

/// Number of a span, and its bytes or error.
pub(crate) type Delivery = (usize, Result<Bytes, ReadError>);

/// Deliveries for one caller. Needs no asynchronous runtime.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<MailboxState>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct MailboxState {
    deliveries: VecDeque<Delivery>,
    /// The waiting caller, with the number of deliveries that wakes it.
    waiting: Option<(usize, Waker)>,
}

impl Mailbox {
    /// Delivers a result, and wakes the caller if it has enough. A failure is always enough.
    pub(crate) fn deliver(&self, span: usize, result: Result<Bytes, ReadError>) {
        let mut state = self.state();
        if self.is_closed() {
            drop(state);
            // A late result is dropped here, after the lock is released.
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

    /// Next delivery. If there is none, the task is woken at `wanted` deliveries.
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

    /// Wakes a task at the next delivery, as if it had polled; at once if there is one.
    pub(crate) fn wake_later(&self, waker: Waker) {
        let mut state = self.state();
        if state.deliveries.is_empty() && state.waiting.is_none() {
            state.waiting = Some((1, waker));
        } else {
            // A delivery is there, or a task waits here already, which may be another one.
            drop(state);
            waker.wake();
        }
    }

    /// Announces that no task will poll any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        self.closed.store(true, Ordering::Release);
        let left = std::mem::take(&mut *state);
        drop(state);
        drop(left);
    }

    /// Whether no task polls any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, MailboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
