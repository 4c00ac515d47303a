//! Running statements and commands.

use std::{sync::Arc, time::Instant};

use datafusion::{
    common::exec_datafusion_err,
    physical_plan::{common::spawn_buffered, execute_stream},
    prelude::SessionContext,
    sql::parser::Statement,
};
use lsio_datafusion::{notes, result_notes};

use crate::{
    Error,
    output::{Format, Output, say},
    progress,
    script::{Part, parts},
};

/// What is to happen after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    Quit,
}

/// A session, and how it shows results.
pub(crate) struct Runner {
    ctx: SessionContext,
    output: Output,
}

/// The commands, with what they do.
const COMMANDS: [(&str, &str); 9] = [
    ("\\d", "list tables"),
    ("\\d NAME", "describe a table or a store"),
    ("\\i FILE", "run the statements of a file"),
    ("\\h", "list functions"),
    ("\\h NAME", "describe a function"),
    ("\\pset format FORMAT", "set the output format: table, csv, tsv, json, nd-json, automatic"),
    ("\\quiet true|false", "print results only, or rows, times and progress too"),
    ("\\?", "this help"),
    ("\\q", "quit"),
];

impl Runner {
    pub(crate) fn new(ctx: SessionContext, output: Output) -> Self {
        Self { ctx, output }
    }

    /// Runs a script up to its end or the first error.
    pub(crate) async fn run_script(&mut self, script: &str) -> Result<(), Error> {
        for part in parts(script) {
            match part {
                Part::Statement { sql, .. } => self.run_statement(sql).await?,
                Part::Command(command) => {
                    if self.run_command(command).await? == Next::Quit {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs one statement and writes its result.
    pub(crate) async fn run_statement(&self, sql: &str) -> Result<(), Error> {
        let start = Instant::now();
        let state = self.ctx.state();
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect)?;
        let is_explain = matches!(statement, Statement::Explain(_));
        let plan = state.statement_to_plan(statement).await?;
        let frame = self.ctx.execute_logical_plan(plan).await?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        if !is_explain {
            for note in notes(&plan)? {
                eprintln!("Note: {note}");
            }
        }
        let has_columns = !plan.schema().fields().is_empty();
        // In a task of its own: neither Ctrl-C nor the writing of rows waits for what it computes.
        let mut stream = spawn_buffered(execute_stream(Arc::clone(&plan), task)?, 2);
        if !has_columns {
            // CREATE, SET and the like: run, with nothing to show.
            futures::TryStreamExt::try_collect::<Vec<_>>(stream).await?;
            self.status(&format!(
                "0 row(s). Elapsed {:.3} seconds.",
                start.elapsed().as_secs_f64()
            ));
            return Ok(());
        }
        if self.output.progress && !is_explain {
            stream = progress::show(stream, &plan, self.output.shows_rows_early());
        }
        let written = self.output.write(stream).await?;
        if !is_explain {
            result_notes(&plan)?.iter().for_each(|note| eprintln!("Note: {note}"));
        }
        if written.cut {
            let more = "Only the first rows are shown; --maxrows shows more, --format csv all.";
            eprintln!("{more}");
        }
        self.status(&format!(
            "{} row(s){}. Elapsed {:.3} seconds.",
            written.rows,
            if written.cut { " shown" } else { "" },
            start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Runs a command, given without its backslash.
    pub(crate) async fn run_command(&mut self, command: &str) -> Result<Next, Error> {
        let command = command.trim().trim_end_matches(';').trim();
        let (name, argument) = match command.split_once(char::is_whitespace) {
            Some((name, argument)) => (name, argument.trim()),
            None => (command, ""),
        };
        match (name, argument) {
            ("q" | "quit" | "exit", "") => return Ok(Next::Quit),
            ("?", "") => {
                for (command, meaning) in COMMANDS {
                    say!("{command:<22} {meaning}");
                }
            }
            ("d", "") => self.run_statement("SHOW TABLES").await?,
            ("d", table) => {
                let quoted = table.starts_with(['\'', '"']);
                let path = table.contains(['/', '.', '?']) && !quoted;
                let table = if path { format!("'{table}'") } else { table.to_owned() };
                self.run_statement(&format!("DESCRIBE {table}")).await?;
            }
            ("h", "") => {
                self.run_statement(
                    "SELECT function_type, string_agg(DISTINCT routine_name, ' ') AS functions \
                     FROM information_schema.routines GROUP BY function_type ORDER BY function_type",
                )
                .await?;
            }
            ("h", function) => {
                let function = function.replace('\'', "''");
                self.run_statement(&format!(
                    "SELECT DISTINCT routine_name, data_type, description, syntax_example \
                     FROM information_schema.routines WHERE routine_name = '{function}'"
                ))
                .await?;
            }
            ("i", "") => return Err("\\i needs the name of a file".into()),
            ("i", file) => {
                let script =
                    std::fs::read_to_string(file).map_err(|e| format!("the script {file}: {e}"))?;
                Box::pin(self.run_script(&script)).await?;
            }
            ("pset", argument) => {
                let format = argument.strip_prefix("format").map(str::trim).unwrap_or_default();
                self.output.format =
                    <Format as clap::ValueEnum>::from_str(format, true).map_err(|_| {
                        exec_datafusion_err!(
                            "\\pset format takes table, csv, tsv, json, nd-json or automatic"
                        )
                    })?;
            }
            ("quiet", "") => {
                say!("quiet is {}", self.output.quiet);
            }
            ("quiet", "true" | "on") => {
                (self.output.quiet, self.output.progress) = (true, false);
            }
            ("quiet", "false" | "off") => {
                (self.output.quiet, self.output.progress) = (false, true);
            }
            _ => return Err(format!("unknown command \\{command}; \\? lists them").into()),
        }
        Ok(Next::Continue)
    }

    fn status(&self, text: &str) {
        if !self.output.quiet {
            eprintln!("{text}");
        }
    }
}
