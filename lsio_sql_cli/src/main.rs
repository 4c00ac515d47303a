//! `lsio`: SQL over Zarr stores on the command line. This crate wires; queries are the libraries'.

mod args;
mod cache;
mod demo;
mod execute;
mod info;
mod output;
mod progress;
mod repl;
mod script;
mod session;

use std::{
    collections::HashSet,
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use clap::Parser as _;
use datafusion::error::DataFusionError;
use lsio_core::cache::DiskCache;

use crate::{
    args::{Args, Command},
    execute::Runner,
};

/// What the commands fail with.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", message(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Error> {
    if let Some(path) = &args.data_path {
        std::env::set_current_dir(path)
            .map_err(|e| format!("--data-path {}: {e}", path.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let done = match &args.subcommand {
            Some(Command::Info { store, json }) => info::print(store, *json).await,
            Some(Command::Demo { directory }) => demo::run(directory.as_deref()).await,
            Some(Command::Cache { clear }) => cache::run(*clear),
            None => queries(&args).await,
        };
        // What was read last is still being written.
        if let Ok(Some(cache)) = DiskCache::from_environment() {
            cache.flush().await;
        }
        done
    })
}

async fn queries(args: &Args) -> Result<(), Error> {
    let mut runner = Runner::new(session::new(args.memory_limit)?, args.output());
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
    if io::stdin().is_terminal() {
        return repl::run(&mut runner).await;
    }
    runner.run_script(&io::read_to_string(io::stdin())?).await
}

/// Shows what readers of stores warn of, each thing once; `RUST_LOG` shows more or less.
fn log_to_stderr() {
    use std::io::Write as _;

    // A query opens a store several times.
    let shown = Mutex::new(HashSet::new());

    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Off)
        .filter_module("lsio_core", log::LevelFilter::Warn)
        .filter_module("lsio_datafusion", log::LevelFilter::Warn)
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
        .init();
}

/// An error's message without what the layers in between say of themselves.
fn message(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<DataFusionError>() {
        Some(error) => match error.find_root() {
            DataFusionError::External(source) => match source.downcast_ref::<DataFusionError>() {
                Some(inner) => message(inner),
                None => source.to_string(),
            },
            root => root.strip_backtrace(),
        },
        None => error.to_string(),
    }
}
