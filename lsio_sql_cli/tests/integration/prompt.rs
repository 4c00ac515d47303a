//! The binary at its prompt, driven through a terminal: the one place where it goes on after an error and
//! after Ctrl-C, so that one process meets many stores, as a server's would.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    os::fd::{FromRawFd as _, OwnedFd},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// How long a statement may take on the clock. The machine may be busy with other tests; whether the
/// statement itself was slow, the time on the processor says.
const PATIENCE: Duration = Duration::from_secs(15);

/// What it asks for lines with.
const PROMPTS: [&str; 3] = ["> ", "...> ", "'> "];

/// A running `lsio`.
pub(crate) struct Prompt {
    child: Child,
    terminal: File,
    lines: Receiver<String>,
    marks: u64,
    /// What it holds before the first query, in MiB: mostly the program itself.
    held: u64,
}

/// What came of a statement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The rows, as JSON.
    pub rows: Vec<String>,
    /// Everything else: errors, warnings, notes.
    pub messages: Vec<String>,
    /// The time on the processor, of all threads.
    pub cpu: Duration,
    pub clock: Duration,
    /// The most memory since the statement before, in MiB, beyond what the process has begun with.
    pub peak: u64,
    /// How the process was lost, if it was.
    pub lost: Option<String>,
}

impl Answer {
    /// Whether the statement failed.
    pub(crate) fn error(&self) -> Option<&str> {
        self.messages.iter().find_map(|line| line.strip_prefix("Error: "))
    }
}

impl Prompt {
    /// Starts the binary. `home` is where it may leave files; `engine` reads local files.
    pub(crate) fn start(home: &Path, engine: &str) -> Self {
        let (terminal, input) = terminal();
        let (out, errors) = io::pipe().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lsio"))
            .args(["--quiet", "--format", "nd-json"])
            .env("TERM", "dumb")
            .env("HOME", home)
            .env("RUST_BACKTRACE", "0")
            .env("LSIO_IO_ENGINE", engine)
            .env_remove("RUST_LOG")
            .stdin(Stdio::from(input))
            .stdout(errors.try_clone().unwrap())
            .stderr(errors)
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = Vec::new();
            while out.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let mut this = Self { child, terminal: File::from(terminal), lines, marks: 0, held: 0 };
        // What is mapped and made on first use belongs to no store.
        this.held = this.ask("SELECT 1").peak;
        this
    }

    /// Runs a statement, which has to fit one line.
    pub(crate) fn ask(&mut self, sql: &str) -> Answer {
        self.marks += 1;
        let mark = format!("mark-{}-", self.marks);
        let start = Instant::now();
        let before = self.cpu();
        let mut answer = Answer::default();
        // A terminal takes lines of up to 4095 bytes.
        assert!(sql.len() < 4_000 && !sql.contains('\n'), "{sql}");
        // In two halves, so that an error that quotes a statement isn't taken for its answer.
        let script = format!("{sql};\nSELECT 'mark' || '-{}-' AS mark;\n", self.marks);
        // If the process has ended, the lines say so.
        let _ = self.terminal.write_all(script.as_bytes());
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let mut line = &*line;
                    while let Some(rest) = PROMPTS.iter().find_map(|p| line.strip_prefix(p)) {
                        line = rest;
                    }
                    if line.starts_with('{') && line.contains(&mark) {
                        break;
                    } else if line.starts_with('{') {
                        answer.rows.push(line.to_owned());
                    } else if !line.is_empty() {
                        answer.messages.push(line.to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    answer.lost = Some(format!("no answer within {PATIENCE:?}"));
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().unwrap();
                    answer.lost = Some(format!("the process ended: {status}"));
                    return answer;
                }
            }
        }
        answer.clock = start.elapsed();
        answer.cpu = self.cpu().saturating_sub(before);
        answer.peak = self.peak();
        answer
    }

    /// Types a text, and waits for nothing.
    pub(crate) fn send(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// What Ctrl-C does while a statement runs.
    pub(crate) fn interrupt(&self) {
        interrupt(&self.child);
    }

    /// Quits, and says how the process ended.
    pub(crate) fn quit(self) -> ExitStatus {
        self.leave("\\q\n")
    }

    /// Types what ends the process, and says how it ended.
    pub(crate) fn leave(mut self, how: &str) -> ExitStatus {
        let _ = self.terminal.write_all(how.as_bytes());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                return self.child.wait().unwrap();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The time that the process has spent on the processor.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(&self.child)
    }

    /// The most memory since the last call, in MiB, beyond what the process has begun with.
    fn peak(&self) -> u64 {
        let id = self.child.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let kib = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        // Starts the measurement anew. Where that isn't allowed, the peaks are those of all before.
        let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        (kib.unwrap_or_default() / 1_024).saturating_sub(self.held)
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time that a process has spent on the processor.
pub(crate) fn cpu(process: &Child) -> Duration {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", process.id())) else {
        return Duration::ZERO;
    };
    // The name, in parentheses, may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    // SAFETY: it takes a number and gives one.
    let rate = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_millis(ticks * 1_000 / u64::try_from(rate).unwrap_or(100).max(1))
}

/// Sends a process the signal of Ctrl-C.
pub(crate) fn interrupt(process: &Child) {
    let id = libc::pid_t::try_from(process.id()).unwrap();
    // SAFETY: it takes two numbers, and the process is ours and hasn't been waited for.
    let sent = unsafe { libc::kill(id, libc::SIGINT) };
    assert_eq!(sent, 0, "{}", io::Error::last_os_error());
}

/// A terminal that doesn't echo: our side, and the program's.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: the pointers are to where the descriptors go, which nobody else has; the others may be
    // null. `settings` is plain data that the calls fill and read.
    unsafe {
        use std::ptr::{null, null_mut};
        let opened = libc::openpty(&raw mut ours, &raw mut theirs, null_mut(), null(), null());
        assert_eq!(opened, 0, "{}", io::Error::last_os_error());
        let mut settings: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(theirs, &raw mut settings), 0);
        settings.c_lflag &= !(libc::ECHO | libc::ECHONL);
        assert_eq!(libc::tcsetattr(theirs, libc::TCSANOW, &raw const settings), 0);
        // A later child must not inherit our side.
        assert_eq!(libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC), 0);
        assert_eq!(libc::fcntl(theirs, libc::F_SETFD, libc::FD_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}
