//! Options for opening a dataset. Options that xarray has keep xarray's names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, StoreOptions};

/// The decoding of times (`decode_times`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecodeTimes {
    /// Timestamps if the calendar allows, otherwise ISO text.
    #[default]
    Yes,
    /// No decoding: the stored numbers.
    No,
    /// ISO text for all calendars.
    Text,
}

/// Options for opening a dataset.
///
/// ```
/// use lsio_core::OpenOptions;
///
/// let mut options = OpenOptions::default();
/// options.set("dims", "time,latitude")?;
/// options.set("mask_and_scale", "false")?;
/// assert_eq!(options.dims, Some(vec!["time".to_owned(), "latitude".to_owned()]));
/// assert!(options.set("dimms", "time").is_err());
/// # Ok::<(), lsio_core::Error>(())
/// ```
///
/// The wire form holds no secrets: see [`StoreOptions`](crate::StoreOptions).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenOptions {
    /// Decode by the CF conventions. `false` switches off `mask_and_scale` and all other `decode_…` options.
    pub decode_cf: bool,
    /// Turn `_FillValue` and `missing_value` into NULL, and apply `scale_factor` and `add_offset`.
    pub mask_and_scale: bool,
    /// Decode times: numbers with units such as `days since 2000-01-01`.
    pub decode_times: DecodeTimes,
    /// Decode variables with a unit of time, such as `days`, to durations. `None`: only variables with an attribute
    /// `dtype` of `timedelta64[…]`.
    pub decode_timedelta: Option<bool>,
    /// Treat variables that a `coordinates` attribute names as coordinates.
    pub decode_coords: bool,
    /// Turn cells that equal Zarr's own fill value into NULL. `None`: only for Zarr v2 arrays with named dimensions, as
    /// xarray does.
    pub use_zarr_fill_value_as_mask: Option<bool>,
    /// The names of variables to leave out.
    pub drop_variables: Vec<String>,
    /// Use consolidated metadata: always, never, or (`None`) if they exist.
    pub consolidated: Option<bool>,
    /// The dimensions of the table, slowest first. `None`: the dimensions of the only grid.
    pub dims: Option<Vec<String>>,
    /// The names of the data variables to keep. `None`: all.
    pub variables: Option<Vec<String>>,
    /// Turn NaN in stored floating-point variables into NULL.
    pub nan_as_null: bool,
    /// The path of a group inside the store. `None`: the root.
    pub group: Option<String>,
    /// Limits on the memory that a store's metadata and chunks may take.
    pub limits: Limits,
    /// Timeouts for stores on the network.
    pub network: Network,
    /// Options of the object store: `aws.…`, `gcp.…`, `azure.…`, `http.…`.
    pub store: StoreOptions,
}

/// Timeouts for stores on the network. Values in text have a unit (`500ms`, `30s`, `2m`), or else are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    /// The time without a received byte after which a request is cancelled and retried (`request_timeout`).
    pub request_timeout: Duration,
    /// The time after which the read of one object fails, retries included (`deadline`).
    pub deadline: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(30), deadline: Duration::from_secs(5 * 60) }
    }
}

/// Limits on memory, for stores that may be hostile. Exceeding a limit is an error that names the option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The largest metadata document in bytes (`max_metadata_bytes`). The parsed values may take six times as many
    /// bytes.
    pub metadata_bytes: u64,
    /// The largest decoded chunk in bytes (`max_chunk_bytes`), capped at 2 GiB.
    pub chunk_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { metadata_bytes: 16 << 20, chunk_bytes: 2 << 30 }
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            decode_cf: true,
            mask_and_scale: true,
            decode_times: DecodeTimes::Yes,
            decode_timedelta: None,
            decode_coords: true,
            use_zarr_fill_value_as_mask: None,
            drop_variables: Vec::new(),
            consolidated: None,
            dims: None,
            variables: None,
            nan_as_null: true,
            group: None,
            limits: Limits::default(),
            network: Network::default(),
            store: StoreOptions::default(),
        }
    }
}

impl OpenOptions {
    /// The keys that [`OpenOptions::set`] accepts, besides the prefixed keys of [`StoreOptions`](crate::StoreOptions).
    pub const KEYS: [&'static str; 16] = [
        "decode_cf",
        "mask_and_scale",
        "decode_times",
        "decode_timedelta",
        "decode_coords",
        "use_zarr_fill_value_as_mask",
        "drop_variables",
        "consolidated",
        "dims",
        "variables",
        "nan_as_null",
        "group",
        "max_metadata_bytes",
        "max_chunk_bytes",
        "request_timeout",
        "deadline",
    ];

