//! The inner loops: decoding a chunk, and making rows of it.
#![allow(missing_docs, reason = "criterion's macros make functions without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that can't be set up should stop")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt as _, executor::block_on};
use lsio_core::{
    Dataset, Location, OpenOptions, Variable,
    read::Scan,
    synthetic::{self, Specification},
    write::Compression,
};

/// 4 MB of float32 a chunk.
const CHUNKS: [u64; 3] = [8, 181, 720];

fn dataset(directory: &std::path::Path, compression: Compression, packed: bool) -> Dataset {
    let spec = Specification {
        times: 8,
        latitudes: 181,
        longitudes: 720,
        chunks: CHUNKS,
        shards: None,
        compression,
        packed,
    };
    synthetic::write(directory, &spec).unwrap();
    let location = Location::parse(directory.to_str().unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Dataset::open(&location, &OpenOptions::default())).unwrap()
}

fn variable(dataset: &Dataset, name: &str) -> Arc<Variable> {
    let found = dataset.variables().iter().find(|(variable, _)| variable.name() == name);
    Arc::clone(&found.unwrap().0)
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode_chunk");
    let cells = CHUNKS.iter().product::<u64>();
    for (name, compression, packed) in [
        ("raw", Compression::None, false),
        ("zstd", Compression::Zstd(3), false),
        ("blosc_lz4", Compression::BloscLz4(5), false),
        ("int16_zstd", Compression::Zstd(3), true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let dataset = dataset(&directory.path().join("store.zarr"), compression, packed);
        let variable = variable(&dataset, "t2m");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let encoded = runtime.block_on(variable.fetch_chunk(&[0, 0, 0])).unwrap();
        group.throughput(Throughput::Bytes(cells * variable.stored_width().unwrap()));
        group.bench_function(name, |b| {
            b.iter(|| variable.decode_chunk(&[0, 0, 0], encoded.as_ref()).unwrap());
        });
    }
    group.finish();
}

fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("rows");
    let directory = tempfile::tempdir().unwrap();
    let dataset = dataset(&directory.path().join("store.zarr"), Compression::None, false);
    let table = dataset.table().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    for name in ["time", "latitude", "longitude", "t2m"] {
        let position = table.columns.iter().position(|column| column.name == name).unwrap();
        let scan = Arc::new(Scan::new(&table, &[position], 64 << 20).unwrap());
        block_on(scan.load()).unwrap();
        let tile = block_on(scan.read(0..1, 1).boxed().next()).unwrap().unwrap();
        group.throughput(Throughput::Elements(tile.rows() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for start in (0..tile.rows()).step_by(8192) {
                    let len = 8192.min(tile.rows() - start);
                    std::hint::black_box(tile.slice(start, len).unwrap());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, rows);
criterion_main!(benches);
