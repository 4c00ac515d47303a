//! The choice of a compressor for new arrays, as users write it.

use std::{fmt, str::FromStr};

use super::blosc::{BloscCompressor, Shuffle};
use crate::{Error, similar::closest};

/// The compressor of a new array's chunks.
///
/// As text: a name, and behind a colon a level: `zstd`, `zstd:5`, `blosc-lz4`, `blosc-zstd:9`, `gzip:6`, `none`.
///
/// ```
/// use lsio_core::write::Compression;
///
/// let compression: Compression = "blosc-lz4:5".parse()?;
/// assert_eq!(compression.to_string(), "blosc-lz4:5");
/// assert!("blosc-lz5".parse::<Compression>().is_err());
/// # Ok::<(), lsio_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression(pub(crate) Choice);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    None,
    Zstd { level: i32 },
    Gzip { level: i32 },
    Blosc { compressor: BloscCompressor, level: i32, shuffle: Shuffle },
}

/// What can be chosen.
const NAMES: [&str; 8] = [
    "none",
    "zstd",
    "gzip",
    "blosc-zstd",
    "blosc-lz4",
    "blosc-lz4hc",
    "blosc-zlib",
    "blosc-blosclz",
];

impl Compression {
    /// No compression.
    pub const NONE: Self = Self(Choice::None);
}

impl Default for Compression {
    /// zstd of level 3 in Blosc, with the bytes of numbers apart: small, and read at the speed of zstd.
    fn default() -> Self {
        let compressor = BloscCompressor::Zstd;
        Self(Choice::Blosc { compressor, level: 3, shuffle: Shuffle::Bytes })
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Compression { text: text.to_owned(), reason };
        let (name, level) = match text.trim().split_once(':') {
            Some((name, level)) => (name.trim(), Some(level.trim())),
            None => (text.trim(), None),
        };
        let level = |usual: i32, most: i32| match level {
            None => Ok(usual),
            Some(level) => match level.parse() {
                Ok(level) if (0..=most).contains(&level) => Ok(level),
                _ => Err(invalid(format!("levels of {name} are from 0 to {most}"))),
            },
        };
        let name = name.to_ascii_lowercase();
        if let Some(compressor) = name.strip_prefix("blosc-").and_then(BloscCompressor::of) {
            let usual = if compressor == BloscCompressor::Zstd { 3 } else { 5 };
            let (level, shuffle) = (level(usual, 9)?, Shuffle::Bytes);
            return Ok(Self(Choice::Blosc { compressor, level, shuffle }));
        }
        match name.as_str() {
            "none" if text.trim().eq_ignore_ascii_case("none") => Ok(Self::NONE),
            "zstd" => Ok(Self(Choice::Zstd { level: level(3, 22)? })),
            "gzip" => Ok(Self(Choice::Gzip { level: level(6, 9)? })),
            _ => {
                let close = closest(&name, NAMES);
                let meant = close.map(|name| format!("did you mean '{name}'? "));
                let meant = meant.unwrap_or_default();
                Err(invalid(format!("{meant}the compressors are {}", NAMES.join(", "))))
            }
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Choice::None => f.write_str("none"),
            Choice::Zstd { level } => write!(f, "zstd:{level}"),
            Choice::Gzip { level } => write!(f, "gzip:{level}"),
            Choice::Blosc { compressor, level, .. } => {
                write!(f, "blosc-{}:{level}", compressor.text())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        for text in ["none", "zstd:0", "gzip:9", "blosc-zstd:3", "blosc-lz4hc:1", "blosc-snappy:5"]
        {
            let compression: Compression = text.parse().unwrap();
            assert_eq!(compression.to_string(), text);
        }
        assert_eq!(" Zstd ".parse::<Compression>().unwrap().to_string(), "zstd:3");
        for wrong in ["", "zstd:23", "zstd:x", "none:1x:2", "blosc", "lz4", "blosc-:3"] {
            let error = wrong.parse::<Compression>().unwrap_err().to_string();
            assert!(
                error.contains("from 0 to") || error.contains("the compressors are"),
                "{error}"
            );
        }
    }
}
