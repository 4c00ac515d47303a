//! Equality of both zeros wherever floats are compared.
//!
//! SQL and IEEE 754 say that 0.0 = -0.0. DataFusion 55.2 follows in the operators `=`, `<`, … and in the
//! hashes of joins and groups; elsewhere it compares bits, in which the zeros differ. Two rules correct it in
//! plans that read a Zarr table:
//!
//! ```text
//! BothZeros    logical: lists after IN, CASE x WHEN, nullif, array functions, structures, keys of windows
//! FloatKeys    physical: keys of joins, and so the sets that joins hand down as filters
//! ```

mod both_zeros;
mod float_keys;
mod function;

pub use self::{both_zeros::BothZeros, float_keys::FloatKeys};
pub(crate) use self::{
    both_zeros::compares_elements, float_keys::reads_zarr, function::float_key_of,
};
