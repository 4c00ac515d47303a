//! Bodies of answers: paced by the link, counted in the log, cut short by a fault.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use s3s::StdError;
use tokio::time::{Sleep, sleep_until};

use crate::{link::Pace, log::Record};

/// Time for sent bytes to leave before their connection is closed.
const BEFORE_CLOSE: Duration = Duration::from_millis(20);

/// End of a body, after its last byte.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    /// The announced end.
    End,
    /// The end of a body without an announced length.
    EndOfChunks,
    /// Nothing: the connection hangs.
    Hang,
    /// The connection is closed.
    Close,
    /// The connection is reset by the task that finds this set.
    Reset(Arc<AtomicBool>),
}

/// A body that is being sent.
pub(crate) struct Sent {
    inner: s3s::Body,
    /// Bytes still to be announced, if the length is announced.
    announced: Option<u64>,
    /// Bytes still to be sent.
    left: u64,
    then: Then,
    pace: Arc<Pace>,
    record: Record,
    /// Next piece, which waits for the link.
    piece: Option<Bytes>,
    wait: Option<Pin<Box<Sleep>>>,
    closing: bool,
}

impl Sent {
    /// A whole body.
    pub(crate) fn whole(inner: s3s::Body, pace: Arc<Pace>, mut record: Record) -> Self {
        let announced = inner.size_hint().exact();
        let left = announced.unwrap_or(u64::MAX);
        if left == 0 {
            record.end();
        }
        let then = Then::End;
        Self { inner, announced, left, then, pace, record, piece: None, wait: None, closing: false }
    }

    /// The first `bytes` bytes of the body.
    pub(crate) fn cut(self, bytes: u64, then: Then) -> Self {
        let announced = self.announced.filter(|_| !matches!(then, Then::EndOfChunks));
        Self { announced, left: bytes, then, ..self }
    }

    /// Length of the body in bytes, if known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.announced
    }

    /// Acts after the last byte.
    fn poll_then(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &self.then {
            Then::End | Then::EndOfChunks => {
                self.record.end();
                return Poll::Ready(None);
            }
            Then::Hang => return Poll::Pending,
            Then::Reset(reset) => reset.store(true, Ordering::Relaxed),
            Then::Close => {}
        }
        if !self.closing {
            self.closing = true;
            self.wait_until(Instant::now() + BEFORE_CLOSE);
        }
        ready!(self.poll_wait(cx));
        Poll::Ready(Some(Err(io::Error::other("the connection is to be closed"))))
    }

    fn wait_until(&mut self, instant: Instant) {
        self.wait = Some(Box::pin(sleep_until(instant.into())));
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        if this.piece.is_none() && this.left > 0 {
            let Some(frame) = ready!(pin!(&mut this.inner).poll_frame(cx)?) else {
                this.left = 0;
                return this.poll_then(cx).map_err(Into::into);
            };
            // Files and documents have no trailers.
            let mut piece = frame.into_data().unwrap_or_default();
            piece.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
            if let Some(passed) = this.pace.send(piece.len(), Instant::now()) {
                this.wait_until(passed);
            }
            this.piece = Some(piece);
        }
        if this.piece.is_none() {
            return this.poll_then(cx).map_err(Into::into);
        }
        ready!(this.poll_wait(cx));
        let piece = this.piece.take().unwrap_or_default();
        this.left -= piece.len() as u64;
        this.announced = this.announced.map(|bytes| bytes.saturating_sub(piece.len() as u64));
        this.record.sent(piece.len());
        if this.is_end_stream() {
            this.record.end();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && matches!(self.then, Then::End)
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
