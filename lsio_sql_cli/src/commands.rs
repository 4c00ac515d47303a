//! Commands that aren't SQL, under our names and those of other programs.

use clap::ValueEnum as _;
use lsio_core::similar;

use crate::{
    Error,
    execute::{Next, Shell},
    info,
    output::{MaxRows, OutputFormat, say},
};

/// Commands, with descriptions.
const COMMANDS: [(&str, &str); 11] = [
    ("\\d", "list tables"),
    ("\\d NAME", "describe a table or a store"),
    ("\\info STORE", "show what a store holds"),
    ("\\i FILE", "run the statements of a file"),
    ("\\h", "list functions"),
    ("\\h NAME", "describe a function"),
    ("\\pset format FORMAT", "set the output format: table, csv, tsv, json, nd-json, automatic"),
    ("\\pset maxrows N", "set the most rows that a table shows: a number or unlimited"),
    ("\\quiet true|false", "print results only, or rows, times and progress too"),
    ("\\?", "this help"),
    ("\\q", "quit"),
];

/// Other programs' names of the commands: psql's begin with a backslash, DuckDB's and SQLite's with a dot.
const ALIASES: [(&str, &str); 27] = [
    (".tables", "d"),
    (".databases", "d"),
    (".schema", "d"),
    (".describe", "d"),
    ("\\dt", "d"),
    ("\\dt+", "d"),
    ("\\d+", "d"),
    ("\\dv", "d"),
    ("\\l", "d"),
    (".info", "info"),
    (".read", "i"),
    ("\\include", "i"),
    (".functions", "h"),
    ("\\df", "h"),
    (".mode", "format"),
    (".maxrows", "maxrows"),
    ("\\maxrows", "maxrows"),
    (".help", "?"),
    (".?", "?"),
    ("\\help", "?"),
    (".quit", "q"),
    (".exit", "q"),
    (".q", "q"),
    ("\\quit", "q"),
    ("\\exit", "q"),
    (".quiet", "quiet"),
    (".pset", "pset"),
];

/// Other programs' commands whose effect is the default here, or how to ask for it.
const ELSEWHERE: [(&str, &str); 11] = [
    (".open", "a store is a table by its path: SELECT * FROM 'store.zarr'"),
    ("\\c", "a store is a table by its path: SELECT * FROM 'store.zarr'"),
    (".timer", "times are shown unless \\quiet is true"),
    ("\\timing", "times are shown unless \\quiet is true"),
    (".headers", "headers are always there"),
    (".header", "headers are always there"),
    (".output", "results go to files by COPY (SELECT …) TO 'file.csv'"),
    (".once", "results go to files by COPY (SELECT …) TO 'file.csv'"),
    ("\\o", "results go to files by COPY (SELECT …) TO 'file.csv'"),
    ("\\copy", "results go to files by COPY (SELECT …) TO 'file.csv', without a backslash"),
    (".import", "a file is a table by its path: SELECT * FROM 'file.csv'"),
];

/// Whether a line is a known command.
pub(crate) fn is_known(line: &str) -> bool {
    let (name, _) = split(line);
    known(name).is_some()
}

/// Runs a command, which includes its backslash or dot.
pub(crate) async fn run(runner: &mut Shell, line: &str) -> Result<Next, Error> {
    let (given, argument) = split(line);
    let Some(name) = known(given) else { return Err(unknown(given).into()) };
    match (name, argument) {
        ("q", "") => return Ok(Next::Quit),
        ("?", _) => {
            for (command, meaning) in COMMANDS {
                say!("{command:<22} {meaning}");
            }
            say!(
                "SQL ends with a semicolon. Paths are tables: SELECT * FROM 'store.zarr' LIMIT 5;"
            );
        }
        // SHOW TABLES also lists the views of the information schema.
        ("d", "") => {
            runner
                .run_statement(
                    "SELECT table_catalog, table_schema, table_name, table_type \
                     FROM information_schema.tables WHERE table_schema <> 'information_schema' \
                     ORDER BY table_catalog, table_schema, table_name",
                )
                .await?;
        }
        ("d", table) => {
            let quoted = table.starts_with(['\'', '"']);
            let path = table.contains(['/', '.', '?', '~']) && !quoted;
            let table = if path { format!("'{table}'") } else { table.to_owned() };
            runner.run_statement(&format!("DESCRIBE {table}")).await?;
        }
        ("info", "") => return Err(format!("{given} needs the path or URL of a store").into()),
        ("info", store) => info::print(unquoted(store), false, runner.resources()).await?,
        ("h", "") => {
            runner
                .run_statement(
                    "SELECT function_type, string_agg(DISTINCT routine_name, ' ') AS functions \
                     FROM information_schema.routines GROUP BY function_type ORDER BY function_type",
                )
                .await?;
        }
        ("h", function) => {
            let function = function.replace('\'', "''");
            runner
                .run_statement(&format!(
                    "SELECT DISTINCT routine_name, data_type, description, syntax_example \
                     FROM information_schema.routines WHERE routine_name = '{function}'"
                ))
                .await?;
        }
        ("i", "") => return Err(format!("{given} needs the name of a file").into()),
        ("i", file) => {
            let file = unquoted(file);
            let script =
                std::fs::read_to_string(file).map_err(|e| format!("the script {file}: {e}"))?;
            runner.run_script(&script).await?;
        }
        ("pset", argument) => match argument.split_once(char::is_whitespace) {
            Some(("format", format)) => set_format(runner, format.trim())?,
            Some(("maxrows", rows)) => set_maxrows(runner, rows.trim())?,
            _ if argument.is_empty() || argument == "format" || argument == "maxrows" => {
                show_settings(runner)?;
            }
            _ => return Err("\\pset takes 'format FORMAT' or 'maxrows N'".into()),
        },
        ("format" | "maxrows", "") => show_settings(runner)?,
        ("format", format) => set_format(runner, format)?,
        ("maxrows", rows) => set_maxrows(runner, rows)?,
        ("quiet", "") => {
            say!("quiet is {}", runner.output.quiet);
        }
        ("quiet", "true" | "on") => {
            (runner.output.quiet, runner.output.progress) = (true, false);
        }
        ("quiet", "false" | "off") => {
            (runner.output.quiet, runner.output.progress) = (false, true);
        }
        _ => {
            return Err(format!("{given} doesn't take '{argument}'; \\? lists the commands").into());
        }
    }
    Ok(Next::Continue)
}

