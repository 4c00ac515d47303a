//! Ctrl-C in queries that DataFusion's operators compute without looking up, and quitting behind them.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::prompt::{Prompt, cpu, interrupt};

/// What an answer and an end may take: far less than the queries, which take minutes, and more than they
/// do on a machine that isn't busy.
const SOON: Duration = Duration::from_secs(3);

/// Queries of 10^10 pairs.
const LONG: [&str; 3] = [
    "SELECT count(*) AS n FROM generate_series(1, 100000) a(x) \
     JOIN generate_series(1, 100000) b(y) ON a.x < b.y AND a.x % 7 <> b.y % 3",
    "SELECT a.x FROM generate_series(1, 100000) a(x) JOIN generate_series(1, 100000) b(y) ON a.x + b.y < 0",
    "SELECT sum(a.x * b.y) AS s FROM generate_series(1, 100000) a(x), generate_series(1, 100000) b(y)",
];

/// Waits until a query computes.
fn until(runs: impl Fn() -> bool) {
    let start = Instant::now();
    while !runs() {
        assert!(start.elapsed() < Duration::from_secs(60), "the query doesn't run");
        thread::sleep(Duration::from_millis(10));
    }
}

fn prompt(home: &Path) -> Prompt {
    Prompt::start(home, "auto")
}

#[test]
fn the_session_goes_on_and_quits() {
    let home = tempfile::tempdir().unwrap();
    for (sql, quit) in LONG.into_iter().zip(["\u{4}", "\\q\n", ".quit\n"]) {
        let mut prompt = prompt(home.path());
        assert!(prompt.ask("CREATE TABLE t AS SELECT 42 AS answer").error().is_none());
        let before = prompt.cpu();
        prompt.send(&format!("{sql};\n"));
        until(|| prompt.cpu() > before + Duration::from_millis(500));
        let cancelled = Instant::now();
        prompt.interrupt();
        // Tables of the session are still there.
        let answer = prompt.ask("SELECT answer FROM t");
        let elapsed = cancelled.elapsed();
        assert_eq!(answer.lost, None, "{sql}");
        assert_eq!(answer.error(), Some("cancelled"), "{sql}: {answer:?}");
        assert_eq!(answer.rows, ["{\"answer\":42}"], "{sql}");
        assert!(elapsed < SOON, "{sql}: the next answer took {elapsed:?}");
        let leaving = Instant::now();
        let status = prompt.leave(quit);
        assert!(status.success(), "{sql}: {status}");
        assert!(leaving.elapsed() < SOON, "{sql}: the end took {:?}", leaving.elapsed());
    }
}

#[test]
fn a_query_can_be_cancelled_time_and_again() {
    let home = tempfile::tempdir().unwrap();
    let mut prompt = prompt(home.path());
    for _ in 0..2 {
        let before = prompt.cpu();
        prompt.send(&format!("{};\n", LONG[0]));
        until(|| prompt.cpu() > before + Duration::from_millis(300));
        prompt.interrupt();
        assert_eq!(prompt.ask("SELECT 1 AS one").rows, ["{\"one\":1}"]);
    }
    assert!(prompt.quit().success());
}

#[test]
fn a_script_ends() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lsio"))
        .args(["-c", LONG[0]])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| cpu(&child) > Duration::from_millis(500));
    let start = Instant::now();
    interrupt(&child);
    let status = child.wait().unwrap();
    // As a shell has it of who ends by Ctrl-C.
    assert_eq!(status.code(), Some(130));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
