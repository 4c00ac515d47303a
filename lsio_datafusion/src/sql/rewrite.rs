//! Rewriting of all queries in a parsed statement.

use datafusion::{
    execution::SessionState,
    logical_expr::registry::FunctionRegistry as _,
    sql::{
        parser::{CopyToSource, Statement},
        sqlparser::ast::{
            Expr, Ident, ObjectName, OrderBy, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr,
            Value,
        },
    },
};

use super::{
    joins::respell_joins,
    names::distinguish,
    using::{name_subqueries, qualify},
};
use crate::walk::{SyntaxRewriter, rewrite_syntax};

/// DuckDB's names of functions, with DataFusion's.
const ALIASES: [(&str, &str); 19] = [
    ("variance", "var_samp"),
    ("approx_count_distinct", "approx_distinct"),
    ("approx_quantile", "approx_percentile_cont"),
    ("any_value", "first_value"),
    ("arbitrary", "first_value"),
    ("first", "first_value"),
    ("last", "last_value"),
    ("group_concat", "string_agg"),
    ("listagg", "string_agg"),
    ("list", "array_agg"),
    ("ceiling", "ceil"),
    ("sign", "signum"),
    ("strlen", "octet_length"),
    ("iff", "if"),
    ("stdev", "stddev"),
    ("len", "character_length"),
    ("ucase", "upper"),
    ("lcase", "lower"),
    ("regexp_matches", "regexp_like"),
];

/// Rewrites all queries of a statement.
pub(super) fn rewrite(statement: &mut Statement, state: &SessionState) {
    let mut rewriter = Rewriter { state };
    match statement {
        Statement::Statement(statement) => rewrite_syntax(statement, &mut rewriter),
        Statement::Explain(explain) => rewrite(&mut explain.statement, state),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => rewrite_syntax(query, &mut rewriter),
            CopyToSource::Relation(_) => {}
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

struct Rewriter<'a> {
    state: &'a SessionState,
}

impl SyntaxRewriter for Rewriter<'_> {
    fn enter_query(&mut self, query: &mut Query) {
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.from.iter_mut().for_each(respell_joins);
            name_subqueries(select);
        }
        qualify(query);
        distinguish(query);
        order_by_positions(query);
    }

    fn enter_expr(&mut self, expr: &mut Expr) {
        if let Expr::Function(function) = expr
            && let [part] = function.name.0.as_slice()
            && let Some(name) = part.as_ident()
        {
            let lower = name.value.to_ascii_lowercase();
            let known = self.state.udf(&lower).is_ok() || self.state.udaf(&lower).is_ok();
            if let Some((_, other)) = ALIASES.iter().find(|(alias, _)| *alias == lower)
                && !known
            {
                function.name = ObjectName::from(vec![Ident::new(*other)]);
            }
        }
    }
}

/// Replaces `ORDER BY ALL` by the numbers of the columns. DataFusion 55.2 accepts it only for plain columns.
fn order_by_positions(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let has_wildcard = (select.projection.iter())
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let Some(OrderBy { kind, .. }) = &mut query.order_by else { return };
    let OrderByKind::All(options) = kind else { return };
    if has_wildcard {
        return;
    }
    let options = *options;
    let positions = (1..=select.projection.len()).map(|position| OrderByExpr {
        expr: Expr::Value(Value::Number(position.to_string(), false).into()),
        options,
        with_fill: None,
    });
    *kind = OrderByKind::Expressions(positions.collect());
}
