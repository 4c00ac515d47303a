//! Walks of plans and expressions, and of parsed statements, each compiled once.
//!
//! DataFusion and sqlparser are generic over what a walk calls: each type of closure or visitor has a walk of its own
//! in the binary, 60 kB for a plan and 500 kB for a statement. Behind a pointer all share one.

use std::ops::ControlFlow;

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TreeNodeRecursion},
    },
    logical_expr::LogicalPlan,
    sql::sqlparser::ast::{Expr, Query, Visit, VisitMut, Visitor, VisitorMut},
};

/// The argument of `transform_up` and its relatives, as a pointer.
pub(crate) fn rewriting<'a, N>(
    f: &'a mut (dyn FnMut(N) -> Result<Transformed<N>> + 'a),
) -> &'a mut (dyn FnMut(N) -> Result<Transformed<N>> + 'a) {
    f
}

/// The argument of `apply` and its relatives of plans, as a pointer.
pub(crate) fn reading<'a>(
    f: &'a mut (dyn FnMut(&LogicalPlan) -> Result<TreeNodeRecursion> + 'a),
) -> &'a mut (dyn FnMut(&LogicalPlan) -> Result<TreeNodeRecursion> + 'a) {
    f
}

/// Changes the queries and expressions of a statement. Those within come after `enter` and before `leave`.
pub(crate) trait SyntaxRewriter {
    fn enter_query(&mut self, _query: &mut Query) {}
    fn leave_query(&mut self, _query: &mut Query) {}
    fn enter_expr(&mut self, _expr: &mut Expr) {}
    fn leave_expr(&mut self, _expr: &mut Expr) {}
}

/// Rewrites a piece of syntax and all that it contains.
pub(crate) fn rewrite_syntax(syntax: &mut impl VisitMut, rewriter: &mut dyn SyntaxRewriter) {
    let _: ControlFlow<()> = syntax.visit(&mut Rewriting(rewriter));
}

/// Calls `f` for each expression in a piece of syntax, from the outermost inwards, until it breaks.
pub(crate) fn visit_expressions(
    syntax: &impl Visit,
    f: &mut dyn FnMut(&Expr) -> ControlFlow<()>,
) -> ControlFlow<()> {
    syntax.visit(&mut Reading(f))
}

struct Rewriting<'a>(&'a mut dyn SyntaxRewriter);

impl VisitorMut for Rewriting<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.0.enter_query(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.0.leave_query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.0.enter_expr(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.0.leave_expr(expr);
        ControlFlow::Continue(())
    }
}

struct Reading<'a>(&'a mut dyn FnMut(&Expr) -> ControlFlow<()>);

impl Visitor for Reading<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        (self.0)(expr)
    }
}
