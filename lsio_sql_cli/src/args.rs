//! The command line.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    str::FromStr,
};

use clap::{Parser, Subcommand};

use crate::output::{Format, MaxRows, Output};

/// SQL over Zarr stores.
///
/// Without -c, -f or a subcommand, reads statements from the terminal, or a script from standard
/// input. Paths are tables: SELECT avg(t2m) FROM 'store.zarr'.
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
    #[arg(long, value_enum, default_value_t = Format::Automatic)]
    format: Format,

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

/// A number of bytes with an optional unit of powers of 1024.
fn parse_size(text: &str) -> Result<usize, String> {
    let invalid = || format!("'{text}' is no size such as 2g, 500m or 1048576");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(invalid()),
    };
    let number: usize = digits.trim().parse().map_err(|_| invalid())?;
    number.checked_mul(1 << shift).filter(|&n| n > 0).ok_or_else(invalid)
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
