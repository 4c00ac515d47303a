//! Options of writing: `COPY … TO 'x.zarr' OPTIONS (dims 'time,latitude', chunks 'time=24', …)`.

use std::collections::HashMap;

use datafusion::{
    common::{config_err, plan_err},
    error::Result,
};
use lsio_core::{
    similar::closest,
    write::{Compression, Existing, ZarrFormat},
};

use crate::error::external;

/// The names of the options, for messages.
const NAMES: [&str; 7] = ["dims", "chunks", "shards", "codec", "format", "sparse", "overwrite"];

/// How rows are written as a Zarr group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    /// The columns that are dimensions, slowest first. `None`: as the query tells.
    pub(super) dims: Option<Vec<String>>,
    pub(super) chunks: Sizes,
    pub(super) shards: Sizes,
    pub(super) codec: Option<Compression>,
    pub(super) format: Option<ZarrFormat>,
    /// Whether nearly all cells of an array may lack a row.
    pub(super) sparse: bool,
    pub(super) existing: Existing,
}

/// Sizes along dimensions, by name or in the order of the dimensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sizes {
    #[default]
    Unset,
    Named(Vec<(String, u64)>),
    InOrder(Vec<u64>),
}

impl WriteOptions {
    /// Options of a statement, whose keys are in lower case, and may begin with `zarr.`.
    ///
    /// # Errors
    /// If an option isn't known, or its value can't be.
    pub(crate) fn new(options: &HashMap<String, String>, overwrite: bool) -> Result<Self> {
        let mut own = Self::default();
        let mut replaces = overwrite;
        for (key, value) in options {
            // DataFusion puts the first in front of names without a dot.
            let name = key.strip_prefix("format.").unwrap_or(key);
            let name = name.strip_prefix("zarr.").unwrap_or(name);
            let value = value.trim();
            match name {
                "dims" => own.dims = Some(names(value)),
                "chunks" => own.chunks = Sizes::parse("chunks", value)?,
                "shards" => own.shards = Sizes::parse("shards", value)?,
                "codec" | "codecs" | "compression" => {
                    own.codec = Some(value.parse().map_err(external)?);
                }
                "format" | "zarr_format" => {
                    own.format = Some(match value {
                        "2" => ZarrFormat::V2,
                        "3" => ZarrFormat::V3,
                        _ => return config_err!("the option format is 2 or 3, not '{value}'"),
                    });
                }
                "sparse" => own.sparse = boolean("sparse", value)?,
                "overwrite" => replaces = boolean("overwrite", value)?,
                _ => {
                    let meant = closest(name, NAMES);
                    let meant = meant.map(|name| format!("; did you mean {name}?"));
                    return config_err!(
                        "there is no option {name} for writing Zarr{} (there are {})",
                        meant.unwrap_or_default(),
                        NAMES.join(", ")
                    );
                }
            }
        }
        if replaces {
            own.existing = Existing::Replace;
        }
        Ok(own)
    }
}

impl Sizes {
    fn parse(option: &str, text: &str) -> Result<Self> {
        let size = |text: &str| match text.trim().parse() {
            Ok(size @ 1..) => Ok(size),
            _ => config_err!(
                "the option {option} has sizes such as 'time=24,latitude=181' or '24,181', not '{text}'"
            ),
        };
        let parts = names(text);
        if parts.iter().any(|part| part.contains('=')) {
            let named = parts.iter().map(|part| {
                let (name, own) = part.split_once('=').unwrap_or((part, ""));
                Ok((name.trim().to_owned(), size(own)?))
            });
            return named.collect::<Result<_>>().map(Self::Named);
        }
        parts.iter().map(|part| size(part)).collect::<Result<_>>().map(Self::InOrder)
    }

    /// The size along each of these dimensions; `None` where none is given.
    ///
    /// # Errors
    /// If there are other dimensions.
    pub(super) fn along(&self, option: &str, dims: &[String]) -> Result<Vec<Option<u64>>> {
        match self {
            Self::Unset => Ok(vec![None; dims.len()]),
            Self::InOrder(sizes) if sizes.len() == dims.len() => {
                Ok(sizes.iter().copied().map(Some).collect())
            }
            Self::InOrder(sizes) => plan_err!(
                "the option {option} has {} sizes, and the dimensions are {}: give one for each, or name them ('{}=…')",
                sizes.len(),
                dims.join(", "),
                dims.first().map_or("time", String::as_str)
            ),
            Self::Named(sizes) => {
                if let Some((name, _)) = sizes.iter().find(|(name, _)| !dims.contains(name)) {
                    return plan_err!(
                        "the option {option} names '{name}', and the dimensions are {}",
                        dims.join(", ")
                    );
                }
                let of = |dim: &String| {
                    sizes.iter().rev().find_map(|(name, size)| (name == dim).then_some(*size))
                };
                Ok(dims.iter().map(of).collect())
            }
        }
    }
}

/// Names of a list with commas.
fn names(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn boolean(option: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => config_err!("the option {option} is true or false, not '{value}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> Result<WriteOptions> {
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        WriteOptions::new(&given.collect(), false)
    }

    #[test]
    fn options_are_read() {
        let own = options(&[
            ("format.dims", "time, latitude"),
            ("zarr.chunks", "time=24, latitude=181"),
            ("format.shards", "48,181"),
            ("zarr.format", "2"),
            ("format.codec", "blosc-lz4:9"),
            ("format.overwrite", "true"),
        ]);
        let own = own.unwrap();
        let dims = ["time".to_owned(), "latitude".to_owned()];
        assert_eq!(own.dims.as_deref(), Some(&dims[..]));
        assert_eq!(own.chunks.along("chunks", &dims).unwrap(), [Some(24), Some(181)]);
        assert_eq!(own.shards.along("shards", &dims).unwrap(), [Some(48), Some(181)]);
        assert_eq!((own.format, own.existing), (Some(ZarrFormat::V2), Existing::Replace));
        assert!(own.shards.along("shards", &dims[..1]).is_err());
        assert!(own.chunks.along("chunks", &dims[..1]).is_err());
    }

    #[test]
    fn wrong_options_are_errors_that_help() {
        for (key, value, part) in [
            ("format.chunk", "24", "did you mean chunks?"),
            ("zarr.chunks", "time=0", "time=24"),
            ("zarr.chunks", "x", "'x'"),
            ("format.format", "4", "2 or 3"),
            ("format.codec", "zst", "did you mean 'zstd'?"),
            ("format.sparse", "yes", "true or false"),
        ] {
            let error = options(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
