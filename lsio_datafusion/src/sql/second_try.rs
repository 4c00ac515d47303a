//! Rewording of statements that DataFusion refuses.

use datafusion::{
    common::SchemaError,
    error::DataFusionError,
    sql::{
        parser::{CopyToSource, Statement},
        sqlparser::ast::{Expr, Query, SelectItem, SetExpr, UnaryOperator},
    },
};

use super::{
    exprs::{call, replace_columns},
    using::qualify_natural,
};
use crate::walk::{SyntaxRewriter, rewrite_syntax};

/// Error of DataFusion 55.2 for `-x` of unsigned numbers and durations.
const NO_SIGN: &str = "Unary operator '-' only supports";

/// Rewords a statement by its error. Returns whether there is another wording.
pub(super) fn reworded(statement: &mut Statement, error: &DataFusionError) -> bool {
    let root = error.find_root();
    match root {
        DataFusionError::Plan(text) if text.contains(NO_SIGN) => {
            let mut signs = Signs { changed: false };
            visit(statement, &mut signs);
            signs.changed
        }
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } if field.relation.is_none() => {
                rewrite_queries(statement, |query| expand_alias(query, field.name()))
            }
            SchemaError::AmbiguousReference { field } if field.relation.is_none() => {
                rewrite_queries(statement, |query| match query.body.as_mut() {
                    SetExpr::Select(select) => qualify_natural(select, field.name()),
                    _ => false,
                })
            }
            _ => false,
        },
        _ => false,
    }
}

fn visit(statement: &mut Statement, visitor: &mut dyn SyntaxRewriter) {
    match statement {
        Statement::Statement(statement) => rewrite_syntax(statement, visitor),
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => rewrite_syntax(query, visitor),
            CopyToSource::Relation(_) => {}
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

/// Replaces `-x` by `negative(x)`.
struct Signs {
    changed: bool,
}

impl SyntaxRewriter for Signs {
    fn leave_expr(&mut self, expr: &mut Expr) {
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr
            && !matches!(inner.as_ref(), Expr::Value(_))
        {
            *expr = call("negative", vec![inner.as_ref().clone()]);
            self.changed = true;
        }
    }
}

/// Rewrites every query of a statement, outer ones first. Returns whether `rewrite` changed one.
fn rewrite_queries(statement: &mut Statement, rewrite: impl FnMut(&mut Query) -> bool) -> bool {
    let mut queries = Queries { rewrite, changed: false };
    visit(statement, &mut queries);
    queries.changed
}

struct Queries<F> {
    rewrite: F,
    changed: bool,
}

impl<F: FnMut(&mut Query) -> bool> SyntaxRewriter for Queries<F> {
    fn enter_query(&mut self, query: &mut Query) {
        self.changed |= (self.rewrite)(query);
    }
}

/// Replaces an alias of a SELECT list by its expression, where the list itself or WHERE names it, as DuckDB
/// allows. There is no such column: it would have been found.
fn expand_alias(query: &mut Query, name: &str) -> bool {
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    let found = select.projection.iter().enumerate().find_map(|(at, item)| match item {
        SelectItem::ExprWithAlias { expr, alias } if alias.value == name => {
            Some((at, Expr::Nested(Box::new(expr.clone()))))
        }
        _ => None,
    });
    let Some((at, meant)) = found else { return false };
    let mut changed = false;
    // An alias is known only after its item.
    for item in select.projection.iter_mut().skip(at + 1) {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            changed |= replace_columns(expr, |own| (own.value == name).then_some(&meant));
        }
    }
    changed | replace_columns(&mut select.selection, |own| (own.value == name).then_some(&meant))
}
