//! Statements that DataFusion refuses, and that mean something in other words.

use datafusion::{
    common::SchemaError,
    error::DataFusionError,
    sql::{
        parser::{CopyToSource, Statement},
        sqlparser::ast::{
            Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
            Ident, ObjectName, Query, SelectItem, SetExpr, UnaryOperator,
        },
    },
};

use super::using::qualify_natural;
use crate::walk::{SyntaxRewriter, rewrite_syntax};

/// The error of DataFusion 55.2 for `-x` of unsigned numbers and durations.
const NO_SIGN: &str = "Unary operator '-' only supports";

/// Changes a statement that gave an error to one that says the same otherwise. Says whether there is one.
pub(super) fn reworded(statement: &mut Statement, error: &DataFusionError) -> bool {
    let root = error.find_root();
    match root {
        DataFusionError::Plan(text) if text.contains(NO_SIGN) => {
            visit(statement, &mut Signs { changed: false })
        }
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } if field.relation.is_none() => {
                visit(statement, &mut Aliases { name: field.name(), changed: false })
            }
            SchemaError::AmbiguousReference { field } if field.relation.is_none() => {
                visit(statement, &mut Natural { name: field.name(), changed: false })
            }
            _ => false,
        },
        _ => false,
    }
}

trait Changes: SyntaxRewriter {
    fn changed(&self) -> bool;
}

fn visit(statement: &mut Statement, visitor: &mut impl Changes) -> bool {
    match statement {
        Statement::Statement(statement) => rewrite_syntax(statement, visitor),
        Statement::Explain(explain) => return visit(&mut explain.statement, visitor),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => rewrite_syntax(query, visitor),
            CopyToSource::Relation(_) => {}
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
    visitor.changed()
}

/// Writes `negative(x)` for `-x`.
struct Signs {
    changed: bool,
}

impl Changes for Signs {
    fn changed(&self) -> bool {
        self.changed
    }
}

impl SyntaxRewriter for Signs {
    fn leave_expr(&mut self, expr: &mut Expr) {
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr
            && !matches!(inner.as_ref(), Expr::Value(_))
        {
            *expr = call("negative", inner.as_ref().clone());
            self.changed = true;
        }
    }
}

/// A call of a function with one argument.
fn call(name: &str, argument: Expr) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Writes what an alias of a SELECT list stands for, where the list itself or WHERE names it as DuckDB allows. It is
/// no column: that would have been found.
struct Aliases<'a> {
    name: &'a str,
    changed: bool,
}

impl Changes for Aliases<'_> {
    fn changed(&self) -> bool {
        self.changed
    }
}

impl SyntaxRewriter for Aliases<'_> {
    fn enter_query(&mut self, query: &mut Query) {
        let SetExpr::Select(select) = query.body.as_mut() else { return };
        let found = select.projection.iter().enumerate().find_map(|(at, item)| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == self.name => {
                Some((at, Expr::Nested(Box::new(expr.clone()))))
            }
            _ => None,
        });
        let Some((at, meant)) = found else { return };
        let mut replacer = Replacer { name: self.name, meant: &meant, depth: 0, changed: false };
        // Only what stands behind the alias knows it.
        for item in select.projection.iter_mut().skip(at + 1) {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                rewrite_syntax(expr, &mut replacer);
            }
        }
        rewrite_syntax(&mut select.selection, &mut replacer);
        self.changed |= replacer.changed;
    }
}

/// Writes a table's column for one of NATURAL JOIN.
struct Natural<'a> {
    name: &'a str,
    changed: bool,
}

impl Changes for Natural<'_> {
    fn changed(&self) -> bool {
        self.changed
    }
}

impl SyntaxRewriter for Natural<'_> {
    fn enter_query(&mut self, query: &mut Query) {
        if let SetExpr::Select(select) = query.body.as_mut() {
            self.changed |= qualify_natural(select, self.name);
        }
    }
}

struct Replacer<'a> {
    name: &'a str,
    meant: &'a Expr,
    depth: usize,
    changed: bool,
}

impl SyntaxRewriter for Replacer<'_> {
    fn enter_query(&mut self, _query: &mut Query) {
        self.depth += 1;
    }

    fn leave_query(&mut self, _query: &mut Query) {
        self.depth -= 1;
    }

    fn leave_expr(&mut self, expr: &mut Expr) {
        if self.depth == 0
            && let Expr::Identifier(name) = expr
            && name.value == self.name
        {
            *expr = self.meant.clone();
            self.changed = true;
        }
    }
}
