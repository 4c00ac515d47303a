//! Chunks of variables, and bare loops over them.

use std::{
    ffi::c_void,
    fs::File,
    hint::black_box,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use lsio_core::{Dataset, Location, OpenOptions, dataset::Layout, grid::ChunkGrid};

use crate::{Error, shard::Shard, workers};

/// Bytes per read of a plain loop. They stay in a core's second-level cache.
const PIECE: usize = 256 << 10;

/// Chunks of one or several variables with the same encoding.
pub(crate) struct Chunks {
    /// Objects of the store with their sizes in bytes; shards where the store is sharded.
    files: Vec<(PathBuf, u64)>,
    /// Units of decoding.
    parts: Vec<Part>,
    encoding: Encoding,
    /// Bytes of the largest encoded chunk.
    encoded: usize,
}

#[derive(Clone, Copy, PartialEq)]
struct Encoding {
    codec: Codec,
    /// Bytes of a decoded chunk.
    decoded: usize,
    /// Number of chunks per shard; `None` where chunks are files.
    shard: Option<usize>,
}

/// Compression of chunks.
#[derive(Clone, Copy, PartialEq)]
enum Codec {
    Raw,
    Zstd,
    Blosc,
}

/// A file, or a chunk in it.
#[derive(Clone, Copy)]
struct Part {
    file: usize,
    /// Number of the chunk in its shard; 0 where chunks are files.
    number: usize,
}

impl Chunks {
    pub(crate) fn find(store: &Path, variables: &[&str]) -> Result<Self, Error> {
        let (first, others) = variables.split_first().ok_or("there is no variable")?;
        let mut chunks = Self::of_variable(store, first)?;
        for variable in others {
            let more = Self::of_variable(store, variable)?;
            if more.encoding != chunks.encoding {
                return Err("the variables are encoded in different ways".into());
            }
            let before = chunks.files.len();
            chunks.files.extend(more.files);
            let parts = more.parts.iter();
            chunks.parts.extend(parts.map(|part| Part { file: before + part.file, ..*part }));
            chunks.encoded = chunks.encoded.max(more.encoded);
        }
        Ok(chunks)
    }

    /// Number of chunks.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Decoded bytes of all chunks.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.encoding.decoded * self.parts.len()
    }

    /// Bytes of all files.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// Files with their sizes in bytes.
    pub(crate) fn files(&self) -> &[(PathBuf, u64)] {
        &self.files
    }

    /// Whether the files hold the values themselves, so that nothing is decoded.
    pub(crate) fn are_raw(&self) -> bool {
        self.encoding.codec == Codec::Raw && self.encoding.shard.is_none()
    }

    /// Reads and decodes all chunks on `threads` threads. Returns the time in seconds.
    pub(crate) fn decode(&self, threads: usize) -> Result<f64, Error> {
        let prepare = || -> Result<Buffers, Error> {
            // Not zeros: the system would allocate their pages only at the first write.
            Ok(Buffers {
                encoded: vec![1; self.encoded],
                decoded: vec![1; self.encoding.decoded],
                zstd: zstd::bulk::Decompressor::new()?,
                shard: None,
            })
        };
        let decode =
            |buffers: &mut Buffers, item: usize| self.decode_one(self.parts[item], buffers);
        workers::time(threads, self.parts.len(), prepare, decode)
    }

    /// Reads all files on `threads` threads, piece by piece into one small buffer each. Returns the time in seconds. No
    /// reader that copies cached files is faster.
    pub(crate) fn read_plainly(&self, threads: usize) -> Result<f64, Error> {
        let prepare = || Ok(vec![1_u8; PIECE]);
        let read = |buffer: &mut Vec<u8>, item: usize| -> Result<(), Error> {
            let mut file = File::open(&self.files[item].0)?;
            while file.read(buffer.as_mut_slice())? > 0 {
                black_box(buffer.as_slice());
            }
            Ok(())
        };
        workers::time(threads, self.files.len(), prepare, read)
    }

    fn of_variable(store: &Path, name: &str) -> Result<Self, Error> {
        let location = Location::parse(&store.join(name).to_string_lossy())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default()))?;
        let found = dataset.variables().iter().find(|(own, _)| own.name() == name);
        let (variable, _) = found.ok_or_else(|| format!("there is no variable '{name}'"))?;
        let layout = variable.layout();
        let codec = match layout.codecs.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["bytes"] => Codec::Raw,
            ["bytes", "zstd"] => Codec::Zstd,
            ["bytes", name] if name.starts_with("blosc") => Codec::Blosc,
            other => return Err(format!("the codecs {other:?} aren't known here").into()),
        };
        let cells: u64 = layout.inner_chunks.as_ref().unwrap_or(&layout.chunks).iter().product();
        let width = variable.stored_width().ok_or("the elements have no fixed size")?;
        let root = store.join(name).join("c");
        let mut files = Vec::new();
        list(&root, &mut files)?;
        files.sort_unstable();
        let (parts, shard, encoded) = match &layout.inner_chunks {
            None => {
                let largest = files.iter().map(|(_, size)| *size).max().unwrap_or(0);
                let parts = (0..files.len()).map(|file| Part { file, number: 0 }).collect();
                (parts, None, usize::try_from(largest)?)
            }
            Some(inner) => {
                let grid = ChunkGrid::new(layout.chunks.clone(), inner.clone());
                let grid = grid.ok_or("the chunks don't fit the shards")?;
                let (parts, largest) = parts_of_shards(&root, &files, layout, &grid)?;
                (parts, Some(usize::try_from(grid.len())?), largest)
            }
        };
        let encoding = Encoding { codec, decoded: usize::try_from(cells * width)?, shard };
        Ok(Self { files, parts, encoding, encoded })
    }

    fn decode_one(&self, part: Part, buffers: &mut Buffers) -> Result<(), Error> {
        let len = self.read_one(part, buffers)?;
        let Buffers { encoded, decoded, zstd, .. } = buffers;
        let (encoded, decoded) = (&encoded[..len], decoded.as_mut_slice());
        let size = match self.encoding.codec {
            Codec::Raw => len,
            Codec::Zstd => zstd.decompress_to_buffer(encoded, decoded)?,
            Codec::Blosc => {
                // SAFETY: the library reads what the header says of `encoded`, which this benchmark
                // has had written, and writes at most `decoded.len()` bytes.
                let size = unsafe {
                    blosc_src::blosc_decompress_ctx(
                        encoded.as_ptr().cast::<c_void>(),
                        decoded.as_mut_ptr().cast::<c_void>(),
                        decoded.len(),
                        1,
                    )
                };
                usize::try_from(size)?
            }
        };
        if size != self.encoding.decoded {
            let expected = self.encoding.decoded;
            return Err(format!("a chunk holds {size} bytes instead of {expected}").into());
        }
        black_box((encoded, &*decoded));
        Ok(())
    }

    /// Reads an encoded chunk. Returns its size in bytes.
    fn read_one(&self, part: Part, buffers: &mut Buffers) -> Result<usize, Error> {
        let (path, _) = &self.files[part.file];
        let Some(chunks) = self.encoding.shard else {
            return Ok(read_file(path, &mut buffers.encoded)?);
        };
        // The chunks of a shard are consecutive: each thread reads the index once.
        if buffers.shard.as_ref().is_none_or(|(file, _)| *file != part.file) {
            buffers.shard = Some((part.file, Shard::open(path, chunks)?));
        }
        let (_, shard) = buffers.shard.as_ref().ok_or("no shard is open")?;
        Ok(shard.read(part.number, &mut buffers.encoded)?)
    }
}

