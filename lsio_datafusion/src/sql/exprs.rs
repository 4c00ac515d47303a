//! Parts of parsed expressions: calls of functions, replacement of columns.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, VisitMut,
};

use crate::walk::{SyntaxRewriter, rewrite_syntax};

/// Calls a function.
pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Replaces unqualified columns, except in subqueries, where the name may be another table's. Returns whether
/// there was one.
pub(super) fn replace_columns<'a>(
    expressions: &mut impl VisitMut,
    replacement: impl Fn(&Ident) -> Option<&'a Expr>,
) -> bool {
    let mut replacer = ColumnReplacer { replacement, depth: 0, changed: false };
    rewrite_syntax(expressions, &mut replacer);
    replacer.changed
}

struct ColumnReplacer<F> {
    replacement: F,
    /// Number of subqueries around the expression.
    depth: usize,
    changed: bool,
}

impl<'a, F: Fn(&Ident) -> Option<&'a Expr>> SyntaxRewriter for ColumnReplacer<F> {
    fn enter_query(&mut self, _query: &mut Query) {
        self.depth += 1;
    }

    fn leave_query(&mut self, _query: &mut Query) {
        self.depth -= 1;
    }

    fn leave_expr(&mut self, expr: &mut Expr) {
        if self.depth == 0
            && let Expr::Identifier(name) = expr
            && let Some(replacement) = (self.replacement)(name)
        {
            *expr = replacement.clone();
            self.changed = true;
        }
    }
}
