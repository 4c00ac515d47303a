//! The metadata documents of new arrays and groups, version 2 and 3.

use serde_json::{Map, Value, json};

use super::{array::array_spec, attributes::attribute, documents::ArrayDocument, keys::Keys};
use crate::{
    Error, Result,
    dataset::{
        ArraySpec, Attribute, Attributes, NewArray, ZarrFormat,
        blosc::Shuffle,
        compression_choice::{Choice, Compression},
        dtype::{ElementType, NumpyTime},
    },
};

/// A document and its key, relative to the group.
#[derive(Clone, Debug)]
pub(crate) struct WrittenDocument {
    pub(crate) key: String,
    pub(crate) content: Vec<u8>,
}

/// A new array as its documents describe it.
#[derive(Debug)]
pub(crate) struct WrittenArray {
    /// What a reader understands of the documents.
    pub(crate) spec: ArraySpec,
    keys: Keys,
    name: String,
    metadata: Value,
    attributes: Value,
    format: ZarrFormat,
}

impl WrittenArray {
    /// Describes a new array.
    ///
    /// # Errors
    /// [`Error::Write`] if the format doesn't have what the array needs.
    pub(crate) fn new(array: &NewArray, format: ZarrFormat) -> Result<Self> {
        let failed = |reason: String| Error::Write { location: array.name.clone(), reason };
        let metadata = match format {
            ZarrFormat::V2 => v2_metadata(array),
            ZarrFormat::V3 => v3_metadata(array),
        };
        let metadata = metadata.map_err(failed)?;
        let mut attributes = array.attributes.clone();
        if format == ZarrFormat::V2 {
            let dims = array.dims.iter().cloned().map(Attribute::Text).collect();
            attributes.add_missing("_ARRAY_DIMENSIONS", &Attribute::List(dims));
        }
        let document = ArrayDocument {
            format,
            metadata: metadata.clone(),
            attributes: attributes.clone(),
            key: array.name.clone(),
        };
        let spec = array_spec(&document).map_err(failed)?;
        let keys = Keys::from_metadata(&metadata, format).map_err(failed)?;
        Ok(Self {
            spec,
            keys,
            name: array.name.clone(),
            metadata: Value::Object(metadata),
            attributes: json!(attributes),
            format,
        })
    }

    /// The key of an object, relative to the group.
    pub(crate) fn key(&self, object: &[u64]) -> String {
        format!("{}/{}", self.name, self.keys.key(object))
    }

    /// The documents of the array.
    pub(crate) fn documents(&self) -> Vec<WrittenDocument> {
        self.nodes().into_iter().map(|(key, value)| document(key, &value)).collect()
    }

    /// The members of consolidated metadata, by key relative to the group.
    fn nodes(&self) -> Vec<(String, Value)> {
        let Self { name, metadata, attributes, .. } = self;
        match self.format {
            ZarrFormat::V2 => vec![
                (format!("{name}/.zarray"), metadata.clone()),
                (format!("{name}/.zattrs"), attributes.clone()),
            ],
            ZarrFormat::V3 => {
                let mut metadata = metadata.clone();
                metadata["attributes"] = attributes.clone();
                vec![(format!("{name}/zarr.json"), metadata)]
            }
        }
    }
}

