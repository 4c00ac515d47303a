//! A simulated ring with faults: tests how the driver reacts, and that it leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::VecDeque,
    fs::File,
    io,
    mem::ManuallyDrop,
    os::{fd::FromRawFd as _, unix::fs::FileExt as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    buffers::Pool,
    counters::Counters,
    driver::{Driver, InFlightLimits, Inbox},
    engine::Read,
    error::ReadError,
    files::{Files, Here, OpenFile},
    mailbox::Mailbox,
    ring::{Ring, RingRead, Wait},
};

/// Outcome of an operation.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Whole,
    /// At most this many bytes.
    Short(u32),
    Error(i32),
}

/// Outcome of a submission.
#[derive(Clone, Copy, Debug)]
enum Submission {
    Taken,
    Refused(i32),
}

/// Reads files itself, by its script. After the script, every operation succeeds.
struct SimulatedRing {
    capacity: usize,
    fates: VecDeque<Fate>,
    submissions: VecDeque<Submission>,
    /// Index of the operation in flight that completes next.
    order: VecDeque<usize>,
    queued: Vec<(u64, RingRead)>,
    under_way: Vec<(u64, RingRead)>,
    completed: VecDeque<(u64, i32)>,
    inbox: Arc<Inbox>,
    most: Arc<AtomicUsize>,
}

// SAFETY: the memory that operations point to is used by one thread, the driver's.
unsafe impl Send for SimulatedRing {}

impl Ring for SimulatedRing {
    fn capacity(&self) -> usize {
        self.capacity
    }

    unsafe fn queue(&mut self, token: u64, operation: RingRead) {
        let same = |(other, _): &(u64, RingRead)| *other == token;
        assert!(!self.queued.iter().any(same) && !self.under_way.iter().any(same));
        self.queued.push((token, operation));
        let all = self.queued.len() + self.under_way.len() + self.completed.len();
        assert!(all <= self.capacity, "more operations than the ring has room for");
        self.most.fetch_max(all, Ordering::Relaxed);
    }

    fn submit(&mut self, wait: Wait) -> io::Result<()> {
        if let Some(Submission::Refused(code)) = self.submissions.pop_front() {
            return Err(io::Error::from_raw_os_error(code));
        }
        self.under_way.append(&mut self.queued);
        if wait == Wait::ForCompletion && self.under_way.is_empty() && self.completed.is_empty() {
            let event = self.inbox.event();
            poll(&mut [PollFd::new(event, PollFlags::IN)], None).unwrap();
            let _ = rustix::io::read(event, &mut [0; 8]);
            return Ok(());
        }
        // Not all at once: some stay in flight while the driver goes on.
        for _ in 0..self.under_way.len().div_ceil(2) {
            let chosen = self.order.pop_front().unwrap_or(0) % self.under_way.len();
            let (token, operation) = self.under_way.swap_remove(chosen);
            let fate = self.fates.pop_front().unwrap_or(Fate::Whole);
            self.completed.push_back((token, execute(operation, fate)));
        }
        Ok(())
    }

    fn completion(&mut self) -> Option<(u64, i32)> {
        self.completed.pop_front()
    }

    fn registered(&self) -> usize {
        0
    }
}

fn execute(operation: RingRead, fate: Fate) -> i32 {
    let most = match fate {
        Fate::Whole => usize::MAX,
        Fate::Short(most) => most as usize,
        Fate::Error(code) => return -code,
    };
    // SAFETY: the driver keeps the descriptor open, and nothing closes it here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(operation.file) });
    // SAFETY: the driver gave the memory for this operation, and doesn't look at it before the
    // completion.
    let memory = unsafe {
        std::slice::from_raw_parts_mut(operation.memory.as_ptr(), operation.len as usize)
    };
    // A file for direct reads fails here unless the driver has aligned everything.
    match file.read_at(memory, operation.offset) {
        Ok(read) => i32::try_from(read.min(most)).unwrap(),
        Err(error) => -error.raw_os_error().unwrap(),
    }
}

