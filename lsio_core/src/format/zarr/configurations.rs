//! Configurations of filters, compressors and checksums in Zarr's metadata: those of numcodecs.

use serde_json::{Map, Value};

use crate::dataset::{
    blosc::{BloscCompressor, BloscSettings, Shuffle},
    checksum::{Checked, Checksum, Place},
    compression::{Compressor, CompressorSettings},
    filters::{Categorize, Filter},
    number_format::{NumberFormat, NumberKind},
};

impl Filter {
    /// Filter of this id in Zarr's metadata; `None` if the id isn't a filter's. In Zarr v2 the keys of the
    /// configuration are beside the id.
    ///
    /// In Zarr v3 a filter without prefix may be another one: `packbits` there has the lowest bit first. zarr-python
    /// takes missing keys from the array's type: `dtype`, `decode_dtype` and `elementsize`.
    ///
    /// # Errors
    /// A text, if the configuration is wrong or isn't supported.
    pub(crate) fn of(id: &str, configuration: &Map<String, Value>) -> Option<Result<Self, String>> {
        let id = id.strip_prefix("numcodecs.").unwrap_or(id);
        let filter = match id {
            "delta" => Self::delta(configuration),
            "fixedscaleoffset" => Self::fixed_scale_offset(configuration),
            "quantize" => Self::quantize(configuration),
            "astype" => Self::as_type(configuration),
            "bitround" => Ok(Self::BitRound),
            "packbits" => Self::pack_bits(configuration),
            "shuffle" => Self::shuffle(configuration),
            _ => return None,
        };
        Some(filter.map_err(|reason| format!("the filter '{id}' {reason}")))
    }

    fn delta(configuration: &Map<String, Value>) -> Result<Self, String> {
        let (dtype, astype) = formats(configuration)?;
        if dtype.kind == NumberKind::Bool {
            return Err("isn't supported for bools: it loses what they were".to_owned());
        }
        Ok(Self::Delta { dtype, astype })
    }

    fn fixed_scale_offset(configuration: &Map<String, Value>) -> Result<Self, String> {
        let number = |key| {
            let value = configuration.get(key);
            value.and_then(Value::as_f64).ok_or_else(|| format!("needs a number as '{key}'"))
        };
        let (dtype, astype) = formats(configuration)?;
        Ok(Self::FixedScaleOffset {
            offset: number("offset")?,
            scale: number("scale")?,
            dtype,
            astype,
        })
    }

    fn quantize(configuration: &Map<String, Value>) -> Result<Self, String> {
        let (dtype, astype) = formats(configuration)?;
        if dtype.kind != NumberKind::Float || astype.kind != NumberKind::Float {
            return Err("is for floating-point numbers only".to_owned());
        }
        Ok(Self::Quantize { dtype, astype })
    }

    fn as_type(configuration: &Map<String, Value>) -> Result<Self, String> {
        let encode_dtype = required(configuration, "encode_dtype")?;
        let decode_dtype = required(configuration, "decode_dtype")?;
        Ok(Self::AsType { encode_dtype, decode_dtype })
    }

    fn pack_bits(configuration: &Map<String, Value>) -> Result<Self, String> {
        let others = ["padding_encoding", "first_bit", "last_bit"];
        match others.iter().find(|key| configuration.contains_key(**key)) {
            Some(key) => Err(format!("with the key '{key}' isn't that of numcodecs")),
            None => Ok(Self::PackBits),
        }
    }

    fn shuffle(configuration: &Map<String, Value>) -> Result<Self, String> {
        let elementsize = match configuration.get("elementsize") {
            None => 4,
            Some(size) => size
                .as_u64()
                .and_then(|size| usize::try_from(size).ok())
                .ok_or_else(|| format!("has elements of {size} bytes"))?,
        };
        Ok(Self::Shuffle { elementsize: elementsize.max(1) })
    }
}

impl Categorize {
    /// Filter of this id; `None` if the id isn't `categorize`.
    ///
    /// # Errors
    /// A text, if the configuration is wrong.
    pub(crate) fn of(id: &str, configuration: &Map<String, Value>) -> Option<Result<Self, String>> {
        if id.strip_prefix("numcodecs.").unwrap_or(id) != "categorize" {
            return None;
        }
        let filter = Self::new(configuration);
        Some(filter.map_err(|reason| format!("the filter 'categorize' {reason}")))
    }

    fn new(configuration: &Map<String, Value>) -> Result<Self, String> {
        let most = most_characters(configuration.get("dtype"))?;
        let text = |label: &Value| Some(label.as_str()?.chars().take(most).collect());
        let labels = configuration.get("labels").and_then(Value::as_array);
        let labels = labels.and_then(|labels| labels.iter().map(text).collect());
        let labels = labels.ok_or("lacks a list of texts as 'labels'")?;
        let one_byte = NumberFormat::parse("u1");
        let astype = format(configuration, "astype")?.or(one_byte);
        Ok(Self { labels, astype: astype.ok_or("has no type")? })
    }
}

