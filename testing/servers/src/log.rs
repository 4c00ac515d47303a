//! The log of a server: its requests and their answers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use http::Method;

/// A request to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Decoded path of the object: for S3 its key, empty for requests about the bucket.
    pub key: String,
    /// Decoded query of the URL.
    pub query: String,
    /// Header `Range`.
    pub range: Option<String>,
    /// Whether the request had a header `If-Match`.
    pub if_match: bool,
    /// Whether the request had a header `If-None-Match`.
    pub if_none_match: bool,
    /// Status of the answer, once there is an answer.
    pub status: Option<u16>,
    /// Bytes of the answer's body sent so far.
    pub bytes: u64,
    /// Time of arrival.
    pub start: Instant,
    /// Time when the connection took the last byte of the answer, or was closed; `None` if neither had happened when
    /// the log was read.
    pub end: Option<Instant>,
    /// Whether the connection was closed before it took the whole answer: by the client, the server's end or a
    /// [`Fault`](crate::Fault).
    pub aborted: bool,
}

impl Request {
    /// Whether this is a request for a list of objects.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.query.split('&').any(|part| part == "list-type=2")
    }
}

/// Least number of round trips that `requests` need: the length of the longest chain in which each request starts after
/// the previous one has ended. Overlapping requests count once, as if they were concurrent; a request without an end
/// can only be the last of a chain.
///
/// An answer ends when the connection takes its last byte. A slow client may receive that byte some time later.
#[must_use]
pub fn round_trips(requests: &[Request]) -> usize {
    let mut spans: Vec<(Instant, Option<Instant>)> =
        requests.iter().map(|request| (request.start, request.end)).collect();
    // The chain that always takes the earliest end is a longest one.
    spans.sort_by_key(|&(_, end)| (end.is_none(), end));
    let mut count = 0;
    let mut last = None;
    for (start, end) in spans {
        match last {
            Some(None) => break,
            Some(Some(last)) if start < last => {}
            _ => {
                count += 1;
                last = Some(end);
            }
        }
    }
    count
}

/// Log of a server.
#[derive(Debug, Default)]
pub(crate) struct Log {
    state: Mutex<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    requests: Vec<Request>,
    /// Number of requests taken.
    taken: usize,
    in_flight: usize,
    most_in_flight: usize,
}

impl Log {
    /// Starts the record of a request.
    pub(crate) fn begin(self: &Arc<Self>, request: Request) -> Record {
        let mut state = self.lock();
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        state.requests.push(request);
        let number = state.taken + state.requests.len() - 1;
        Record { log: Arc::clone(self), number, ended: false }
    }

    /// Returns the requests so far, and forgets them.
    pub(crate) fn take(&self) -> Vec<Request> {
        let mut state = self.lock();
        state.taken += state.requests.len();
        state.most_in_flight = state.in_flight;
        std::mem::take(&mut state.requests)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.lock().most_in_flight
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Record of a request in flight. Dropping it before its end marks the request as aborted.
#[derive(Debug)]
pub(crate) struct Record {
    log: Arc<Log>,
    number: usize,
    ended: bool,
}

impl Record {
    /// Records the status; the body is still to come.
    pub(crate) fn answered(&mut self, status: u16) {
        self.update(|request| request.status = Some(status));
    }

    /// Records sent bytes of the body.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.update(|request| request.bytes += bytes as u64);
    }

    /// Records the end of the answer.
    pub(crate) fn end(&mut self) {
        self.finish(false);
    }

    fn finish(&mut self, aborted: bool) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.log.lock().in_flight -= 1;
        self.update(|request| {
            request.end = Some(Instant::now());
            request.aborted = aborted;
        });
    }

    fn update(&mut self, change: impl FnOnce(&mut Request)) {
        let mut state = self.log.lock();
        let index = self.number.checked_sub(state.taken);
        if let Some(request) = index.and_then(|index| state.requests.get_mut(index)) {
            change(request);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish(true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(start: Instant, end: Option<Instant>) -> Request {
        Request {
            method: Method::GET,
            key: "key".to_owned(),
            query: String::new(),
            range: None,
            if_match: false,
            if_none_match: false,
            status: None,
            bytes: 0,
            start,
            end,
            aborted: false,
        }
    }

    #[test]
    fn round_trips_are_the_longest_chain() {
        let zero = Instant::now();
        let at = |milliseconds: u64| zero + Duration::from_millis(milliseconds);
        for (spans, expected) in [
            (&[][..], 0),
            (&[(0, Some(10))], 1),
            (&[(0, Some(10)), (1, Some(9)), (5, Some(15))], 1),
            (&[(0, Some(10)), (10, Some(20))], 2),
            // In any order, with one that lasts as long as all others together.
            (&[(20, Some(30)), (0, Some(30)), (0, Some(10)), (10, Some(20))], 3),
            // Two concurrent requests at a time.
            (&[(0, Some(10)), (0, Some(12)), (11, Some(21)), (12, Some(22))], 2),
            // The first to start isn't part of the longest chain.
            (&[(0, Some(100)), (1, Some(10)), (12, Some(20)), (21, Some(30))], 3),
            // A request without an end can only be the last.
            (&[(0, None), (5, None)], 1),
            (&[(0, Some(10)), (5, None), (20, None), (30, None)], 2),
            (&[(0, None), (10, Some(20)), (20, Some(30))], 2),
        ] {
            let requests: Vec<_> =
                spans.iter().map(|&(start, end)| request(at(start), end.map(at))).collect();
            assert_eq!(round_trips(&requests), expected, "{spans:?}");
        }
    }

    #[test]
    fn records_outlive_what_was_taken() {
        let log = Arc::new(Log::default());
        let mut first = log.begin(request(Instant::now(), None));
        first.sent(5);
        let taken = log.take();
        assert_eq!((taken.len(), taken[0].bytes, taken[0].end), (1, 5, None));

        let mut second = log.begin(request(Instant::now(), None));
        assert_eq!((log.in_flight(), log.most_in_flight()), (2, 2));
        first.sent(5);
        drop(first);
        second.answered(200);
        second.sent(7);
        second.end();
        drop(second);
        assert_eq!((log.in_flight(), log.most_in_flight()), (0, 2));
        let taken = log.take();
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].status, taken[0].bytes, taken[0].aborted), (Some(200), 7, false));
        assert!(taken[0].end.is_some());
        assert_eq!(log.most_in_flight(), 0);
    }
}
