//! The link to a remote server: its latency and its bandwidth.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Upper bound on the lag of a link's clock: bytes that are sent late, because sleeps end late, are caught up on.
const MOST_LAG: Duration = Duration::from_millis(5);
/// Waits shorter than this are skipped, and added to the next wait.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// Link between a server and its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Time from the arrival of a request to the first byte of its answer. Concurrent requests wait concurrently.
    pub latency: Duration,
    /// Bandwidth that all bodies share; `None` for no limit.
    pub bytes_per_second: Option<u64>,
}

/// A link in use.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    link: Link,
    /// Time when all sent bytes will have passed the link.
    free: Option<Instant>,
}

impl Pace {
    /// Changes the link.
    pub(crate) fn set(&self, link: Link) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = LinkState { link, free: None };
    }

    /// Latency of the link.
    pub(crate) fn latency(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).link.latency
    }

    /// Sends a piece of a body. Returns the time when the piece will have passed the link, if that is worth a wait.
    pub(crate) fn send(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = state.link.bytes_per_second?;
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let start = match state.free {
            Some(free) => free.max(now.checked_sub(MOST_LAG).unwrap_or(now)),
            None => now,
        };
        let free = start + takes;
        state.free = Some(free);
        (free > now + LEAST_WAIT).then_some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pieces_share_the_link() {
        let pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.send(1 << 30, start), None, "there is no limit");

        pace.set(Link { bytes_per_second: Some(1_000_000), ..Link::default() });
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(pace.send(500, start), None, "half a millisecond isn't worth a wait");
        assert_eq!(pace.send(9_500, start), Some(after(10)));
        assert_eq!(pace.send(10_000, start), Some(after(20)), "another body waits for both");
        // The sender wakes 2 ms late, which the next piece makes up for; a long pause is not made up for.
        assert_eq!(pace.send(10_000, after(22)), Some(after(30)));
        assert_eq!(pace.send(10_000, after(1000)), Some(after(1005)));
    }
}
