//! The SQL that a session that knows Zarr understands: DataFusion's, and what DuckDB's users write.
//!
//! ```text
//! text
//!   │ tokens      names that begin with a digit; `FROM t` alone
//!   │ dialect     `^` is power
//! statement
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
        sqlparser::parser::ParserError,
    },
};

mod casts;
mod dialect;
mod from_first;
mod names;
mod operators;
mod rewrite;
mod tokens;
mod using;

pub(crate) use self::{casts::NamedCasts, operators::Operators};
use self::{dialect::LsioDialect, tokens::tokens};

/// Plans one statement, as `ctx.sql` does, in the SQL of [`ZarrSession::query`](crate::ZarrSession::query).
///
/// # Errors
/// If the text isn't one statement, or names what the session doesn't know.
pub async fn plan_sql(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    let mut statement = parse(state, sql)?;
    rewrite::rewrite(&mut statement, state);
    state.statement_to_plan(statement).await
}

/// Parses with the session's dialect, which is ours where it is the generic one.
fn parse(state: &SessionState, sql: &str) -> Result<Statement> {
    let options = &state.config().options().sql_parser;
    if options.dialect != Dialect::Generic {
        return state.sql_to_statement(sql, &options.dialect);
    }
    let tokens = tokens(&LsioDialect, sql).map_err(ParserError::from)?;
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&LsioDialect)
        .with_recursion_limit(options.recursion_limit.get())
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
