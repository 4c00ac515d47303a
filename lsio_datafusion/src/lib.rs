//! stub
mod analyze;
mod config;
mod error;
mod notes;
mod register;
mod scan;
mod schema;
mod statistics;
mod table;
pub mod prelude {
    //! x
    pub use crate::{ZarrSession, ZarrSessionBuilder};
    pub use lsio_core::OpenOptions;
}
pub use analyze::{CalendarFunctions, ComparedLiterals, WideIntegers};
pub use config::LsioConfig;
pub use lsio_core;
pub use notes::{RepeatedValueNotes, notes};
pub use register::{ZarrSession, ZarrSessionBuilder, open_dataset};
pub use scan::ZarrSource;
pub use table::ZarrTable;
