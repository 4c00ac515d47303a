//! Progress of a query on standard error: one line, redrawn in place.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    task::Poll,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use datafusion::{
    execution::SendableRecordBatchStream,
    physical_plan::{ExecutionPlan, stream::RecordBatchStreamAdapter},
};
use futures::{StreamExt as _, stream};
use lsio_datafusion::{ProgressWatch, QueryProgress};

use crate::info::bytes;

/// Delay before the line is first drawn: shorter queries don't need it.
const DELAY: Duration = Duration::from_millis(500);

/// Interval between two drawings.
const INTERVAL: Duration = Duration::from_millis(200);

/// Least share of the chunks for an estimate of the remaining time.
const MIN_SHARE: f64 = 0.01;

/// Whether the line is on the terminal.
static DRAWN: Mutex<bool> = Mutex::new(false);

/// Shows the progress of a running plan's scans, if standard error is a terminal: until its stream ends, or
/// if `until_rows` is set, until it returns rows.
pub(crate) fn show(
    mut stream: SendableRecordBatchStream,
    plan: &Arc<dyn ExecutionPlan>,
    until_rows: bool,
) -> SendableRecordBatchStream {
    let mut line = Line::start(plan);
    if line.is_none() {
        return stream;
    }
    let schema = stream.schema();
    let batches = stream::poll_fn(move |cx| {
        let next = stream.poll_next_unpin(cx);
        match &next {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) if !until_rows => {}
            // The caller may write after this.
            Poll::Ready(_) => drop(line.take()),
        }
        next
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// Clears the line, if drawn, before other output on standard error. It is drawn again below that.
pub(crate) fn clear() {
    if mem::take(&mut *DRAWN.lock().unwrap_or_else(PoisonError::into_inner)) {
        let _ = io::stderr().write_all(b"\r\x1b[K");
    }
}

/// The line of one query, shown until it is dropped. A thread of its own draws it: the runtime's workers, on
/// which its timers depend, are busy with the query.
struct Line {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    fn start(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let watch = ProgressWatch::of(plan);
        if watch.progress().total == 0 {
            return None;
        }
        let (stop, stopped) = mpsc::channel();
        let draw = move || keep_drawing(&watch, &stopped);
        // Without another thread there is no line.
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(draw).ok()?;
        Some(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            // Waits, so that nothing is drawn after this.
            let _ = thread.join();
        }
    }
}

fn keep_drawing(watch: &ProgressWatch, stopped: &Receiver<()>) {
    let start = Instant::now();
    let mut wait = DELAY;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        draw(&text(watch.progress(), start.elapsed()));
        wait = INTERVAL;
    }
    clear();
}

fn draw(text: &str) {
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    // One write, so that Ctrl-C leaves no half of it. On a narrow terminal the line is cut instead of
    // wrapped, as only one row can be cleared.
    let line = format!("\r\x1b[K\x1b[?7l{text}\x1b[?7h");
    let _ = io::stderr().write_all(line.as_bytes());
    *drawn = true;
}

/// Text of the line after some time.
fn text(progress: QueryProgress, elapsed: Duration) -> String {
    let QueryProgress { done, total, bytes: read } = progress;
    let mut parts = vec![format!("{}/{} chunks", grouped(done), grouped(total))];
    let seconds = elapsed.as_secs_f64();
    if read > 0 {
        parts.push(bytes(read));
        parts.push(format!("{}/s", bytes((read as f64 / seconds) as u64)));
    }
    // NaN, and so unknown, if there are no chunks.
    let share = done as f64 / total as f64;
    if share >= MIN_SHARE {
        let left = seconds * (1.0 - share) / share;
        parts.push(format!("{} left", duration(left.ceil() as u64)));
    }
    parts.join(" · ")
}

/// Formats a number with a comma before each thousand.
pub(crate) fn grouped(number: impl fmt::Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a time in its two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    if minutes == 0 {
        format!("{seconds} s")
    } else if hours == 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{} h {} min", grouped(hours), minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (999_999, "999,999"),
            (1_000_000, "1,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (90_061, "25 h 1 min"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn lines() {
        let text = |done, total, bytes, seconds| {
            text(QueryProgress { done, total, bytes }, Duration::from_secs(seconds))
        };
        assert_eq!(
            text(2_190, 8_760, 1_920_000_000, 3),
            "2,190/8,760 chunks · 1.9 GB · 640.0 MB/s · 9 s left"
        );
        assert_eq!(text(0, 8_760, 0, 1), "0/8,760 chunks");
        // Chunks that aren't stored have no bytes.
        assert_eq!(text(50, 100, 0, 61), "50/100 chunks · 1 min 1 s left");
        // Too few to tell how long the others will take.
        assert_eq!(text(9, 1_000, 999, 1), "9/1,000 chunks · 999 B · 999 B/s");
        assert_eq!(
            text(10, 1_000, 9_000, 1),
            "10/1,000 chunks · 9.0 kB · 9.0 kB/s · 1 min 39 s left"
        );
        assert_eq!(text(100, 100, 5_000, 2), "100/100 chunks · 5.0 kB · 2.5 kB/s · 0 s left");
        assert_eq!(text(0, 0, 0, 1), "0/0 chunks");
    }
}
