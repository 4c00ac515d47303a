//! Execution of statements and commands.

use std::{sync::Arc, time::Instant};

use datafusion::{
    common::stats::Precision,
    error::DataFusionError,
    logical_expr::LogicalPlan,
    physical_plan::{
        common::spawn_buffered,
        execute_stream,
        statistics::{StatisticsArgs, StatisticsContext},
    },
    prelude::SessionContext,
};
use futures::future::BoxFuture;
use lsio_core::Resources;
use lsio_datafusion::{LsioConfig, clarify, notes, plan_sql, result_notes};

use crate::{
    Error, commands,
    output::Output,
    progress::{self, grouped},
    script::{ScriptPart, parts},
};

/// Next step after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    Quit,
}

/// A session, and its settings for output.
#[derive(Clone)]
pub(crate) struct Shell {
    ctx: SessionContext,
    pub output: Output,
}

impl Shell {
    pub(crate) fn new(ctx: SessionContext, output: Output) -> Self {
        Self { ctx, output }
    }

    /// What the session reads with.
    pub(crate) fn resources(&self) -> Resources {
        LsioConfig::of(self.ctx.state().config_options()).resources()
    }

    /// Runs a script up to its end or the first error.
    pub(crate) fn run_script<'a>(
        &'a mut self,
        script: &'a str,
    ) -> BoxFuture<'a, Result<(), Error>> {
        // Boxed, as a script may run another.
        Box::pin(async move {
            for part in parts(script) {
                match part {
                    ScriptPart::Statement { sql, .. } => self.run_statement(sql).await?,
                    ScriptPart::Command(command) => {
                        if commands::run(self, command).await? == Next::Quit {
                            return Ok(());
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// Runs one statement and writes its result.
    pub(crate) async fn run_statement(&self, sql: &str) -> Result<(), Error> {
        self.try_statement(sql).await.map_err(|error| match error.downcast::<DataFusionError>() {
            Ok(error) => clarify(*error, sql, &self.ctx.state()).into(),
            Err(error) => error,
        })
    }

    async fn try_statement(&self, sql: &str) -> Result<(), Error> {
        let start = Instant::now();
        let plan = plan_sql(&self.ctx.state(), sql).await?;
        let is_explain = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        if plan.schema().fields().is_empty() && !changes_something(&plan) {
            return Err("the SELECT has no list: name columns, or * for all of them".into());
        }
        let frame = self.ctx.execute_logical_plan(plan).await?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        if !is_explain {
            for note in notes(&plan)? {
                eprintln!("Note: {note}");
            }
        }
        let has_columns = !plan.schema().fields().is_empty();
        // Runs in its own task: neither Ctrl-C nor the writing of rows waits for its computation.
        let mut stream = spawn_buffered(execute_stream(Arc::clone(&plan), task)?, 2);
        if !has_columns {
            // CREATE, SET and the like return no rows.
            futures::TryStreamExt::try_collect::<Vec<_>>(stream).await?;
            self.status(&format!("Done. Elapsed {:.3} seconds.", start.elapsed().as_secs_f64()));
            return Ok(());
        }
        if self.output.progress && !is_explain {
            stream = progress::show(stream, &plan, self.output.shows_rows_early());
        }
        // Exact statistics have the number of rows that a table leaves out.
        let total =
            match StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?.num_rows
            {
                Precision::Exact(rows) => Some(rows),
                _ => None,
            };
        let written = self.output.write(stream, total).await?;
        if !is_explain {
            result_notes(&plan)?.iter().for_each(|note| eprintln!("Note: {note}"));
        }
        if written.cut {
            let shown = match written.total {
                Some(total) => {
                    format!("{} of {} rows are shown", grouped(written.rows), grouped(total))
                }
                None => format!("Only the first {} rows are shown", grouped(written.rows)),
            };
            eprintln!("{shown}; --maxrows shows more, --format csv all.");
        }
        self.status(&format!(
            "{} row(s){}. Elapsed {:.3} seconds.",
            written.rows,
            if written.cut { " shown" } else { "" },
            start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn status(&self, text: &str) {
        if !self.output.quiet {
            eprintln!("{text}");
        }
    }
}

/// Whether a statement is run for its effect, not for rows.
fn changes_something(plan: &LogicalPlan) -> bool {
    matches!(
        plan,
        LogicalPlan::Ddl(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_)
    )
}
