//! A format that isn't Zarr: one array, whose chunks are ranges of one file, here in the metadata, or nowhere.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::prelude::{SessionConfig, SessionContext};
use lsio_core::{
    Dataset, Location, OpenOptions, Result,
    chunks::{ChunkIndex, ChunkRef, ChunkSource, ObjectRange, Reads},
    dataset::{Attributes, ZarrFormat},
    format::{ArrayContent, ArraySpec, Content, Format, GroupContent},
    object_store::{ObjectStore, ObjectStoreExt as _, memory::InMemory, path::Path},
    transport::{Link, Storage},
};
use lsio_datafusion::ZarrTable;
use serde_json::json;

use crate::harness::{config, frame, rows, session};

/// The bytes of a chunk: ten numbers of eight.
const CHUNK: u64 = 80;
/// What lies between two chunks in the file.
const GAP: u64 = 3;
/// The chunk that is in the metadata, and the one that is nowhere.
const INLINE: u64 = 5;
const MISSING: u64 = 7;

/// One file of ten chunks, of which two aren't in it.
#[derive(Debug, Default)]
struct OneFile {
    /// Places that the file's index gives in place of the right ones.
    wrong: Option<Vec<ChunkRef>>,
}

#[derive(Debug)]
struct FileChunks {
    path: Path,
}

fn values(chunk: u64) -> Vec<u8> {
    (0..10).flat_map(|cell| ((chunk * 10 + cell) as f64).to_le_bytes()).collect()
}

/// Where a chunk is in the file, which has no place for the two that aren't in it.
fn range(chunk: u64) -> Range<u64> {
    let before = chunk - u64::from(chunk > INLINE) - u64::from(chunk > MISSING);
    let start = GAP + before * (CHUNK + GAP);
    start..start + CHUNK
}

fn file() -> Bytes {
    let mut bytes = vec![0xff; range(9).end as usize];
    for chunk in (0..10).filter(|chunk| ![INLINE, MISSING].contains(chunk)) {
        let range = range(chunk);
        bytes[range.start as usize..range.end as usize].copy_from_slice(&values(chunk));
    }
    bytes.into()
}

#[async_trait]
impl ChunkSource for FileChunks {
    async fn locate(&self, chunks: &[ChunkIndex], _: &Reads<'_>) -> Result<Vec<ChunkRef>> {
        let locate = |chunk: &ChunkIndex| match chunk[0] {
            INLINE => ChunkRef::Inline(values(INLINE).into()),
            MISSING => ChunkRef::Missing,
            chunk => ChunkRef::Stored(ObjectRange::new(self.path.clone(), range(chunk))),
        };
        Ok(chunks.iter().map(locate).collect())
    }

    fn name(&self, chunk: &[u64]) -> String {
        format!("part {}", chunk[0])
    }
}

/// A source that gives these places, whatever is asked.
#[derive(Debug)]
struct WrongPlaces(Vec<ChunkRef>);

#[async_trait]
impl ChunkSource for WrongPlaces {
    async fn locate(&self, _: &[ChunkIndex], _: &Reads<'_>) -> Result<Vec<ChunkRef>> {
        Ok(self.0.clone())
    }

    fn name(&self, chunk: &[u64]) -> String {
        format!("part {}", chunk[0])
    }
}

#[async_trait]
impl Format for OneFile {
    async fn open(&self, at: &Location, _: &OpenOptions) -> Result<Option<Content>> {
        if at.store().head(at.path()).await.is_err() {
            return Ok(None);
        }
        let document = json!({
            "zarr_format": 3, "node_type": "array", "shape": [100], "data_type": "float64",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10]}},
            "chunk_key_encoding": {"name": "default"}, "fill_value": -1.0,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "dimension_names": ["x"], "attributes": {"units": "m"},
        });
        let spec = ArraySpec::from_zarr_json(document.to_string().as_bytes())?;
        let spec = match &self.wrong {
            Some(places) => spec.with_chunks(Arc::new(WrongPlaces(places.clone()))),
            None => spec.with_chunks(Arc::new(FileChunks { path: at.path().clone() })),
        };
        let array = ArrayContent { name: "depth".into(), location: at.clone(), spec: Ok(spec) };
        Ok(Some(Content::Group(Box::new(GroupContent {
            location: at.clone(),
            attributes: Attributes::default(),
            format: ZarrFormat::V3,
            arrays: vec![array],
            inherited: Vec::new(),
            children: Vec::new(),
            selected: None,
        }))))
    }
}