/// Splits a line into name and argument, without a semicolon.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim().trim_end_matches(';').trim();
    match line.split_once(char::is_whitespace) {
        Some((name, argument)) => (name, argument.trim()),
        None => (line, ""),
    }
}

/// Finds the command of a name, which includes its backslash or dot.
fn known(name: &str) -> Option<&'static str> {
    let own = COMMANDS.iter().find_map(|(command, _)| {
        let command = command.split(' ').next()?;
        (command == name).then(|| command.trim_start_matches('\\'))
    });
    own.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, command)| *command))
}

fn unknown(name: &str) -> String {
    if let Some((_, hint)) = ELSEWHERE.iter().find(|(command, _)| *command == name) {
        return format!("there is no command {name}: {hint}");
    }
    let all = COMMANDS.iter().filter_map(|(command, _)| command.split(' ').next());
    let all: Vec<&str> = all.chain(ALIASES.iter().map(|(alias, _)| *alias)).collect();
    match similar::closest(name, all) {
        Some(close) => format!("unknown command {name}; did you mean {close}? \\? lists them"),
        None => format!("unknown command {name}; \\? lists them"),
    }
}

fn set_format(runner: &mut Shell, format: &str) -> Result<(), Error> {
    // Names in DuckDB and SQLite.
    let own = match format {
        "box" | "duckbox" | "column" | "markdown" | "ascii" | "aligned" => "table",
        "tabs" => "tsv",
        "jsonlines" | "ndjson" | "jsonl" => "nd-json",
        format => format,
    };
    runner.output.format = OutputFormat::from_str(own, true).map_err(|_| {
        format!("there is no format '{format}': use table, csv, tsv, json, nd-json or automatic")
    })?;
    Ok(())
}

fn set_maxrows(runner: &mut Shell, rows: &str) -> Result<(), Error> {
    runner.output.maxrows =
        rows.parse().map_err(|_| format!("maxrows is a number or 'unlimited', not '{rows}'"))?;
    Ok(())
}

fn show_settings(runner: &Shell) -> Result<(), Error> {
    let format = runner.output.format.to_possible_value();
    say!("format is {}", format.as_ref().map_or("", |format| format.get_name()));
    match runner.output.maxrows {
        MaxRows::Limited(rows) => say!("maxrows is {rows}"),
        MaxRows::Unlimited => say!("maxrows is unlimited"),
    }
    Ok(())
}

/// Removes quotes around a path.
fn unquoted(path: &str) -> &str {
    ['\'', '"']
        .iter()
        .find_map(|quote| path.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(known("\\d"), Some("d"));
        assert_eq!(known("\\pset"), Some("pset"));
        assert_eq!(known(".tables"), Some("d"));
        assert_eq!(known(".d"), None);
        assert_eq!(known("d"), None);
        assert_eq!(split(".mode  csv ;"), (".mode", "csv"));
        assert_eq!(unquoted("'a b'"), "a b");
        assert_eq!(unquoted("'a"), "'a");
        for (_, command) in ALIASES {
            let own = known(&format!("\\{command}"));
            assert!(own.is_some() || command == "format", "{command}");
        }
    }

    #[test]
    fn unknown_commands() {
        assert!(unknown(".tabels").contains("did you mean .tables?"));
        assert!(unknown(".timer").contains("\\quiet"));
        assert_eq!(unknown("\\nonsense"), "unknown command \\nonsense; \\? lists them");
    }
}
