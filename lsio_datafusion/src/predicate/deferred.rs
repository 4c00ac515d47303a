//! Predicates known only at run time: those that joins and sorts tighten while they see rows, and those that
//! wait for a subquery.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::tree_node::TreeNode as _,
    physical_expr::{
        PhysicalExpr,
        expressions::{DynamicFilterTracking, Literal},
        scalar_subquery::ScalarSubqueryExpr,
        split_conjunction,
    },
    physical_expr_common::physical_expr::snapshot_physical_expr,
    scalar::ScalarValue,
};
use lsio_core::Table;

use super::Predicate;

/// Whether a predicate is known only at run time.
pub(crate) fn is_deferred(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let waits = expr.exists(|expr| Ok(expr.downcast_ref::<ScalarSubqueryExpr>().is_some()));
    DynamicFilterTracking::classify(expr).contains_dynamic_filter() || waits.unwrap_or(true)
}

/// Current state of deferred predicates. They only drop rows that operators above drop too, so that what
/// can't be evaluated may be left out.
#[derive(Debug)]
pub(crate) struct Deferred {
    table: Arc<Table>,
    table_schema: SchemaRef,
    exprs: Vec<(Arc<dyn PhysicalExpr>, DynamicFilterTracking)>,
    current: Vec<Predicate>,
    changes: usize,
}

impl Deferred {
    /// Watches predicates over the table's columns.
    pub(crate) fn new(
        exprs: &[Arc<dyn PhysicalExpr>],
        table: Arc<Table>,
        table_schema: SchemaRef,
    ) -> Self {
        let exprs = exprs
            .iter()
            .map(|expr| (Arc::clone(expr), DynamicFilterTracking::classify(expr)))
            .collect();
        let mut deferred = Self { table, table_schema, exprs, current: Vec::new(), changes: 0 };
        deferred.read();
        deferred
    }

    /// Current conjuncts.
    pub(crate) fn current(&self) -> &[Predicate] {
        &self.current
    }

    /// Updates the conjuncts. Returns a number that changes whenever they do.
    pub(crate) fn refresh(&mut self) -> usize {
        let mut changed = false;
        for (_, tracking) in &mut self.exprs {
            changed |= tracking.watcher().is_some_and(|watcher| watcher.changed());
        }
        if changed {
            self.read();
            self.changes += 1;
        }
        self.changes
    }

    fn read(&mut self) {
        self.current.clear();
        for (expr, _) in &self.exprs {
            let Ok(snapshot) = snapshot_physical_expr(Arc::clone(expr)) else { continue };
            for conjunct in split_conjunction(&snapshot) {
                if is_true(conjunct) {
                    continue;
                }
                let predicate =
                    Predicate::new(Arc::clone(conjunct), &self.table, &self.table_schema);
                self.current.extend(predicate);
            }
        }
    }
}

fn is_true(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let literal = expr.downcast_ref::<Literal>();
    literal.is_some_and(|literal| *literal.value() == ScalarValue::Boolean(Some(true)))
}
