//! The keys of chunks: from their indices to the names of their objects.

use std::fmt::Write as _;

/// How the chunks of an array are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Zarr v3's default has `c` in front.
    pub(crate) prefix: &'static str,
    pub(crate) separator: char,
    pub(crate) suffix: String,
    /// Whether a last index of 0 is left out of those given.
    pub(crate) last_left_out: bool,
}

impl Keys {
    /// The same for indices without a last one, which is always 0.
    pub(crate) fn without_last(self) -> Self {
        Self { last_left_out: true, ..self }
    }

    /// The key of a chunk, relative to its array.
    pub(crate) fn key(&self, chunk: &[u64]) -> String {
        let mut key = self.prefix.to_owned();
        for index in chunk.iter().chain(self.last_left_out.then_some(&0)) {
            if !key.is_empty() {
                key.push(self.separator);
            }
            // Writing to a String can't fail.
            let _ = write!(key, "{index}");
        }
        if key.is_empty() {
            key.push('0');
        }
        key + &self.suffix
    }
}