impl Compressor {
    /// How the compressor works by this configuration. Settings that it doesn't know are usual: decompression needs none.
    ///
    /// # Errors
    /// A text, if what is compressed by it can't be decompressed here.
    pub(crate) fn settings(
        self,
        configuration: &Map<String, Value>,
    ) -> Result<CompressorSettings, String> {
        /// Python's `lzma.FORMAT_RAW`.
        const RAW: u64 = 3;
        if self == Self::Lzma && configuration.get("format").and_then(Value::as_u64) == Some(RAW) {
            return Err("LZMA without a header (format 3, raw) isn't supported".to_owned());
        }
        let of = |key: &str| configuration.get(key);
        let number = |key| of(key).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
        let shuffle = |shuffle: &Value| {
            Some(match (shuffle.as_str(), shuffle.as_i64()) {
                (Some("noshuffle"), _) | (_, Some(0)) => Shuffle::None,
                (Some("shuffle"), _) | (_, Some(1)) => Shuffle::Bytes,
                (Some("bitshuffle"), _) | (_, Some(2)) => Shuffle::Bits,
                _ => return None,
            })
        };
        let width = of("typesize").and_then(Value::as_u64);
        Ok(CompressorSettings {
            level: number(if self == Self::Lzma { "preset" } else { "level" }),
            checksum: of("checksum").and_then(Value::as_bool).unwrap_or(false),
            blosc: BloscSettings {
                compressor: of("cname").and_then(Value::as_str).and_then(BloscCompressor::of),
                level: number("clevel"),
                shuffle: of("shuffle").and_then(shuffle),
                width: width.and_then(|width| usize::try_from(width).ok()),
            },
        })
    }
}

impl Checked {
    /// Checksum of this name in Zarr's metadata; `None` if the name isn't a checksum's.
    ///
    /// # Errors
    /// A text, if the configuration is wrong.
    pub(crate) fn of(
        name: &str,
        configuration: Option<&Map<String, Value>>,
    ) -> Option<Result<Self, String>> {
        let name = name.strip_prefix("numcodecs.").unwrap_or(name);
        let (checksum, place) = match name {
            "crc32" => (Checksum::Crc32, Place::Start),
            "crc32c" => (Checksum::Crc32c, Place::End),
            "adler32" => (Checksum::Adler32, Place::Start),
            // These have a fixed place, whatever the configuration says.
            "fletcher32" => {
                return Some(Ok(Self { checksum: Checksum::Fletcher32, place: Place::End }));
            }
            "jenkins_lookup3" => {
                let checksum = jenkins_lookup3(configuration);
                return Some(checksum.map(|checksum| Self { checksum, place: Place::End }));
            }
            _ => return None,
        };
        let place = match configuration.and_then(|c| c.get("location")) {
            None | Some(Value::Null) => Ok(place),
            Some(Value::String(location)) if location == "start" => Ok(Place::Start),
            Some(Value::String(location)) if location == "end" => Ok(Place::End),
            Some(other) => {
                Err(format!("the location of {name} is {other} instead of \"start\" or \"end\""))
            }
        };
        Some(place.map(|place| Self { checksum, place }))
    }
}

/// Types of the decoded and of the encoded elements. The encoded type defaults to the decoded type.
fn formats(configuration: &Map<String, Value>) -> Result<(NumberFormat, NumberFormat), String> {
    let dtype = required(configuration, "dtype")?;
    Ok((dtype, format(configuration, "astype")?.unwrap_or(dtype)))
}

fn required(configuration: &Map<String, Value>, key: &str) -> Result<NumberFormat, String> {
    format(configuration, key)?.ok_or_else(|| format!("lacks the key '{key}'"))
}

fn format(configuration: &Map<String, Value>, key: &str) -> Result<Option<NumberFormat>, String> {
    let Some(value) = configuration.get(key).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let format = value.as_str().and_then(NumberFormat::parse);
    format.map(Some).ok_or_else(|| format!("has the {key} {value}, which isn't one of numbers"))
}

/// Upper bound on the characters of a label, by the dtype of the texts.
fn most_characters(dtype: Option<&Value>) -> Result<usize, String> {
    let wrong = |dtype: &Value| format!("has the dtype {dtype}, which isn't one of texts");
    let Some(dtype) = dtype.filter(|dtype| !dtype.is_null()) else { return Ok(usize::MAX) };
    let code = dtype.as_str().ok_or_else(|| wrong(dtype))?;
    match code.trim_start_matches(['<', '>', '=', '|']) {
        "O" | "object" | "str" | "U" | "U0" => Ok(usize::MAX),
        code => code.strip_prefix('U').and_then(|n| n.parse().ok()).ok_or_else(|| wrong(dtype)),
    }
}

fn jenkins_lookup3(configuration: Option<&Map<String, Value>>) -> Result<Checksum, String> {
    let value = |key| configuration.and_then(|c| c.get(key)).filter(|value| !value.is_null());
    let initval = match value("initval") {
        None => 0,
        Some(initval) => initval
            .as_u64()
            .and_then(|initval| u32::try_from(initval).ok())
            .ok_or_else(|| format!("the initval {initval} of jenkins_lookup3 isn't 32 bits"))?,
    };
    let prefix = match value("prefix") {
        None => Vec::new(),
        Some(prefix) => {
            let byte = |byte: &Value| u8::try_from(byte.as_u64()?).ok();
            let bytes = prefix.as_array().and_then(|bytes| bytes.iter().map(byte).collect());
            bytes.ok_or_else(|| {
                format!("the prefix {prefix} of jenkins_lookup3 isn't a list of bytes")
            })?
        }
    };
    Ok(Checksum::JenkinsLookup3 { initval, prefix })
}
