//! Entry points for fuzzers: every parser of untrusted bytes, each called with one piece of bytes.
//!
//! Each target in `testing/fuzz/` is one call. The test here runs all inputs of their corpora: seeds, and inputs that
//! once failed.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt as _, memory::InMemory, path::Path};
use serde_json::Value;

use crate::{
    Dataset, Location, Network, OpenOptions, Result, Variable,
    dataset::{
        codec_spec::ByteOrder,
        shard::{IndexEncoding, ShardLayout},
    },
    location::join,
    options::Limits,
    transport::{Link, Storage},
    zip::ZipStore,
};

/// Metadata of the arrays whose chunks are fuzzed: a list of consolidated stores of one array each.
const CHUNKS: &str = include_str!("../../testing/fuzz/chunks.json");

/// Upper bound in cells for reading a variable as a whole.
const MOST_CELLS: u64 = 4_096;

/// Consolidated metadata of Zarr v2.
pub fn metadata_v2(data: &[u8]) {
    run(open_and_read(".zmetadata", data));
}

/// Metadata of Zarr v3.
pub fn metadata_v3(data: &[u8]) {
    run(open_and_read("zarr.json", data));
}

/// Attributes of variables of several types, decoded by the CF conventions.
pub fn attributes(data: &[u8]) {
    let Ok(attributes @ Value::Object(_)) = serde_json::from_slice(data) else { return };
    let types = ["<i1", ">i2", "<i4", "<i8", "|u1", "<u8", "<f4", "<f8", "|b1", "|S3", "<M8[s]"];
    let mut metadata = serde_json::Map::new();
    for (number, dtype) in types.iter().enumerate() {
        let array = serde_json::json!({
            "zarr_format": 2, "shape": [5], "chunks": [5], "dtype": dtype, "compressor": null,
            "filters": null, "order": "C", "fill_value": number * 100,
        });
        metadata.insert(format!("v{number}/.zarray"), array);
        metadata.insert(format!("v{number}/.zattrs"), attributes.clone());
    }
    metadata.insert(".zgroup".to_owned(), serde_json::json!({"zarr_format": 2}));
    metadata.insert(".zattrs".to_owned(), attributes);
    let document = serde_json::json!({"zarr_consolidated_format": 1, "metadata": metadata});
    run(open_and_read(".zmetadata", document.to_string().as_bytes()));
}

/// A chunk. The first two bytes choose the array.
pub fn chunk(data: &[u8]) {
    static VARIABLES: OnceLock<Vec<Arc<Variable>>> = OnceLock::new();
    let variables = VARIABLES.get_or_init(|| {
        let stores: Vec<Value> = serde_json::from_str(CHUNKS).unwrap_or_default();
        let variable = |store: &Value| {
            let is_v2 = store.get("zarr_consolidated_format").is_some();
            let file = if is_v2 { ".zmetadata" } else { "zarr.json" };
            let dataset = block_on(open(file, store.to_string().as_bytes())).ok()?;
            dataset.variables().first().map(|(variable, _)| Arc::clone(variable))
        };
        stores.iter().filter_map(variable).collect()
    });
    let Some((choice, encoded)) = data.split_first_chunk::<2>() else { return };
    let choice = usize::from(u16::from_le_bytes(*choice));
    let Some(variable) = variables.get(choice % variables.len().max(1)) else { return };
    // Through the store, so that a shard's index is parsed too.
    let key = variable.chunk_name(&vec![0; variable.shape().len()]);
    let Ok(path) = join(variable.location().path(), &key) else { return };
    let encoded = Bytes::copy_from_slice(encoded);
    run(async {
        let store = variable.location().store();
        let failed = |source| crate::Error::Store { key: path.to_string(), source };
        store.put(&path, encoded.into()).await.map_err(failed)?;
        let values = variable.read_all().await?;
        assert_eq!(values.len() as u64, variable.shape().iter().product::<u64>());
        Ok(())
    });
}

