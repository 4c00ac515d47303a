//! The functions as expressions, for DataFrames.

use datafusion::logical_expr::Expr;

use super::{StatisticKind, statistic};

/// The mean of values, each as heavy as its weight. A weight counts only where its value isn't NULL.
#[must_use]
pub fn weighted_avg(value: Expr, weight: Expr) -> Expr {
    statistic(StatisticKind::WeightedAvg).call(vec![value, weight])
}
