//! Writes small Zarr v3 stores into local directories.

use std::{
    borrow::Cow,
    fs, io,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value, json};
use zarrs::array::{Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits as _, CodecOptions};

/// Compression of a new array's chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// zstd at this level.
    Zstd(i32),
    /// Blosc: lz4 after a byte shuffle, at this level.
    BloscLz4(u8),
}

/// A new array.
#[derive(Clone, Debug)]
pub struct SyntheticArray<'a> {
    /// Name in the group.
    pub name: &'a str,
    /// Zarr v3 data type of a fixed size: `float32`, `int16`, ….
    pub data_type: &'a str,
    /// Dimensions: name and size.
    pub dims: &'a [(&'a str, u64)],
    /// Shape of the chunks.
    pub chunks: &'a [u64],
    /// Shape of the shards; `None` for no shards.
    pub shards: Option<&'a [u64]>,
    /// Compression of the chunks.
    pub compression: Compression,
    /// Zarr's fill value.
    pub fill_value: Value,
    /// Attributes, as a JSON object.
    pub attributes: Value,
}

/// Writes a group and its arrays.
#[derive(Debug)]
pub struct GroupWriter {
    directory: PathBuf,
}

impl GroupWriter {
    /// Creates a group in a new or empty directory.
    ///
    /// # Errors
    /// If the directory isn't empty or can't be written.
    pub fn create(directory: &Path, attributes: Value) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        if fs::read_dir(directory)?.next().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("'{}' is not empty", directory.display()),
            ));
        }
        let metadata = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
        fs::write(directory.join("zarr.json"), metadata.to_string())?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Creates an array without chunks.
    ///
    /// # Errors
    /// If the spec contradicts itself or a file can't be written.
    pub fn array(&self, spec: &SyntheticArray<'_>) -> io::Result<ArrayWriter> {
        ArrayWriter::create(&self.directory.join(spec.name), spec)
    }

    /// Creates an array of a single chunk with these values.
    ///
    /// # Errors
    /// Those of [`GroupWriter::array`] and [`ArrayWriter::write`].
    pub fn whole_array<T: Element>(
        &self,
        spec: &SyntheticArray<'_>,
        values: &[T],
    ) -> io::Result<()> {
        let chunks: Vec<u64> = spec.dims.iter().map(|(_, size)| (*size).max(1)).collect();
        let spec = SyntheticArray { chunks: &chunks, ..spec.clone() };
        self.array(&spec)?.write(&vec![0; chunks.len()], values)
    }

    /// Copies the metadata of all arrays into the group's own, so that opening reads one file.
    ///
    /// # Errors
    /// If a file can't be read or written.
    pub fn consolidate(&self) -> io::Result<()> {
        let mut nodes = Map::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let file = entry.path().join("zarr.json");
            if file.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                nodes.insert(name, serde_json::from_slice(&fs::read(file)?)?);
            }
        }
        nodes.sort_keys();
        let file = self.directory.join("zarr.json");
        let mut metadata: Value = serde_json::from_slice(&fs::read(&file)?)?;
        metadata["consolidated_metadata"] =
            json!({"kind": "inline", "must_understand": false, "metadata": nodes});
        fs::write(file, metadata.to_string())
    }
}

/// Writes the chunks of one array, or its shards if it has any.
#[derive(Debug)]
pub struct ArrayWriter {
    directory: PathBuf,
    array: Array<()>,
    chunk: Vec<NonZeroU64>,
}

impl ArrayWriter {
    /// Creates an array without chunks, in its own directory.
    ///
    /// # Errors
    /// If the spec contradicts itself or a file can't be written.
    pub fn create(directory: &Path, spec: &SyntheticArray<'_>) -> io::Result<Self> {
        let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidInput, e);
        let mut codecs = vec![json!({"name": "bytes", "configuration": {"endian": "little"}})];
        match spec.compression {
            Compression::None => {}
            Compression::Zstd(level) => codecs.push(
                json!({"name": "zstd", "configuration": {"level": level, "checksum": false}}),
            ),
            Compression::BloscLz4(level) => {
                let size = element_size(spec.data_type).ok_or_else(|| {
                    invalid(format!("the data type {} has no fixed size", spec.data_type))
                })?;
                codecs.push(json!({"name": "blosc", "configuration": {
                    "cname": "lz4", "clevel": level, "shuffle": "shuffle", "typesize": size,
                    "blocksize": 0,
                }}));
            }
        }
        let outer = spec.shards.unwrap_or(spec.chunks);
        if spec.shards.is_some() {
            codecs = vec![json!({"name": "sharding_indexed", "configuration": {
                "chunk_shape": spec.chunks,
                "codecs": codecs,
                "index_codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"},
                ],
                "index_location": "end",
            }})];
        }
        let (names, shape): (Vec<&str>, Vec<u64>) = spec.dims.iter().copied().unzip();
        let metadata = json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": spec.data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": outer}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": spec.fill_value,
            "codecs": codecs,
            "dimension_names": names,
            "attributes": spec.attributes,
        });
        fs::create_dir_all(directory)?;
        fs::write(directory.join("zarr.json"), metadata.to_string())?;
        let metadata = ArrayMetadata::V3(serde_json::from_value(metadata)?);
        let array = Array::new_with_metadata(Arc::new(()), "/", metadata)
            .map_err(|e| invalid(e.to_string()))?;
        let chunk = outer
            .iter()
            .map(|&size| NonZeroU64::new(size))
            .collect::<Option<_>>()
            .ok_or_else(|| invalid("a chunk has a size of 0".to_owned()))?;
        Ok(Self { directory: directory.to_owned(), array, chunk })
    }

    /// Writes one chunk: all of its cells in C order, including those beyond the array's edges.
    ///
    /// # Errors
    /// If there isn't one value per cell of a chunk, or the file can't be written.
    pub fn write<T: Element>(&self, chunk: &[u64], values: &[T]) -> io::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.ne_bytes()).collect();
        let mut options = CodecOptions::default();
        options.set_concurrent_target(1);
        options.set_chunk_concurrent_minimum(1);
        let encoded = self
            .array
            .codecs()
            .encode(
                ArrayBytes::new_flen(Cow::Owned(bytes)),
                &self.chunk,
                self.array.data_type(),
                self.array.fill_value(),
                &options,
            )
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
        let file = self.directory.join(self.array.chunk_key(chunk).as_str());
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, encoded)
    }

    /// Stores a chunk under the key of another one too, as a hard link that takes no space.
    ///
    /// # Errors
    /// If the first chunk isn't stored, or the file system allows no more links to it.
    pub fn link(&self, chunk: &[u64], other: &[u64]) -> io::Result<()> {
        let [from, to] =
            [chunk, other].map(|chunk| self.directory.join(self.array.chunk_key(chunk).as_str()));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::hard_link(from, to)
    }
}

/// A type whose values can be written.
pub trait Element: Copy {
    /// Bytes of the value, in native byte order.
    fn ne_bytes(self) -> impl Iterator<Item = u8>;
}

macro_rules! elements {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn ne_bytes(self) -> impl Iterator<Item = u8> {
                self.to_ne_bytes().into_iter()
            }
        }
    )*};
}
elements!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);

fn element_size(data_type: &str) -> Option<u64> {
    Some(match data_type {
        "bool" | "int8" | "uint8" => 1,
        "int16" | "uint16" | "float16" => 2,
        "int32" | "uint32" | "float32" => 4,
        "int64" | "uint64" | "float64" => 8,
        _ => return None,
    })
}