/// A shard index. The first eight bytes are the shard's size.
pub fn shard_index(data: &[u8]) {
    let Some((size, index)) = data.split_first_chunk::<8>() else { return };
    let size = u64::from_le_bytes(*size);
    let encodings = [(ByteOrder::Little, true), (ByteOrder::Big, false)];
    for (byte_order, checksum) in encodings {
        let layout = ShardLayout::new(IndexEncoding { at_end: true, byte_order, checksum }, 2);
        let Some(layout) = layout.with_shape(&[4, 6], &[2, 3]) else { return };
        for index in [layout.index_in(index).ok(), Some(index)].into_iter().flatten() {
            if let Ok(index) = layout.parse(index, size) {
                for number in 0..5 {
                    let range = index.range(number);
                    assert!(
                        range.is_none_or(|range| range.start <= range.end && range.end <= size)
                    );
                }
            }
        }
    }
}

/// A zip archive that holds a store.
pub fn archive(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    run(async move {
        let memory = InMemory::new();
        let path = Path::from("s.zarr.zip");
        if memory.put(&path, data.into()).await.is_err() {
            return Ok(());
        }
        let store: Arc<dyn ObjectStore> = Arc::new(ZipStore::new(Arc::new(memory), path));
        let dataset = Dataset::open(&location(store), &options()).await?;
        read(&dataset).await;
        Ok(())
    });
}

async fn open_and_read(file: &str, document: &[u8]) -> Result<()> {
    let dataset = open(file, document).await?;
    let _ = dataset.table();
    for (dims, _) in dataset.distinct_grids() {
        let _ = dataset.table_on(&dims);
    }
    read(&dataset).await;
    Ok(())
}

async fn open(file: &str, document: &[u8]) -> Result<Dataset> {
    let store = InMemory::new();
    let put = store.put(&Path::from(file), Bytes::copy_from_slice(document).into()).await;
    put.map_err(|source| crate::Error::Store { key: file.to_owned(), source })?;
    Dataset::open(&location(Arc::new(store)), &options()).await
}

/// Reads small variables, whose chunks may be missing.
async fn read(dataset: &Dataset) {
    for (variable, _) in dataset.variables() {
        let cells = variable.shape().iter().fold(1, |cells: u64, size| cells.saturating_mul(*size));
        if cells <= MOST_CELLS
            && let Ok(values) = variable.read_all().await
        {
            assert_eq!(values.len() as u64, cells);
            assert_eq!(values.data_type(), variable.data_type());
        }
    }
}

fn location(store: Arc<dyn ObjectStore>) -> Location {
    let link = Link::new(Storage::Local, Network::default());
    Location::new(store, Path::default(), "store").with_link(link).with_limits(options().limits)
}

fn options() -> OpenOptions {
    let limits = Limits { metadata_bytes: 1 << 20, chunk_bytes: 1 << 24 };
    OpenOptions { limits, ..OpenOptions::default() }
}

/// Runs to the end, and ignores errors.
fn run<T>(future: impl Future<Output = Result<T>>) {
    if let Err(error) = block_on(future) {
        assert!(!error.to_string().is_empty());
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            #[expect(clippy::expect_used, reason = "without it there is nothing to fuzz")]
            runtime.expect("a runtime of this thread")
        };
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds, and all inputs that once failed.
    #[test]
    fn corpora_do_no_harm() {
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 6] = [
            ("metadata_v2", metadata_v2),
            ("metadata_v3", metadata_v3),
            ("attributes", attributes),
            ("chunk", chunk),
            ("shard_index", shard_index),
            ("archive", archive),
        ];
        for (name, target) in targets {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testing/fuzz/corpus/");
            let entries = std::fs::read_dir(format!("{folder}{name}")).unwrap();
            let mut count = 0;
            for entry in entries {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "{name}");
        }
    }

    /// Seeds of chunks, each changed in a few places: a fuzzer's first steps, always the same.
    #[test]
    fn changed_chunks_do_no_harm() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testing/fuzz/corpus/chunk");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 1).unwrap()
        };
        for entry in std::fs::read_dir(folder).unwrap() {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for _ in 0..40 {
                let mut changed = seed.clone();
                for _ in 0..=random() % 3 {
                    let at = 2 + random() % (changed.len() - 2).max(1);
                    match (random() % 4, changed.get_mut(at)) {
                        (0, Some(byte)) => *byte ^= 1 << (random() % 8),
                        (1, Some(byte)) => *byte = [0, 1, 0x7f, 0x80, 0xff][random() % 5],
                        (2, _) => changed.truncate(at),
                        (_, _) => changed.extend_from_within(2..),
                    }
                }
                chunk(&changed);
            }
        }
    }
}
