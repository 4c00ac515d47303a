//! The functions as expressions, for DataFrames.

use datafusion::logical_expr::Expr;

use super::{Kind, statistic};

/// The mean of values, each as heavy as its weight. A weight counts only where its value isn't NULL.
#[must_use]
pub fn weighted_avg(value: Expr, weight: Expr) -> Expr {
    statistic(Kind::WeightedAvg).call(vec![value, weight])
}
