//! The SQL that a session that knows Zarr understands: DataFusion's, and what DuckDB's users write.
//!
//! ```text
//! text
//!   │ tokens      names that begin with a digit; `FROM t` alone
//!   │ dialect     `^` is power
//! statement
//!   │ summarize   SUMMARIZE
//!   │ rewrite     columns of USING, names that differ, ORDER BY ALL, DuckDB's names of functions
//!   │ operators   what `^` and `//` mean, also in DataFusion's own `ctx.sql`
//! plan
//! ```

use datafusion::{
    common::plan_datafusion_err,
    config::Dialect,
    error::Result,
    execution::SessionState,
    logical_expr::LogicalPlan,
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{parser::ParserError, tokenizer::TokenWithSpan},
    },
};

mod casts;
mod dialect;
mod digits;
mod from_first;
mod names;
mod operators;
mod rewrite;
mod summarize;
mod tokens;
mod using;

pub(crate) use self::{casts::NamedCasts, digits::DigitNames, operators::Operators};
use self::{dialect::LsioDialect, tokens::tokens};
use crate::analyze::with_exact_sums;

/// Plans one statement, as `ctx.sql` does, in the SQL of [`ZarrSession::query`](crate::ZarrSession::query).
///
/// # Errors
/// If the text isn't one statement, or names what the session doesn't know.
pub async fn plan_sql(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    let options = &state.config().options().sql_parser;
    if options.dialect != Dialect::Generic {
        let mut statement = state.sql_to_statement(sql, &options.dialect)?;
        rewrite::rewrite(&mut statement, state);
        return with_exact_sums(state.statement_to_plan(statement).await?);
    }
    let mut tokens = tokens(&LsioDialect, sql).map_err(ParserError::from)?;
    let summarized = summarize::summarized(&tokens);
    let is_summary = summarized.is_some();
    if let Some(query) = summarized {
        tokens = query;
    }
    let mut statement = parse(tokens, options.recursion_limit.get())?;
    rewrite::rewrite(&mut statement, state);
    let plan = state.statement_to_plan(statement).await?;
    with_exact_sums(if is_summary { summarize::summary(plan)? } else { plan })
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
