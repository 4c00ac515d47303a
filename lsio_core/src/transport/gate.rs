//! Adaptive limit on concurrent requests: it grows while the throughput grows.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes per permit of the semaphore for bytes in flight, which counts 32 bits.
const UNIT: u64 = 64 << 10;

/// Shortest window for a measurement; a shorter one is noise.
const WINDOW: Duration = Duration::from_millis(100);

/// Least ratio of the rate to the last one for more requests to have paid off.
const FASTER: f64 = 1.05;

/// Ratio of the rate to the last one below which fewer requests were better.
const SLOWER: f64 = 0.9;

/// Number of requests that a server's throttling never goes below.
const FEWEST: usize = 4;

/// Divisor of the initial limit: a quarter of it is allowed whatever the throughput.
const FLOOR: usize = 4;

/// After throttling by the server: time without a higher limit (`CALM`), and time without a further cut (`AGAIN`).
const CALM: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);

/// Limits concurrent requests and bytes in flight. The limit on requests climbs a hill: it grows while the throughput
/// grows, turns around where the throughput falls, and is halved when the server asks for it.
#[derive(Debug)]
pub(super) struct Gate {
    requests: Semaphore,
    bytes: Semaphore,
    /// Permits of `bytes`, in units of [`UNIT`].
    units: u32,
    first: usize,
    most: usize,
    state: Mutex<GateState>,
}

/// A permit for one request, returned on drop.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    gate: &'a Gate,
    request: Option<SemaphorePermit<'a>>,
    _bytes: Option<SemaphorePermit<'a>>,
}

#[derive(Debug)]
struct GateState {
    /// Limit on requests, and the permits still to be withdrawn when requests end.
    limit: usize,
    surplus: usize,
    /// Start of the window being measured.
    since: Option<Instant>,
    requests: usize,
    bytes: u64,
    /// Whether a request had to wait during the window.
    full: bool,
    /// Bytes per second at the previous limit.
    rate: f64,
    /// Whether the limit grew, rather than shrank, at the last change.
    grows: bool,
    throttled: Option<Instant>,
}

