//! DuckDB's joins that are others of DataFusion's.

use datafusion::sql::sqlparser::ast::{JoinOperator, TableWithJoins};

/// `SEMI JOIN` and `ANTI JOIN`, which DataFusion 55.2 plans with `LEFT` in front.
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
