//! Functions that `with_zarr` adds to a session: those that DataFusion lacks, or that differ there.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub(crate) mod aggregate;
mod coalesce;
mod conditional;
mod doubles;
mod duration_text;
pub(crate) mod durations;
mod integers;
mod lon_between;
mod negative;
pub(crate) mod padding;
pub(crate) mod time;
mod width_bucket;

pub use self::aggregate::expr_fn::weighted_avg;
pub(crate) use self::{duration_text::duration_text, integers::Divide, width_bucket::bucket_types};

/// Adds the scalar functions except those of times. A user's function of the same name stays; DataFusion's
/// own doesn't.
pub(crate) fn register(functions: &mut Vec<Arc<ScalarUDF>>) {
    for own in scalar() {
        let name = own.name().to_owned();
        let has_name =
            |other: &&Arc<ScalarUDF>| other.name() == name || other.aliases().contains(&name);
        if functions.iter().filter(has_name).all(is_of_datafusion) {
            functions.push(own);
        }
    }
}

fn is_of_datafusion(function: &Arc<ScalarUDF>) -> bool {
    datafusion::functions::all_default_functions().contains(function)
}

fn scalar() -> Vec<Arc<ScalarUDF>> {
    let of_doubles = doubles::ALL.map(doubles::DoubleUdf::new);
    let of_doubles = of_doubles.map(|function| Arc::new(ScalarUDF::new_from_impl(function)));
    let mut functions: Vec<Arc<ScalarUDF>> = vec![
        Arc::new(ScalarUDF::new_from_impl(Divide::default())),
        Arc::new(ScalarUDF::new_from_impl(integers::Remainder::default())),
        Arc::new(ScalarUDF::new_from_impl(integers::Xor::default())),
        Arc::new(ScalarUDF::new_from_impl(lon_between::LonBetween::default())),
        Arc::new(ScalarUDF::new_from_impl(width_bucket::WidthBucket::default())),
        Arc::new(ScalarUDF::new_from_impl(conditional::If::default())),
        Arc::new(ScalarUDF::new_from_impl(negative::Negative::default())),
        Arc::new(ScalarUDF::new_from_impl(coalesce::Coalesce::default())),
    ];
    functions.extend(of_doubles);
    functions
}