/// A session with the file as the table `t`, in a storage of this kind.
async fn opened(storage: Storage, bytes: Bytes, config: SessionConfig) -> SessionContext {
    let store = Arc::new(InMemory::new());
    store.put(&Path::from("depths.bin"), bytes.into()).await.unwrap();
    let store: Arc<dyn ObjectStore> = store;
    let location = Location::new(store, Path::from("depths.bin"), "memory/depths.bin")
        .with_link(Link::new(storage, lsio_core::Network::default()));
    let options = OpenOptions::default();
    let dataset =
        Dataset::open_as(Arc::new(OneFile::default()), &location, &options).await.unwrap();
    let ctx = session(config);
    ctx.register_table("t", Arc::new(ZarrTable::new(dataset).unwrap())).unwrap();
    ctx
}

async fn explained(ctx: &SessionContext, sql: &str) -> String {
    let lines = rows(ctx, &format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
    lines.iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn chunks_in_a_file_answer_queries() {
    for storage in [Storage::ObjectStore, Storage::Local] {
        let ctx = opened(storage, file(), config()).await;
        let found =
            rows(&ctx, "SELECT x, depth FROM t WHERE x IN (0, 49, 51, 73, 99)").await.unwrap();
        let expected = json!([[0, 0.0], [49, 49.0], [51, 51.0], [73, -1.0], [99, 99.0]]);
        assert_eq!(json!(found), expected);
        let sql = "SELECT count(depth), sum(depth), max(depth) FROM t WHERE x >= 10";
        let sum: u64 = (10..100).filter(|x| !(70..80).contains(x)).sum::<u64>() - 10;
        assert_eq!(json!(rows(&ctx, sql).await.unwrap()), json!([[90, sum as f64, 99.0]]));
        let plan = explained(&ctx, sql).await;
        assert!(plan.contains("ZarrAggregateExec"), "{plan}");
    }
}

#[tokio::test]
async fn near_ranges_are_one_request() {
    // One tile takes all chunks.
    let ctx = opened(Storage::ObjectStore, file(), SessionConfig::new()).await;
    let plan = explained(&ctx, "SELECT sum(depth) FROM t").await;
    let requests = plan.split_once("requests=").unwrap().1;
    assert!(requests.starts_with("1,"), "{plan}");
    // The gaps between the chunks are read along.
    let bytes = range(9).end - range(0).start;
    assert!(plan.contains(&format!("bytes_read={bytes}")), "{plan}");
}

#[tokio::test]
async fn errors_name_the_place() {
    let ctx = opened(Storage::ObjectStore, file().slice(..400), config()).await;
    let error = frame(&ctx, "SELECT sum(depth) FROM t").await.unwrap();
    let error = error.collect().await.unwrap_err().to_string();
    assert!(error.contains("memory/depths.bin/part"), "{error}");

    let location = Location::new(Arc::new(InMemory::new()), Path::from("none"), "memory/none");
    let opened =
        Dataset::open_as(Arc::new(OneFile::default()), &location, &OpenOptions::default()).await;
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("memory/none") && error.contains("OneFile"), "{error}");
}

#[tokio::test]
async fn wrong_places_are_refused() {
    let path = Path::from("depths.bin");
    let reversed = ObjectRange::new(path.clone(), Range { start: 80, end: 0 });
    let cases = [
        (vec![ChunkRef::Missing; 2], "locates 2 chunks instead of 10"),
        (vec![ChunkRef::Stored(reversed); 10], "end before they begin"),
        (vec![ChunkRef::Stored(ObjectRange::new(path.clone(), 0..u64::MAX)); 10], "it takes"),
        (vec![ChunkRef::Stored(ObjectRange::new(path.clone(), 900..980)); 10], "depths.bin/part 0"),
        (vec![ChunkRef::Stored(ObjectRange::new(Path::from("x"), 0..80)); 10], "depths.bin/part 0"),
        (vec![ChunkRef::Inline(Bytes::from_static(b"short")); 10], "part 0"),
    ];
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&path, file().into()).await.unwrap();
    for (places, expected) in cases {
        for storage in [Storage::ObjectStore, Storage::Local] {
            let location = Location::new(Arc::clone(&store), path.clone(), "memory/depths.bin")
                .with_link(Link::new(storage, lsio_core::Network::default()));
            let format = Arc::new(OneFile { wrong: Some(places.clone()) });
            let options = OpenOptions::default();
            let dataset = Dataset::open_as(format, &location, &options).await.unwrap();
            let variable = dataset.variable("depth").unwrap();
            let error = variable.read_all().await.unwrap_err().to_string();
            assert!(error.contains("memory/depths.bin") && error.contains(expected), "{error}");
        }
    }
}
