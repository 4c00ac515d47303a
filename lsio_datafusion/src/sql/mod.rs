//! SQL of `ctx.query`: DataFusion's, with extensions of DuckDB.
//!
//! ```text
//! text
//!   │ tokens      names that begin with a digit; `FROM t` alone
//!   │ dialect     `^` is power
//! statement
//!   │ summarize   SUMMARIZE
//!   │ rewrite     columns of USING, names that differ, ORDER BY ALL, DuckDB's names of functions
//!   │ second_try  what DataFusion refuses, in other words
//!   │ operators   what `^` and `//` mean, also in DataFusion's own `ctx.sql`
//! plan
//! ```

use datafusion::{
    common::{plan_datafusion_err, plan_err},
    config::Dialect,
    error::Result,
    execution::SessionState,
    logical_expr::{DdlStatement, LogicalPlan, LogicalPlanBuilder},
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{parser::ParserError, tokenizer::TokenWithSpan},
    },
};

mod casts;
mod dialect;
mod digits;
mod exprs;
mod from_first;
mod joins;
mod names;
mod operators;
mod rewrite;
mod second_try;
mod summarize;
mod tokens;
mod using;

pub(crate) use self::{casts::NamedCasts, digits::DigitNames, operators::Operators};
use self::{dialect::LsioDialect, tokens::tokens};
use crate::{analyze::with_exact_sums, register::in_words};

/// Upper bound on rewordings of a statement: one for each alias, for example.
const TRIES: usize = 32;

/// Plans one statement as `ctx.sql` does, in the SQL of [`ZarrSession::query`](crate::ZarrSession::query).
///
/// # Errors
/// If the text isn't one statement, or names what the session doesn't know.
pub async fn plan_sql(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    plan(state, sql).await.map_err(in_words)
}

async fn plan(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    let options = &state.config().options().sql_parser;
    if options.dialect != Dialect::Generic {
        let mut statement = state.sql_to_statement(sql, &options.dialect)?;
        rewrite::rewrite(&mut statement, state);
        return with_exact_sums(state.statement_to_plan(statement).await?);
    }
    let mut tokens = tokens(&LsioDialect, sql).map_err(ParserError::from)?;
    let explained = summarize::explained(&mut tokens);
    let summarized = summarize::summarized(&tokens);
    let is_summary = summarized.is_some();
    if let Some(query) = summarized {
        tokens = query;
    }
    let mut statement = parse(tokens, options.recursion_limit.get())?;
    rewrite::rewrite(&mut statement, state);
    let plan = planned(state, statement).await?;
    if !is_summary {
        refuse_to_drop_paths(state, &plan)?;
        return with_exact_sums(plan);
    }
    let summary = with_exact_sums(summarize::summary(plan)?)?;
    match explained {
        Some(how) => LogicalPlanBuilder::from(summary).explain(how.verbose, how.analyze)?.build(),
        None => Ok(summary),
    }
}

/// Plans a statement, reworded where DataFusion refuses it.
async fn planned(state: &SessionState, mut statement: Statement) -> Result<LogicalPlan> {
    for _ in 0..TRIES {
        let error = match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        if !second_try::reworded(&mut statement, &error) {
            return Err(error);
        }
    }
    state.statement_to_plan(statement).await
}

/// Refuses `DROP TABLE 'store.zarr'`: DataFusion 55.2 drops an unknown table without an error.
fn refuse_to_drop_paths(state: &SessionState, plan: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Ddl(DdlStatement::DropTable(drop)) = plan else { return Ok(()) };
    let catalog = &state.config_options().catalog;
    let name = drop.name.clone().resolve(&catalog.default_catalog, &catalog.default_schema);
    let is_registered = state
        .catalog_list()
        .catalog(&name.catalog)
        .and_then(|catalog| catalog.schema(&name.schema))
        .is_some_and(|schema| schema.table_names().iter().any(|known| **known == *name.table));
    let is_path = name.table.contains(['/', '.']);
    if is_registered || !is_path || drop.if_exists {
        return Ok(());
    }
    plan_err!(
        "'{}' is no table that was created here: DROP TABLE takes the name of one, and removes no files",
        name.table
    )
}

/// Parses one statement with our dialect.
fn parse(tokens: Vec<TokenWithSpan>, recursion_limit: usize) -> Result<Statement> {
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&LsioDialect)
        .with_recursion_limit(recursion_limit)
        .build()?
        .parse_statements()?;
    let statement = statements.pop_front();
    let statement = statement.ok_or_else(|| plan_datafusion_err!("there is no statement"))?;
    if !statements.is_empty() {
        return Err(plan_datafusion_err!(
            "there are {} statements: run them one by one",
            statements.len() + 1
        ));
    }
    Ok(statement)
}
