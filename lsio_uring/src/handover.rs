//! A channel for a single value from another thread to a task.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Sending end.
#[derive(Debug)]
pub(crate) struct Giver<T>(Arc<Mutex<HandoverState<T>>>);

/// Receiving end.
#[derive(Debug)]
pub(crate) struct Taker<T>(Arc<Mutex<HandoverState<T>>>);

#[derive(Debug)]
struct HandoverState<T> {
    value: Option<T>,
    waker: Option<Waker>,
    /// Whether the other end is gone.
    alone: bool,
}

/// Both ends of a new channel.
pub(crate) fn handover<T>() -> (Giver<T>, Taker<T>) {
    let state = Arc::new(Mutex::new(HandoverState { value: None, waker: None, alone: false }));
    (Giver(Arc::clone(&state)), Taker(state))
}

impl<T> Giver<T> {
    /// Whether the receiver is gone.
    pub(crate) fn is_alone(&self) -> bool {
        lock(&self.0).alone
    }

    /// Sends the value. `wake` gets the waiting task, and decides when to wake it.
    pub(crate) fn give(self, value: T, wake: impl FnOnce(Waker)) {
        let mut state = lock(&self.0);
        if state.alone {
            // An unwanted value is dropped after the lock is released.
            drop(state);
            drop(value);
            return;
        }
        state.value = Some(value);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.alone = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Taker<T> {
    /// The value; `None` if the sender is gone.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.0);
        if let Some(value) = state.value.take() {
            return Poll::Ready(Some(value));
        }
        if state.alone {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.alone = true;
        let value = state.value.take();
        drop(state);
        drop(value);
    }
}

fn lock<T>(state: &Mutex<HandoverState<T>>) -> MutexGuard<'_, HandoverState<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, future::poll_fn};

    #[test]
    fn a_value_comes_from_another_thread_or_not_at_all() {
        let (giver, taker) = handover();
        let thread = std::thread::spawn(move || giver.give(5, Waker::wake));
        assert_eq!(block_on(poll_fn(|context| taker.poll(context))), Some(5));
        thread.join().unwrap();

        let (giver, taker) = handover::<u8>();
        let thread = std::thread::spawn(move || drop(giver));
        assert_eq!(block_on(poll_fn(|context| taker.poll(context))), None);
        thread.join().unwrap();

        let (giver, taker) = handover::<Arc<()>>();
        drop(taker);
        assert!(giver.is_alone());
        let value = Arc::new(());
        giver.give(Arc::clone(&value), drop);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