/// The documents of a group of arrays, in the order in which they must be written: with the last one the group exists.
pub(crate) fn group_documents(
    format: ZarrFormat,
    attributes: &Attributes,
    arrays: &[&WrittenArray],
) -> Vec<WrittenDocument> {
    let mut nodes: Vec<(String, Value)> = arrays.iter().flat_map(|array| array.nodes()).collect();
    nodes.sort_by(|(one, _), (other, _)| one.cmp(other));
    match format {
        ZarrFormat::V3 => {
            let members: Map<String, Value> = nodes
                .into_iter()
                .map(|(key, value)| (key.trim_end_matches("/zarr.json").to_owned(), value))
                .collect();
            let group = json!({
                "zarr_format": 3,
                "node_type": "group",
                "attributes": attributes,
                // zarr-specs#373: inline, for readers that know it.
                "consolidated_metadata": {
                    "kind": "inline", "must_understand": false, "metadata": members,
                },
            });
            vec![document("zarr.json".to_owned(), &group)]
        }
        ZarrFormat::V2 => {
            let group = json!({"zarr_format": 2});
            let attributes = json!(attributes);
            let mut members = Map::new();
            members.insert(".zattrs".to_owned(), attributes.clone());
            members.insert(".zgroup".to_owned(), group.clone());
            members.extend(nodes);
            let consolidated = json!({"zarr_consolidated_format": 1, "metadata": members});
            vec![
                document(".zattrs".to_owned(), &attributes),
                document(".zmetadata".to_owned(), &consolidated),
                document(".zgroup".to_owned(), &group),
            ]
        }
    }
}

fn document(key: String, value: &Value) -> WrittenDocument {
    // Indented, as zarr-python writes it: people read it.
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    WrittenDocument { key, content: text.into_bytes() }
}

fn v3_metadata(array: &NewArray) -> Result<Map<String, Value>, String> {
    let element = &array.element;
    let data_type = v3_data_type(element)?;
    let mut codecs = match element {
        ElementType::Utf8 => vec![json!({"name": "vlen-utf8"})],
        ElementType::Binary => vec![json!({"name": "vlen-bytes"})],
        element if element.number_size() == 1 => vec![json!({"name": "bytes"})],
        _ => vec![json!({"name": "bytes", "configuration": {"endian": "little"}})],
    };
    codecs.extend(v3_compressor(array.compression, element));
    if array.shards.is_some() {
        codecs = vec![json!({"name": "sharding_indexed", "configuration": {
            "chunk_shape": array.chunks,
            "codecs": codecs,
            "index_codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"},
            ],
            "index_location": "end",
        }})];
    }
    let metadata = json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": array.shape,
        "data_type": data_type,
        "chunk_grid": {
            "name": "regular", "configuration": {"chunk_shape": array.object_shape()},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill_value(array)?,
        "codecs": codecs,
        "dimension_names": array.dims,
    });
    object(metadata)
}

fn v2_metadata(array: &NewArray) -> Result<Map<String, Value>, String> {
    if array.shards.is_some() {
        return Err("Zarr v2 has no shards: write Zarr v3, or leave the shards out".to_owned());
    }
    let element = &array.element;
    let filter = match element {
        ElementType::Utf8 => json!([{"id": "vlen-utf8"}]),
        ElementType::Binary => json!([{"id": "vlen-bytes"}]),
        _ => Value::Null,
    };
    let metadata = json!({
        "zarr_format": 2,
        "shape": array.shape,
        "chunks": array.chunks,
        "dtype": v2_dtype(element)?,
        "order": "C",
        "fill_value": if array.fill_value.is_null() { Value::Null } else { fill_value(array)? },
        "filters": filter,
        "compressor": v2_compressor(array.compression),
        // The key that zarr-python adds.
        "dimension_separator": ".",
    });
    object(metadata)
}

fn object(metadata: Value) -> Result<Map<String, Value>, String> {
    match metadata {
        Value::Object(members) => Ok(members),
        other => Err(format!("{other} is no object")),
    }
}

fn v3_compressor(compression: Compression, element: &ElementType) -> Option<Value> {
    Some(match compression.0 {
        Choice::None => return None,
        Choice::Zstd { level } => {
            json!({"name": "zstd", "configuration": {"level": level, "checksum": false}})
        }
        Choice::Gzip { level } => json!({"name": "gzip", "configuration": {"level": level}}),
        Choice::Blosc { compressor, level, shuffle } => {
            let width = element.size().filter(|size| (1..=255).contains(size)).unwrap_or(1);
            let shuffle = match shuffle {
                Shuffle::Bytes if width > 1 => "shuffle",
                Shuffle::Bits => "bitshuffle",
                Shuffle::Bytes | Shuffle::None => "noshuffle",
            };
            json!({"name": "blosc", "configuration": {
                "typesize": width, "cname": compressor.text(), "clevel": level,
                "shuffle": shuffle, "blocksize": 0,
            }})
        }
    })
}

