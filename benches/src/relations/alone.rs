//! A question in a process of its own, which is ended after a while.

use std::{
    env,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Session, questions::find, stores::Stores};
use crate::{Error, measure::Figures};

/// How often it is asked whether the process has ended.
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Threads and partitions
    #[arg(long)]
    threads: usize,
    /// A set of stores
    directory: PathBuf,
    /// The question's name
    question: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::new(args.threads)?;
    let stores = Stores::at(&args.directory);
    let figures = session.run(&stores, find(&args.question)?, &super::off())?;
    println!("{} {} {}", figures.seconds, figures.cpu, figures.peak);
    Ok(())
}

/// Asks a question with the rules off; `None` if it takes longer than `limit`.
pub(super) fn run_off(
    directory: &Path,
    question: &str,
    threads: usize,
    limit: Duration,
) -> Result<Option<Figures>, Error> {
    let mut child = Command::new(env::current_exe()?)
        .args(["relate", "--threads", &threads.to_string()])
        .arg(directory)
        .arg(question)
        .stdout(Stdio::piped())
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    };
    if !status.success() {
        return Err(format!("'{question}' failed with the rules off").into());
    }
    let mut text = String::new();
    child.stdout.ok_or("the process has no output")?.read_to_string(&mut text)?;
    let mut words = text.split_whitespace();
    let mut next = || words.next().ok_or("the process says too little");
    Ok(Some(Figures { seconds: next()?.parse()?, cpu: next()?.parse()?, peak: next()?.parse()? }))
}
