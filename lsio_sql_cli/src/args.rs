//! The command line.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::output::{MaxRows, Output, OutputFormat};

/// SQL over Zarr stores.
///
/// Without -c, -f or a subcommand, reads statements from the terminal, or a script from standard
/// input. Paths are tables: SELECT avg(t2m) FROM 'store.zarr'. A store alone is shown: lsio store.zarr
/// means lsio info store.zarr.
#[derive(Debug, Parser)]
#[command(name = "lsio", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Run this SQL and exit; can be given several times
    #[arg(short, long, value_name = "SQL")]
    pub command: Vec<String>,

    /// Run the statements of this file and exit; can be given several times
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<PathBuf>,

    /// How results are written
    #[arg(long, value_enum, default_value_t = OutputFormat::Automatic)]
    format: OutputFormat,

    /// Print results and nothing else
    #[arg(short, long)]
    quiet: bool,

    /// The most rows that a table shows: a number or 'unlimited'
    #[arg(long, value_name = "N", default_value = "40")]
    maxrows: MaxRows,

    /// The memory that queries may take, such as '2g' or '500m'
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub memory_limit: Option<usize>,

    /// Where relative paths start, instead of the current directory
    #[arg(short = 'p', long, value_name = "DIR")]
    pub data_path: Option<PathBuf>,

    #[command(subcommand)]
    pub subcommand: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what a store holds: dimensions, coordinates, variables, tables
    Info {
        /// A path or URL, with options behind a '?' where wanted
        store: String,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a small store like ERA5 and run four queries on it
    Demo {
        /// Where to write the store [default: lsio-demo.zarr in the directory for temporary files]
        directory: Option<PathBuf>,
    },
    /// Show what is kept on this disk of remote stores: LSIO_CACHE_BYTES switches it on
    Cache {
        /// Remove all of it
        #[arg(long)]
        clear: bool,
    },
}

/// Inserts `info` before a store that stands alone: `lsio store.zarr`. The parser complains about what can't
/// be a store's name.
pub(crate) fn with_implied(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let is_store = |first: &OsString| {
        let text = first.to_string_lossy();
        let is_subcommand = Args::command().find_subcommand(&*text).is_some() || text == "help";
        let is_path = text.contains(['/', '.', '?']) && !text.contains(char::is_whitespace);
        !text.starts_with('-') && !is_subcommand && (is_path || Path::new(first).exists())
    };
    if args.get(1).is_some_and(is_store) {
        args.insert(1, "info".into());
    }
    args
}

impl Args {
    pub(crate) fn output(&self) -> Output {
        Output {
            format: self.format,
            maxrows: self.maxrows,
            quiet: self.quiet || !io::stdout().is_terminal(),
            progress: !self.quiet,
        }
    }
}

impl FromStr for MaxRows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["unlimited", "inf", "none"].contains(&text.to_ascii_lowercase().as_str()) {
            return Ok(Self::Unlimited);
        }
        text.parse().map(Self::Limited).map_err(|_| "give a number or 'unlimited'".to_owned())
    }
}

/// Parses a number of bytes above 0, as [`lsio_core::cache::parse_size`] does.
fn parse_size(text: &str) -> Result<usize, String> {
    let size = lsio_core::cache::parse_size(text).and_then(|size| usize::try_from(size).ok());
    size.filter(|&size| size > 0)
        .ok_or_else(|| format!("'{text}' is no size such as 2g, 500m or 1048576"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        assert_eq!(parse_size("500 MiB"), Ok(500 << 20));
        assert_eq!(parse_size("1048576"), Ok(1 << 20));
        for text in ["", "g", "-1g", "1.5g", "0", "9999999999t"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