/// Memory that a thread reuses for every chunk.
struct Buffers {
    encoded: Vec<u8>,
    decoded: Vec<u8>,
    zstd: zstd::bulk::Decompressor<'static>,
    /// Last shard, and the number of its file.
    shard: Option<(usize, Shard)>,
}

/// Stored chunks of shards, and the size of the largest in bytes. Chunks beyond the array's edges are left out: no
/// query decodes them.
fn parts_of_shards(
    root: &Path,
    files: &[(PathBuf, u64)],
    layout: &Layout,
    grid: &ChunkGrid,
) -> Result<(Vec<Part>, usize), Error> {
    let (mut parts, mut largest) = (Vec::new(), 0);
    for (file, (path, _)) in files.iter().enumerate() {
        let start: Vec<u64> = indices(path.strip_prefix(root)?)?
            .iter()
            .zip(&layout.chunks)
            .map(|(index, size)| index * size)
            .collect();
        let shard = Shard::open(path, usize::try_from(grid.len())?)?;
        for number in 0..grid.len() {
            let inner = grid.region(number).start;
            let is_inside = (0..start.len()).all(|dim| start[dim] + inner[dim] < layout.shape[dim]);
            let number = usize::try_from(number)?;
            if let Some(stored) = shard.stored(number).filter(|_| is_inside) {
                parts.push(Part { file, number });
                largest = largest.max(stored);
            }
        }
    }
    Ok((parts, largest))
}

/// Indices of an object, from its path below `c`.
pub(crate) fn indices(path: &Path) -> Result<Vec<u64>, Error> {
    path.iter()
        .map(|part| part.to_str().and_then(|part| part.parse::<u64>().ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{} is not a chunk's path", path.display()).into())
}

/// Reads a file to the start of a buffer that is large enough.
fn read_file(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut len = 0;
    loop {
        match file.read(&mut buffer[len..])? {
            0 => return Ok(len),
            read => len += read,
        }
    }
}

/// All files below a directory, with their sizes.
pub(crate) fn list(directory: &Path, files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}