    /// Sets one option from text. Commas separate the elements of lists.
    ///
    /// # Errors
    /// [`Error::UnknownOption`] for an unknown key, [`Error::InvalidOption`] for an invalid value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "decode_cf" => self.decode_cf = boolean("decode_cf", value)?,
            "mask_and_scale" => self.mask_and_scale = boolean("mask_and_scale", value)?,
            "decode_times" => {
                self.decode_times = if value.eq_ignore_ascii_case("text") {
                    DecodeTimes::Text
                } else {
                    match boolean("decode_times", value) {
                        Ok(true) => DecodeTimes::Yes,
                        Ok(false) => DecodeTimes::No,
                        Err(_) => {
                            return Err(invalid("decode_times", value, "true, false or text"));
                        }
                    }
                }
            }
            "decode_timedelta" => self.decode_timedelta = Some(boolean("decode_timedelta", value)?),
            "decode_coords" => self.decode_coords = boolean("decode_coords", value)?,
            "use_zarr_fill_value_as_mask" => {
                self.use_zarr_fill_value_as_mask =
                    Some(boolean("use_zarr_fill_value_as_mask", value)?);
            }
            "drop_variables" => self.drop_variables = list(value),
            "consolidated" => self.consolidated = Some(boolean("consolidated", value)?),
            "dims" => {
                // `dims=` selects the grid without dimensions, of scalars.
                self.dims = Some(list(value));
            }
            "variables" => self.variables = Some(list(value)),
            "nan_as_null" => self.nan_as_null = boolean("nan_as_null", value)?,
            "group" => self.group = Some(value.trim_matches('/').to_owned()),
            "max_metadata_bytes" => {
                self.limits.metadata_bytes = bytes("max_metadata_bytes", value)?;
            }
            "max_chunk_bytes" => self.limits.chunk_bytes = bytes("max_chunk_bytes", value)?,
            "request_timeout" => {
                self.network.request_timeout = duration("request_timeout", value)?;
            }
            "deadline" => self.network.deadline = duration("deadline", value)?,
            _ if StoreOptions::has_prefix(key) => self.store.set(key, value)?,
            _ => {
                return Err(Error::UnknownOption {
                    key: key.to_owned(),
                    known: Self::KEYS.to_vec(),
                });
            }
        }
        Ok(())
    }

    /// Whether masks, scales and offsets apply.
    pub(crate) fn masks_and_scales(&self) -> bool {
        self.decode_cf && self.mask_and_scale
    }

    /// The decoding of times, which is off without `decode_cf`.
    pub(crate) fn times(&self) -> DecodeTimes {
        if self.decode_cf { self.decode_times } else { DecodeTimes::No }
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> Error {
    Error::InvalidOption { key, value: value.to_owned(), expected }
}

fn boolean(key: &'static str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(invalid(key, value, "true or false")),
    }
}

fn bytes(key: &'static str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| invalid(key, value, "a number of bytes"))
}

fn duration(key: &'static str, value: &str) -> Result<Duration> {
    let (number, unit) =
        value.split_at(value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len()));
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| invalid(key, value, "a time such as 500ms, 30s or 2m"))
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let mut options = OpenOptions::default();
        for (text, milliseconds) in
            [("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("1.5", 1_500), ("1 h", 3_600_000)]
        {
            options.set("request_timeout", text).unwrap();
            assert_eq!(options.network.request_timeout, Duration::from_millis(milliseconds));
        }
        for text in ["", "0", "-1s", "s", "1d", "NaN", "1e30"] {
            let error = options.set("deadline", text).unwrap_err().to_string();
            assert!(error.contains("deadline") && error.contains("30s"), "{error}");
        }
        assert_eq!(options.network.deadline, Network::default().deadline);
    }

    #[test]
    fn options_of_stores_keep_their_secrets() {
        let mut options = OpenOptions::default();
        options.set("aws.secret_access_key", "hidden").unwrap();
        options.set("azure.sas_token", "sig=hidden").unwrap();
        assert!(!format!("{options:?}").contains("hidden"), "{options:?}");
        assert!(options.set("gcp.nothing", "").is_err());
        options.set("aws.region", "eu-west-1").unwrap();
        options.set("http.proxy_url", "http://me:hidden@proxy").unwrap();
        let wire = serde_json::to_string(&options).unwrap();
        assert!(wire.contains("eu-west-1") && !wire.contains("hidden"), "{wire}");
    }
}
