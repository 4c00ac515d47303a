//! Functions that a session gets with Zarr: those that DataFusion lacks, or that give something else there.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub(crate) mod aggregate;
mod coalesce;
mod conditional;
mod duration_text;
pub(crate) mod durations;
mod integers;
mod lon_between;
mod negative;
pub(crate) mod padding;
pub(crate) mod time;

pub use self::aggregate::expr_fn::weighted_avg;
pub(crate) use self::{duration_text::duration_text, integers::Divide};

/// The scalar functions but those of times.
pub(crate) fn scalar() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(Divide::default())),
        Arc::new(ScalarUDF::new_from_impl(integers::Xor::default())),
        Arc::new(ScalarUDF::new_from_impl(lon_between::LonBetween::default())),
        Arc::new(ScalarUDF::new_from_impl(conditional::If::default())),
        Arc::new(ScalarUDF::new_from_impl(negative::Negative::default())),
        Arc::new(ScalarUDF::new_from_impl(coalesce::Coalesce::default())),
    ]
}
