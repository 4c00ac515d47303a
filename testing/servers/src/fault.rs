//! Wrong answers that a test asks a server for.

use std::sync::{Mutex, PoisonError};

use http::Method;

/// A request, as a test that decides on faults sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// HTTP method.
    pub method: Method,
    /// Decoded path of the object: for S3 its key, empty for requests about the bucket.
    pub key: String,
    /// Decoded query of the URL.
    pub query: String,
    /// Header `Range`.
    pub range: Option<String>,
    /// Number of earlier requests since the faults were set.
    pub number: usize,
}

/// A wrong answer. Faults of a body need an answer with a body, so they don't apply to HEAD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Answers with this status of three digits, for S3 with the error of that status.
    Status(u16),
    /// Answers 503, for S3 with `SlowDown`.
    Throttle,
    /// Never answers.
    Hang,
    /// Sends this fraction of the body, at most all but one byte, and then nothing.
    HangInBody(f64),
    /// Announces the whole body, sends half of it, and resets the connection.
    ResetInBody,
    /// Announces the whole body, sends half of it, and closes the connection.
    ShortBody,
    /// Announces no length, and sends half of the body in chunks with a correct end.
    ShortChunked,
    /// Labels an object's bytes as another range than the requested one.
    WrongRange,
    /// Gives the object a wrong ETag, whatever the request's conditions.
    ChangedEtag,
    /// Closes the connection without an answer.
    Drop,
}

/// Decides on the fault of a request.
pub(crate) type Decide = Box<dyn FnMut(&Incoming) -> Option<Fault> + Send>;

/// Faults of a server.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<FaultState>,
}

#[derive(Default)]
struct FaultState {
    decide: Option<Decide>,
    number: usize,
}

impl Faults {
    /// Replaces the decision, and counts requests from 0 again.
    pub(crate) fn set(&self, decide: Option<Decide>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
            FaultState { decide, number: 0 };
    }

    /// Sets the number of the next request, and decides on its fault.
    pub(crate) fn decide(&self, mut incoming: Incoming) -> Option<Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        incoming.number = state.number;
        state.number += 1;
        state.decide.as_mut().and_then(|decide| decide(&incoming))
    }
}