fn v2_compressor(compression: Compression) -> Value {
    match compression.0 {
        Choice::None => Value::Null,
        Choice::Zstd { level } => json!({"id": "zstd", "level": level, "checksum": false}),
        Choice::Gzip { level } => json!({"id": "gzip", "level": level}),
        Choice::Blosc { compressor, level, shuffle } => json!({
            "id": "blosc", "cname": compressor.text(), "clevel": level, "shuffle": shuffle as i32,
            "blocksize": 0,
        }),
    }
}

/// The fill value as each version spells it.
fn fill_value(array: &NewArray) -> Result<Value, String> {
    let value = match &array.fill_value {
        Attribute::Null => match &array.element {
            element if element.is_float() => json!(0.0),
            ElementType::Bool => json!(false),
            ElementType::Utf8 | ElementType::Binary => json!(""),
            ElementType::Complex(_) => json!([0.0, 0.0]),
            ElementType::Utf32 { .. } | ElementType::Text { .. } => json!(""),
            _ => json!(0),
        },
        Attribute::Float(number) if number.is_nan() => json!("NaN"),
        Attribute::Float(number) if *number == f64::INFINITY => json!("Infinity"),
        Attribute::Float(number) if *number == f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    };
    // What can't be read back isn't written.
    let bytes = super::fill_value::fill_bytes(&array.element, &attribute(value.clone()))?;
    debug_assert!(array.element.size().is_none_or(|size| size == bytes.len()));
    Ok(value)
}

/// The name of a type in Zarr v3.
fn v3_data_type(element: &ElementType) -> Result<Value, String> {
    let name = match element {
        ElementType::Bool => "bool",
        ElementType::Int8 => "int8",
        ElementType::Int16 => "int16",
        ElementType::Int32 => "int32",
        ElementType::Int64 => "int64",
        ElementType::UInt8 => "uint8",
        ElementType::UInt16 => "uint16",
        ElementType::UInt32 => "uint32",
        ElementType::UInt64 => "uint64",
        ElementType::Float16 => "float16",
        ElementType::Float32 => "float32",
        ElementType::Float64 => "float64",
        ElementType::Complex(part) => match part.as_ref() {
            ElementType::Float32 => "complex64",
            ElementType::Float64 => "complex128",
            _ => return Err(unwritten(element)),
        },
        ElementType::Utf8 => "string",
        ElementType::Binary => "variable_length_bytes",
        ElementType::DateTime64(time) => return numpy_time("numpy.datetime64", time, element),
        ElementType::TimeDelta64(time) => return numpy_time("numpy.timedelta64", time, element),
        ElementType::Utf32 { length } => {
            let bytes = length * 4;
            return Ok(json!({
                "name": "fixed_length_utf32", "configuration": {"length_bytes": bytes},
            }));
        }
        ElementType::Text { length } | ElementType::Bytes { length } => {
            return Ok(json!({
                "name": "null_terminated_bytes", "configuration": {"length_bytes": length},
            }));
        }
        ElementType::Raw { length } => {
            return Ok(json!({"name": "raw_bytes", "configuration": {"length_bytes": length}}));
        }
        ElementType::SmallInt { .. }
        | ElementType::SmallFloat(_)
        | ElementType::Struct(_)
        | ElementType::List(_) => return Err(unwritten(element)),
    };
    Ok(Value::from(name))
}

