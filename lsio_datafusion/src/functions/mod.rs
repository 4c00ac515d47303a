//! Scalar functions and operators that DataFusion lacks, or that give something else there.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

mod conditional;
mod integers;
mod lon_between;
mod power;

pub(crate) use self::{
    integers::{Divide, Xor},
    power::Power,
};

/// All of them, for a session.
pub(crate) fn scalar() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(Power::default())),
        Arc::new(ScalarUDF::new_from_impl(Divide::default())),
        Arc::new(ScalarUDF::new_from_impl(Xor::default())),
        Arc::new(ScalarUDF::new_from_impl(lon_between::LonBetween::default())),
        Arc::new(ScalarUDF::new_from_impl(conditional::If::default())),
    ]
}
