//! The inner loops: decoding a chunk, and making rows of it.
#![allow(missing_docs, reason = "criterion's macros make functions without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that can't be set up should stop")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lsio_core::{
    Dataset, Location, OpenOptions, Recycler, Selection, Variable,
    read::{Scan, ScanOptions},
};
use lsio_synthetic::{
    reanalysis::{self, Specification},
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
        one_chunk: false,
    };
    reanalysis::write(directory, &spec).unwrap();
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
        let recycler = Arc::new(Recycler::default());
        group.throughput(Throughput::Bytes(cells * variable.stored_width().unwrap()));
        group.bench_function(name, |b| {
            b.iter(|| variable.decode_chunk(&[0, 0, 0], encoded.as_ref(), &recycler).unwrap());
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
    for name in ["time", "latitude", "longitude", "t2m"] {
        let position = table.columns.iter().position(|column| column.name == name).unwrap();
        let selection = table.dims.iter().map(|dim| Selection::all(dim.size)).collect();
        let scan = Scan::new(&table, &[position], selection, &ScanOptions::default()).unwrap();
        let scan = Arc::new(scan);
        let rows = runtime.block_on(async {
            scan.load().await.unwrap();
            let block = scan.tiles().block(0);
            let fetch = scan.fetch(&[0], &block, None);
            let mut tile = scan.local(&[0], block).unwrap();
            scan.decode(fetch.join().await.unwrap(), &mut tile).await.unwrap();
            tile.rows(&[0, 1, 2], &[0]).unwrap()
        });
        group.throughput(Throughput::Elements(rows.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for start in (0..rows.len()).step_by(8192) {
                    let len = 8192.min(rows.len() - start);
                    std::hint::black_box(rows.slice(start, len).unwrap());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, rows);
criterion_main!(benches);
