//! Expressions that call the functions, for DataFrames.

use datafusion::logical_expr::Expr;

use super::{StatisticKind, statistic};

/// Weighted mean of values. A weight counts only where its value isn't NULL.
#[must_use]
pub fn weighted_avg(value: Expr, weight: Expr) -> Expr {
    statistic(StatisticKind::WeightedAvg).call(vec![value, weight])
}
