//! DuckDB's spellings of joins.

use datafusion::sql::sqlparser::ast::{JoinOperator, TableWithJoins};

/// Rewrites `SEMI JOIN` and `ANTI JOIN` as `LEFT SEMI JOIN` and `LEFT ANTI JOIN`, which DataFusion 55.2
/// plans.
pub(super) fn respell_joins(tables: &mut TableWithJoins) {
    for join in &mut tables.joins {
        match &mut join.join_operator {
            JoinOperator::Semi(constraint) => {
                join.join_operator = JoinOperator::LeftSemi(constraint.clone());
            }
            JoinOperator::Anti(constraint) => {
                join.join_operator = JoinOperator::LeftAnti(constraint.clone());
            }
            _ => {}
        }
    }
}
