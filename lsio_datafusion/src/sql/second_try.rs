//! Rewording of statements that DataFusion refuses.

use std::ops::ControlFlow;

use datafusion::{
    common::SchemaError,
    error::DataFusionError,
    sql::{
        parser::{CopyToSource, Statement},
        sqlparser::ast::{
            Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
            Ident, ObjectName, Query, SelectItem, SetExpr, UnaryOperator, VisitMut, VisitorMut,
        },
    },
};

use super::using::qualify_natural;

/// Error of DataFusion 55.2 for `-x` of unsigned numbers and durations.
const NO_SIGN: &str = "Unary operator '-' only supports";

/// Rewords a statement by its error. Returns whether there is another wording.
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

trait Changes: VisitorMut<Break = ()> {
    fn changed(&self) -> bool;
}

fn visit(statement: &mut Statement, visitor: &mut impl Changes) -> bool {
    let _: ControlFlow<()> = match statement {
        Statement::Statement(statement) => statement.visit(visitor),
        Statement::Explain(explain) => return visit(&mut explain.statement, visitor),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(visitor),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
    visitor.changed()
}

/// Replaces `-x` by `negative(x)`.
struct Signs {
    changed: bool,
}

impl Changes for Signs {
    fn changed(&self) -> bool {
        self.changed
    }
}

impl VisitorMut for Signs {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr
            && !matches!(inner.as_ref(), Expr::Value(_))
        {
            *expr = call("negative", inner.as_ref().clone());
            self.changed = true;
        }
        ControlFlow::Continue(())
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

/// Replaces an alias of a SELECT list by its expression, where the list itself or WHERE names it, as DuckDB
/// allows. There is no such column: it would have been found.
struct Aliases<'a> {
    name: &'a str,
    changed: bool,
}

impl Changes for Aliases<'_> {
    fn changed(&self) -> bool {
        self.changed
    }
}

impl VisitorMut for Aliases<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        let found = select.projection.iter().enumerate().find_map(|(at, item)| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == self.name => {
                Some((at, Expr::Nested(Box::new(expr.clone()))))
            }
            _ => None,
        });
        let Some((at, meant)) = found else { return ControlFlow::Continue(()) };
        let mut replacer = Replacer { name: self.name, meant: &meant, depth: 0, changed: false };
        // An alias is known only after its item.
        for item in select.projection.iter_mut().skip(at + 1) {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _: ControlFlow<()> = expr.visit(&mut replacer);
            }
        }
        let _: ControlFlow<()> = select.selection.visit(&mut replacer);
        self.changed |= replacer.changed;
        ControlFlow::Continue(())
    }
}

/// Replaces a column of NATURAL JOIN by a table's column.
struct Natural<'a> {
    name: &'a str,
    changed: bool,
}

impl Changes for Natural<'_> {
    fn changed(&self) -> bool {
        self.changed
    }
}

impl VisitorMut for Natural<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            self.changed |= qualify_natural(select, self.name);
        }
        ControlFlow::Continue(())
    }
}

struct Replacer<'a> {
    name: &'a str,
    meant: &'a Expr,
    depth: usize,
    changed: bool,
}

impl VisitorMut for Replacer<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Identifier(name) = expr
            && name.value == self.name
        {
            *expr = self.meant.clone();
            self.changed = true;
        }
        ControlFlow::Continue(())
    }
}