fn numpy_time(name: &str, time: &NumpyTime, element: &ElementType) -> Result<Value, String> {
    let unit = time.numpy_unit().ok_or_else(|| unwritten(element))?;
    let at = unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    let scale: i64 = if at == 0 { 1 } else { unit[..at].parse().unwrap_or(1) };
    Ok(json!({"name": name, "configuration": {"unit": &unit[at..], "scale_factor": scale}}))
}

/// numpy's name of a type, little-endian.
fn v2_dtype(element: &ElementType) -> Result<Value, String> {
    let name = match element {
        ElementType::Utf8 | ElementType::Binary => "|O".to_owned(),
        ElementType::SmallInt { .. }
        | ElementType::SmallFloat(_)
        | ElementType::Struct(_)
        | ElementType::List(_) => return Err(unwritten(element)),
        element => {
            let name = element.numpy_dtype().ok_or_else(|| unwritten(element))?;
            let order = if element.number_size() == 1 { '|' } else { '<' };
            format!("{order}{name}")
        }
    };
    Ok(Value::from(name))
}

fn unwritten(element: &ElementType) -> String {
    format!("elements of its data type ({} here) aren't written", element.data_type())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    const TYPES: [DataType; 12] = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8View,
        DataType::BinaryView,
    ];

    #[test]
    fn documents_are_read_as_they_were_meant() {
        for data_type in TYPES {
            for format in [ZarrFormat::V2, ZarrFormat::V3] {
                for compression in ["none", "zstd:7", "gzip", "blosc-lz4", "blosc-zstd:9"] {
                    let array = NewArray::new("a", &data_type, &[("y", 5), ("x", 7)]).unwrap();
                    let array = array.with_chunks(vec![2, 3]).unwrap();
                    let array = array.with_compression(compression.parse().unwrap());
                    let written = WrittenArray::new(&array, format).unwrap();
                    let spec = &written.spec;
                    assert_eq!(spec.element.as_ref(), Some(&array.element), "{data_type}");
                    assert!(spec.encoding.is_ok(), "{data_type} {:?}", spec.encoding);
                    assert_eq!(
                        (&*spec.layout.shape, &*spec.layout.chunks),
                        (&[5, 7][..], &[2, 3][..])
                    );
                    let key = if format == ZarrFormat::V2 { "a/1.2" } else { "a/c/1/2" };
                    assert_eq!(written.key(&[1, 2]), key);
                }
            }
        }
    }

    #[test]
    fn shards_are_those_of_version_3() {
        let array = NewArray::new("a", &DataType::Float32, &[("y", 50), ("x", 70)]).unwrap();
        let array = array.with_chunks(vec![2, 3]).unwrap();
        assert!(array.clone().with_shards(vec![4, 4]).is_err());
        assert!(array.clone().with_shards(vec![4]).is_err());
        let array = array.with_shards(vec![4, 9]).unwrap();
        let written = WrittenArray::new(&array, ZarrFormat::V3).unwrap();
        let encoding = written.spec.encoding.as_ref().unwrap();
        assert!(encoding.sharded);
        assert_eq!(encoding.grid.chunk_shape(), [2, 3]);
        let error = WrittenArray::new(&array, ZarrFormat::V2).unwrap_err().to_string();
        assert!(error.contains("'a'") && error.contains("no shards"), "{error}");
    }

    #[test]
    fn groups_list_their_arrays() {
        let array = NewArray::new("a", &DataType::Float32, &[("x", 3)]).unwrap();
        for (format, last) in [(ZarrFormat::V2, ".zgroup"), (ZarrFormat::V3, "zarr.json")] {
            let written = WrittenArray::new(&array, format).unwrap();
            let documents = group_documents(format, &Attributes::default(), &[&written]);
            assert_eq!(documents.last().unwrap().key, last);
            let all: String =
                documents.iter().map(|own| String::from_utf8_lossy(&own.content)).collect();
            assert!(all.contains("NaN") && all.contains("\"x\""), "{all}");
        }
    }
}