impl Gate {
    /// Starts at `first` requests, and allows up to `most` requests and `bytes` bytes in flight.
    pub(super) fn new(first: usize, most: usize, bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            requests: Semaphore::new(first),
            bytes: Semaphore::new(units as usize),
            units,
            first,
            most: most.max(first),
            state: Mutex::new(GateState {
                limit: first,
                surplus: 0,
                since: None,
                requests: 0,
                bytes: 0,
                full: false,
                rate: 0.0,
                grows: true,
                throttled: None,
            }),
        }
    }

    /// Waits until a request of about `bytes` bytes may start.
    pub(super) async fn turn(&self, bytes: u64) -> Turn<'_> {
        // A request larger than the bound on bytes runs alone.
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).min(self.units);
        if self.learns() && self.requests.available_permits() == 0 {
            self.state().full = true;
        }
        // The semaphores are never closed; without a permit there would only be no limit.
        let request = self.requests.acquire().await.ok();
        let bytes = match units {
            0 => None,
            units => self.bytes.acquire_many(units).await.ok(),
        };
        if self.learns() {
            self.state().since.get_or_insert_with(Instant::now);
        }
        Turn { gate: self, request, _bytes: bytes }
    }

    /// The server asked for fewer requests.
    pub(super) fn throttled(&self, now: Instant) {
        let mut state = self.state();
        if state.throttled.is_some_and(|last| now.duration_since(last) < AGAIN) {
            return;
        }
        state.throttled = Some(now);
        state.grows = true;
        state.rate = 0.0;
        let limit = (state.limit / 2).max(FEWEST.min(state.limit));
        self.set(&mut state, limit);
        state.restart(None);
        log::info!("the server asks for fewer requests: {limit} at a time");
    }

    /// Current limit on concurrent requests.
    pub(super) fn limit(&self) -> usize {
        self.state().limit
    }

    /// Whether the limit adapts at all.
    fn learns(&self) -> bool {
        self.first < self.most
    }

    /// Records a finished request of `bytes` bytes.
    fn finished(&self, bytes: u64, now: Instant) {
        if !self.learns() {
            return;
        }
        let mut state = self.state();
        let Some(since) = state.since else { return };
        state.requests += 1;
        state.bytes += bytes;
        let elapsed = now.saturating_duration_since(since);
        // Every request that ran when the limit changed has ended.
        if elapsed < WINDOW || state.requests < state.limit {
            return;
        }
        let rate = state.bytes as f64 / elapsed.as_secs_f64();
        let is_calm = state.throttled.is_none_or(|at| now.duration_since(at) >= CALM);
        let is_slower = rate < state.rate * SLOWER;
        if state.full && is_calm && (is_slower || rate > state.rate * FASTER) {
            // The link itself may have become slower: then the other direction doesn't help for long either.
            state.grows ^= is_slower;
            let limit = match state.grows {
                true => (state.limit + state.limit.div_ceil(2)).min(self.most),
                false => (state.limit - state.limit / 4).max((self.first / FLOOR).min(state.limit)),
            };
            self.set(&mut state, limit);
            state.rate = rate;
        }
        state.restart(Some(now));
    }

    fn set(&self, state: &mut GateState, limit: usize) {
        if limit > state.limit {
            let more = limit - state.limit;
            let kept = more.min(state.surplus);
            state.surplus -= kept;
            self.requests.add_permits(more - kept);
        } else {
            let fewer = state.limit - limit;
            state.surplus += fewer - self.requests.forget_permits(fewer);
        }
        state.limit = limit;
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GateState {
    fn restart(&mut self, since: Option<Instant>) {
        self.since = since;
        self.requests = 0;
        self.bytes = 0;
        self.full = false;
    }
}

impl Turn<'_> {
    /// Records that the request has returned `bytes` bytes; the gate adapts to them.
    pub(super) fn brought(&self, bytes: u64) {
        self.gate.finished(bytes, Instant::now());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.surplus > 0
            && let Some(request) = self.request.take()
        {
            state.surplus -= 1;
            request.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One measured window at the current limit, over a link of `rate` bytes per second where a request of 1 MB takes
    /// at least `latency` seconds.
    fn window(gate: &Gate, now: &mut Instant, rate: f64, latency: f64) {
        let limit = gate.limit();
        gate.state().since = Some(*now);
        gate.state().full = true;
        // Enough rounds to fill a window.
        for _ in 0..4 {
            *now += Duration::from_secs_f64((limit as f64 * 1e6 / rate).max(latency));
            (0..limit).for_each(|_| gate.finished(1_000_000, *now));
        }
    }

    fn settled(gate: &Gate, now: &mut Instant, rate: f64) -> usize {
        (0..40).for_each(|_| window(gate, now, rate, 0.05));
        gate.limit()
    }

    #[test]
    fn a_link_that_changes_is_learned_anew() {
        let mut now = Instant::now();
        let gate = Gate::new(64, 256, 1 << 30);
        assert_eq!(settled(&gate, &mut now, 10e9), 256);
        // Four times the latency, and a tenth of the rate: fewer requests don't help.
        for (rate, latency) in [(10e9, 0.2), (1e9, 0.05), (1e9, 0.2), (10e9, 0.05)] {
            for _ in 0..60 {
                window(&gate, &mut now, rate, latency);
                assert!(gate.limit() >= 16, "{rate} {latency}");
            }
        }
        let needed = (10e9_f64 * 0.05 / 1e6).min(256.0);
        assert!(gate.limit() as f64 >= needed / 2.0, "{}", gate.limit());
    }

    #[test]
    fn requests_grow_as_far_as_they_help() {
        let mut now = Instant::now();
        // 250 MB/s: 13 requests of 50 ms fill it.
        let gate = Gate::new(4, 256, 1 << 30);
        let limit = settled(&gate, &mut now, 250e6);
        assert!((13..=40).contains(&limit), "{limit}");
        // 10 GB/s: the limit reaches its maximum.
        let gate = Gate::new(16, 256, 1 << 30);
        assert_eq!(settled(&gate, &mut now, 10e9), 256);
        // No request waits: nothing can be learned.
        let gate = Gate::new(16, 256, 1 << 30);
        gate.state().since = Some(now);
        for _ in 0..1_000 {
            now += Duration::from_millis(50);
            gate.finished(1_000_000, now);
        }
        assert_eq!(gate.limit(), 16);
    }

    #[test]
    fn throttling_halves_them() {
        let mut now = Instant::now();
        let gate = Gate::new(32, 64, 1 << 30);
        gate.throttled(now);
        gate.throttled(now + Duration::from_millis(10));
        assert_eq!(gate.limit(), 16);
        for _ in 0..10 {
            now += AGAIN;
            gate.throttled(now);
        }
        assert_eq!(gate.limit(), FEWEST);
        assert_eq!(gate.requests.available_permits(), FEWEST);
        // After the calm period, the limit grows again.
        now += CALM;
        assert!(settled(&gate, &mut now, 10e9) > 32);
    }

    #[tokio::test]
    async fn those_under_way_are_let_end() {
        let gate = Gate::new(8, 8, 1 << 30);
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.push(gate.turn(10).await);
        }
        gate.throttled(Instant::now());
        assert_eq!((gate.limit(), gate.requests.available_permits()), (4, 0));
        turns.drain(..2);
        assert_eq!(gate.requests.available_permits(), 0);
        turns.pop();
        assert_eq!(gate.requests.available_permits(), 1);
        turns.clear();
        assert_eq!(gate.requests.available_permits(), 4);
    }

    #[tokio::test]
    async fn bytes_are_limited() {
        let gate = Gate::new(8, 8, 10 * UNIT);
        let first = gate.turn(8 * UNIT).await;
        assert_eq!(gate.bytes.available_permits(), 2);
        let waiting = gate.turn(4 * UNIT);
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(first);
        drop(waiting.await);
        // A request larger than the whole bound runs alone.
        drop(gate.turn(100 * UNIT).await);
        assert_eq!(gate.bytes.available_permits(), 10);
    }
}
