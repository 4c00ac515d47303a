//! The program `lsio`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(lsio_sql_cli::run(std::env::args_os()))
}
