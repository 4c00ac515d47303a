//! Answers that a server gives wrongly, because a test says so.

use std::sync::{Mutex, PoisonError};

use http::Method;

/// A request, as who decides about faults sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What is asked for.
    pub method: Method,
    /// The object's path, decoded: for S3 its key, and nothing for requests about the bucket.
    pub key: String,
    /// The URL's query, decoded.
    pub query: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// How many requests came before, since the faults were set.
    pub number: usize,
}

/// What a server does instead of answering well. Those about a body do so to answers that have one:
/// not to those to HEAD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Answers with this status, of three digits, and for S3 with an error that goes with it.
    Status(u16),
    /// Answers 503; for S3 that is `SlowDown`.
    Throttle,
    /// Never answers.
    Hang,
    /// Sends this fraction of the body, all but a byte at most, and then no more.
    HangInBody(f64),
    /// Announces all of the body, sends a half of it, and resets the connection.
    ResetInBody,
    /// Announces all of the body, sends a half of it, and closes the connection.
    ShortBody,
    /// Announces no length and sends a half of the body, in chunks that end as they should.
    ShortChunked,
    /// Says of an object's bytes that they are of another range than the one asked for.
    WrongRange,
    /// Gives the object another ETag than its own, whatever the request's conditions.
    ChangedEtag,
    /// Closes the connection without an answer.
    Drop,
}

/// Who decides about faults.
pub(crate) type Decide = Box<dyn FnMut(&Incoming) -> Option<Fault> + Send>;

/// The faults of a server.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    decide: Option<Decide>,
    number: usize,
}

impl Faults {
    /// Changes who decides, and counts from 0.
    pub(crate) fn set(&self, decide: Option<Decide>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { decide, number: 0 };
    }

    /// The fault for the next request, whose number is set.
    pub(crate) fn decide(&self, mut incoming: Incoming) -> Option<Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        incoming.number = state.number;
        state.number += 1;
        state.decide.as_mut().and_then(|decide| decide(&incoming))
    }
}
