//! `lsio`: SQL over Zarr stores on the command line. This crate wires; queries are the libraries'.
//!
//! The program `lsio` is [`run`], and so is `python -m lsio`.

mod args;
mod cache;
mod cell;
mod commands;
mod demo;
mod engine;
mod execute;
mod info;
mod output;
mod progress;
mod repl;
mod script;
mod table;

use std::{
    collections::HashSet,
    ffi::OsString,
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
};

use clap::Parser as _;
use datafusion::prelude::SessionContext;
use lsio_core::Resources;
use lsio_datafusion::{SessionBuilder, describe};

use crate::{
    args::{Args, Command},
    engine::{Cancelled, QueryThreads},
    execute::Shell,
};

/// What the commands fail with.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a shell takes for "ended by Ctrl-C": 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// Exit codes other than 0.
const FAILURE: u8 = 1;

/// Runs the command line with its arguments, the program's name first, and returns the exit code. Ctrl-C is taken over:
/// it ends a query, not the process.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::try_parse_from(args::with_implied(args)) {
        Ok(args) => args,
        // Help and the version are on standard output, and no failure.
        Err(shown) => {
            let _ = shown.print();
            return u8::try_from(shown.exit_code()).unwrap_or(FAILURE);
        }
    };
    log_to_stderr();
    match run_parsed(args) {
        Ok(()) => 0,
        Err(error) if error.is::<Cancelled>() => {
            progress::clear();
            INTERRUPTED
        }
        Err(error) => {
            eprintln!("Error: {}", describe(error.as_ref()).message);
            FAILURE
        }
    }
}

fn run_parsed(args: Args) -> Result<(), Error> {
    if let Some(path) = &args.data_path {
        std::env::set_current_dir(path)
            .map_err(|e| format!("--data-path {}: {e}", path.display()))?;
    }
    let mut engine = QueryThreads::new()?;
    // Whoever reads gets these.
    let resources = Resources::from_environment();
    let own = resources.clone();
    let done = match args.subcommand {
        Some(Command::Info { store, json }) => {
            engine.run(async move { info::print(&store, json, own).await }).flatten()
        }
        Some(Command::Demo { directory }) => {
            engine.run(async move { demo::run(directory.as_deref(), &own).await }).flatten()
        }
        Some(Command::Cache { clear }) => cache::run(clear, &resources),
        None if args.command.is_empty() && args.file.is_empty() && io::stdin().is_terminal() => {
            let session = session(args.memory_limit, &resources)?;
            let history = repl::history_file(resources.environment());
            repl::run(Shell::new(session, args.output()), history, &mut engine)
        }
        None => engine.run(async move { scripts(&args, &own).await }).flatten(),
    };
    if done.as_ref().is_err_and(|error| error.is::<Cancelled>()) {
        return done;
    }
    // What was read last is still being written.
    if let Ok(Some(cache)) = resources.cache() {
        engine.run(async move { cache.flush().await })?;
    }
    done
}

/// Runs what `-c` and `-f` name, or standard input.
async fn scripts(args: &Args, resources: &Resources) -> Result<(), Error> {
    let session = session(args.memory_limit, resources)?;
    let mut runner = Shell::new(session, args.output());
    for command in &args.command {
        runner.run_script(command).await?;
    }
    for file in &args.file {
        let script = if file.as_os_str() == "-" {
            io::read_to_string(io::stdin())
        } else {
            std::fs::read_to_string(file)
        };
        let script = script.map_err(|e| format!("the script {}: {e}", file.display()))?;
        runner.run_script(&script).await?;
    }
    if !args.command.is_empty() || !args.file.is_empty() {
        return Ok(());
    }
    runner.run_script(&io::read_to_string(io::stdin())?).await
}

fn session(memory_limit: Option<usize>, resources: &Resources) -> Result<SessionContext, Error> {
    let builder = SessionBuilder::new(resources.clone());
    let builder = match memory_limit {
        Some(bytes) => builder.with_memory_limit(bytes),
        None => builder,
    };
    Ok(builder.build()?)
}

/// Shows what readers of stores warn of, each thing once; `RUST_LOG` shows more or less.
fn log_to_stderr() {
    use std::io::Write as _;

    // A query opens a store several times.
    let shown = Mutex::new(HashSet::new());

    // A program that runs the command line may have a logger of its own, which then gets these.
    let _ = env_logger::Builder::new()
        .filter_level(log::LevelFilter::Off)
        .filter_module("lsio_core", log::LevelFilter::Warn)
        .filter_module("lsio_datafusion", log::LevelFilter::Warn)
        .filter_module("lsio_uring", log::LevelFilter::Warn)
        .parse_default_env()
        .format(move |out, record| {
            let line = format!("{}: {}", record.level(), record.args());
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            if !shown.insert(line.clone()) {
                return Ok(());
            }
            progress::clear();
            writeln!(out, "{line}")
        })
        .try_init();
}