/// Steps of a test.
#[derive(Clone, Debug)]
struct Scenario {
    size: usize,
    capacity: usize,
    limits: (usize, usize),
    reads: Vec<Wanted>,
    fates: Vec<Fate>,
    submissions: Vec<Submission>,
    order: Vec<usize>,
    /// Number of deliveries before the engine is stopped.
    stop: Option<usize>,
}

#[derive(Clone, Debug)]
struct Wanted {
    span: std::ops::Range<u64>,
    direct: bool,
    /// Number of other callers' deliveries before this caller goes away.
    cancel: Option<usize>,
}

struct Outcome {
    results: Vec<Option<Result<Bytes, ReadError>>>,
    most: usize,
}

/// A directory beside the test binary: on a drive, and outside the sources.
pub(super) fn directory() -> tempfile::TempDir {
    let test = std::env::current_exe().unwrap();
    tempfile::tempdir_in(test.parent().unwrap()).unwrap()
}

/// Runs a scenario, and checks that nothing is left behind.
fn play(scenario: &Scenario, contents: &[u8]) -> Outcome {
    let directory = directory();
    let path = directory.path().join("file");
    std::fs::write(&path, contents).unwrap();
    let file = Files::new(1).open(&path, Here::Worker).unwrap().0.ready(false).unwrap();
    let (pool, inbox) = (Pool::new(64 << 20), Arc::new(Inbox::new().unwrap()));
    let most = Arc::new(AtomicUsize::new(0));
    let ring = SimulatedRing {
        capacity: scenario.capacity,
        fates: scenario.fates.clone().into(),
        submissions: scenario.submissions.clone().into(),
        order: scenario.order.clone().into(),
        queued: Vec::new(),
        under_way: Vec::new(),
        completed: VecDeque::new(),
        inbox: Arc::clone(&inbox),
        most: Arc::clone(&most),
    };
    let limits = InFlightLimits { in_flight: scenario.limits.0, operation: scenario.limits.1 };
    let driver = Driver::new(ring, Arc::clone(&inbox), pool.clone(), Arc::default(), limits);
    let thread = std::thread::spawn(move || driver.run());

    let mailboxes: Vec<Arc<Mailbox>> = scenario.reads.iter().map(|_| Arc::default()).collect();
    let reads =
        scenario.reads.iter().zip(&mailboxes).enumerate().map(|(number, (read, mailbox))| Read {
            file: Arc::clone(&file),
            span: read.span.clone(),
            direct: read.direct,
            caller: number as u64 % 3,
            mailbox: Arc::clone(mailbox),
            number,
        });
    inbox.send(reads.collect());

    let mut results: Vec<_> = scenario.reads.iter().map(|_| None).collect();
    let mut cancelled = vec![false; results.len()];
    let mut stopped = false;
    let start = std::time::Instant::now();
    loop {
        let delivered = results.iter().filter(|result| result.is_some()).count();
        for (number, read) in scenario.reads.iter().enumerate() {
            if read.cancel.is_some_and(|after| delivered >= after) && !cancelled[number] {
                mailboxes[number].close();
                cancelled[number] = true;
            }
        }
        if scenario.stop.is_some_and(|after| delivered >= after) && !stopped {
            inbox.stop();
            stopped = true;
        }
        let mut waits = false;
        for (number, mailbox) in mailboxes.iter().enumerate() {
            if cancelled[number] || results[number].is_some() {
                continue;
            }
            match mailbox.poll(&mut Context::from_waker(Waker::noop()), 1) {
                Poll::Ready((_, result)) => results[number] = Some(result),
                Poll::Pending => waits = true,
            }
        }
        if !waits {
            break;
        }
        assert!(start.elapsed().as_secs() < 20, "nothing comes any more: {scenario:?}");
        std::thread::yield_now();
    }
    inbox.stop();
    while !thread.is_finished() {
        assert!(start.elapsed().as_secs() < 20, "the thread doesn't end: {scenario:?}");
        std::thread::yield_now();
    }
    thread.join().unwrap();
    // A read after the end fails, and is not kept.
    let late = Arc::new(Mailbox::default());
    let read = Read {
        file: Arc::clone(&file),
        span: 0..1,
        direct: false,
        caller: 0,
        mailbox: Arc::clone(&late),
        number: 0,
    };
    inbox.send(vec![read]);
    let answer = late.poll(&mut Context::from_waker(Waker::noop()), 1);
    assert!(matches!(answer, Poll::Ready((0, Err(ReadError::Stopped { .. })))));

    // Only results hold memory, and nothing holds the file.
    assert_eq!(Arc::strong_count(&file), 1);
    for mailbox in &mailboxes {
        assert_eq!(Arc::strong_count(mailbox), 1);
    }
    let outcome = Outcome { results, most: most.load(Ordering::Relaxed) };
    let held = outcome.results.iter().flatten().flatten().map(Bytes::len).sum::<usize>();
    assert!(held > 0 || pool.used() == 0, "{} bytes are lost", pool.used());
    outcome
}

