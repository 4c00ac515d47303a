//! stub
pub mod dataset;
mod error;
pub mod grid;
mod location;
mod options;
pub mod read;
pub mod synthetic;
pub mod write;

pub use dataset::{Column, Dataset, Dimension, Role, Table, Variable};
pub use error::{Error, Result};
pub use location::{Location, scheme};
pub use object_store;
pub use options::{DecodeTimes, OpenOptions};
