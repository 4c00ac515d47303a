//! Cells and rows as texts.

mod cells;
pub mod csv;

pub use cells::formatter;