fn contents(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Whole),
        3 => (1..9000_u32).prop_map(Fate::Short),
        1 => Just(Fate::Short(4096)),
        1 => Just(Fate::Error(libc::EINTR)),
        1 => Just(Fate::Error(libc::EAGAIN)),
        1 => Just(Fate::Error(libc::EINVAL)),
        1 => Just(Fate::Error(libc::EIO)),
    ]
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let submission = prop_oneof![
        3 => Just(Submission::Taken),
        1 => Just(Submission::Refused(libc::EINTR)),
        1 => Just(Submission::Refused(libc::EAGAIN)),
        1 => Just(Submission::Refused(libc::EBUSY)),
    ];
    let wanted =
        (0..100_000_u64, 1..60_000_u64, any::<bool>(), prop::option::weighted(0.2, 0..8_usize));
    (
        1..120_000_usize,
        (1..9_usize, 1..100_000_usize, 1..9_usize),
        prop::collection::vec(wanted, 1..12),
        prop::collection::vec(fate(), 0..40),
        prop::collection::vec(submission, 0..20),
        prop::collection::vec(0..10_usize, 0..40),
        prop::option::weighted(0.2, 0..8_usize),
    )
        .prop_map(|(size, limits, reads, fates, submissions, order, stop)| Scenario {
            size,
            capacity: limits.0,
            limits: (limits.1, limits.2 * 4096),
            reads: reads
                .into_iter()
                .map(|(start, len, direct, cancel)| {
                    let start = start % size as u64;
                    Wanted { span: start..(start + len).min(size as u64), direct, cancel }
                })
                .collect(),
            fates,
            submissions,
            order,
            stop,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the ring does, callers get the right bytes or an error, and nothing is left behind.
    #[test]
    fn bytes_or_errors_and_nothing_left(scenario in scenario()) {
        let contents = contents(scenario.size);
        let outcome = play(&scenario, &contents);
        prop_assert!(outcome.most <= scenario.capacity);
        let may_fail = scenario.stop.is_some()
            || scenario.fates.iter().any(|fate| {
                matches!(fate, Fate::Error(libc::EIO | libc::EINVAL))
            });
        for (read, result) in scenario.reads.iter().zip(&outcome.results) {
            match result {
                None => prop_assert!(read.cancel.is_some()),
                Some(Ok(bytes)) => {
                    let span = read.span.start as usize..read.span.end as usize;
                    prop_assert!(*bytes == contents[span]);
                }
                Some(Err(error)) => prop_assert!(may_fail, "{error}"),
            }
        }
    }
}

fn simple(size: usize, reads: Vec<Wanted>) -> Scenario {
    Scenario {
        size,
        capacity: 4,
        limits: (1 << 20, 4096),
        reads,
        fates: Vec::new(),
        submissions: Vec::new(),
        order: Vec::new(),
        stop: None,
    }
}

fn wanted(span: std::ops::Range<u64>, direct: bool) -> Wanted {
    Wanted { span, direct, cancel: None }
}

#[test]
fn errors_reach_the_caller_and_no_other() {
    let reads = vec![wanted(0..10_000, false), wanted(10_000..20_000, false)];
    let mut scenario = simple(30_000, reads);
    // One of the first operations fails; the rest of its read isn't even started.
    scenario.fates = vec![Fate::Error(libc::EIO)];
    let results = play(&scenario, &contents(30_000)).results;
    let failed = results.iter().flatten().filter(|result| result.is_err()).count();
    assert_eq!(failed, 1);
    let error = results.into_iter().flatten().find_map(Result::err).unwrap().to_string();
    assert!(error.contains("file") && error.contains("os error 5"), "{error}");
}

#[test]
fn a_kernel_that_never_takes_a_read_is_an_error_at_last() {
    let mut scenario = simple(5000, vec![wanted(0..4000, false)]);
    scenario.fates = vec![Fate::Error(libc::EAGAIN); 3000];
    let results = play(&scenario, &contents(5000)).results;
    assert!(matches!(&results[0], Some(Err(ReadError::Read { .. }))));
}

#[test]
fn a_file_that_shrank_is_an_error() {
    let reads = vec![wanted(0..50_000, true), wanted(0..50_000, false), wanted(0..100, true)];
    let results = play(&simple(50_000, reads), &contents(10_000)).results;
    for result in &results[..2] {
        let Some(Err(error)) = result else { panic!("{result:?}") };
        assert!(matches!(error, ReadError::Ended { length: 10_000, wanted: 50_000, .. }));
    }
    assert!(matches!(&results[2], Some(Ok(bytes)) if bytes.len() == 100));
}

#[test]
fn a_panic_of_the_ring_fails_its_reads_and_frees_nothing_that_is_under_way() {
    struct Panics(Arc<Mutex<Vec<RingRead>>>);
    // SAFETY: it only remembers addresses.
    unsafe impl Send for Panics {}
    impl Ring for Panics {
        fn capacity(&self) -> usize {
            4
        }
        unsafe fn queue(&mut self, _: u64, operation: RingRead) {
            self.0.lock().unwrap().push(operation);
        }
        fn submit(&mut self, _: Wait) -> io::Result<()> {
            if self.0.lock().unwrap().is_empty() {
                return Ok(());
            }
            panic!("the ring breaks");
        }
        fn completion(&mut self) -> Option<(u64, i32)> {
            None
        }
        fn registered(&self) -> usize {
            0
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, contents(9000)).unwrap();
    let file: Arc<OpenFile> =
        Files::new(1).open(&path, Here::Worker).unwrap().0.ready(false).unwrap();
    let (pool, inbox) = (Pool::new(64 << 20), Arc::new(Inbox::new().unwrap()));
    let counters = Arc::new(Counters::default());
    let limits = InFlightLimits { in_flight: 1 << 20, operation: 4096 };
    let operations = Arc::default();
    let ring = Panics(Arc::clone(&operations));
    let driver = Driver::new(ring, Arc::clone(&inbox), pool.clone(), counters, limits);
    let mailbox = Arc::new(Mailbox::default());
    let read = Read {
        file: Arc::clone(&file),
        span: 0..9000,
        direct: false,
        caller: 0,
        mailbox: Arc::clone(&mailbox),
        number: 7,
    };
    inbox.send(vec![read]);
    std::thread::spawn(move || driver.run()).join().unwrap();
    let answer = mailbox.poll(&mut Context::from_waker(Waker::noop()), 1);
    assert!(matches!(answer, Poll::Ready((7, Err(ReadError::Stopped { .. })))));
    // The read's memory stays taken and its file open: the kernel might still write.
    assert_eq!(operations.lock().unwrap().len(), 3);
    assert!(pool.used() >= 9000);
    assert!(Arc::strong_count(&file) > 1);
}
