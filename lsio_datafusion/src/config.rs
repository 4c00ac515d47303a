//! The session's settings under `lsio.`.

use datafusion::{
    common::{config::ConfigExtension, extensions_options},
    config::ConfigOptions,
};

extensions_options! {
    /// Settings of Light Speed IO: `SET lsio.coordinate_memory = 1000000`.
    pub struct LsioConfig {
        /// Bytes up to which a coordinate, or a variable that lacks a dimension of its table, is
        /// read as a whole and kept; larger ones are streamed.
        pub coordinate_memory: usize, default = 64 << 20
    }
}

impl ConfigExtension for LsioConfig {
    const PREFIX: &'static str = "lsio";
}

impl LsioConfig {
    /// The settings of a session, or the defaults where the session doesn't know them.
    #[must_use]
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.coordinate_memory as u64
    }
}
