//! What goes wrong says which store, array and chunk it was.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    differential::write_lower_rank,
    harness::{config, rows, session},
    storage::{consolidate_if_unlisted, lists},
};

/// Runs a query that must fail, and gives the message.
async fn failure(sql: &str) -> String {
    match rows(&session(config()), sql).await {
        Ok(rows) => panic!("{sql} gave {rows:?}"),
        Err(error) => error.to_string(),
    }
}

fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "'{word}' is not in: {message}");
    }
}

fn store(directory: &Path) -> String {
    let path = directory.join("store.zarr");
    write_lower_rank(&path);
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn paths_without_zarr() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().to_string_lossy().into_owned();
    let message = failure(&format!("SELECT * FROM '{base}/nothing.zarr'")).await;
    assert_says(&message, &["nothing.zarr", "does not exist"]);
    fs::create_dir(directory.path().join("empty.zarr")).unwrap();
    fs::write(directory.path().join("empty.zarr/readme.txt"), "x").unwrap();
    for path in ["empty.zarr", "empty.zarr/"] {
        // Without listings nobody knows that there is something.
        let words = match lists() {
            true => ["not a Zarr group or array", "zarr.json"],
            false => ["does not exist", "empty.zarr"],
        };
        let message = failure(&format!("SELECT * FROM '{base}/{path}'")).await;
        assert_says(&message, &["empty.zarr"]);
        assert_says(&message, &words);
    }
    // Names that are no paths get DataFusion's own message.
    assert_says(&failure("SELECT * FROM nothing").await, &["nothing", "not found"]);
}

#[tokio::test]
async fn metadata_that_does_not_parse() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let group = Path::new(&store).join("zarr.json");
    for (text, word) in [
        ("{", "JSON"),
        ("[1]", "object"),
        ("{\"zarr_format\": 4, \"node_type\": \"group\"}", "zarr_format"),
        ("{\"zarr_format\": 3, \"node_type\": \"tree\"}", "node_type"),
        ("{\"zarr_format\": 3, \"node_type\": \"group\", \"attributes\": 3}", "attributes"),
    ] {
        fs::write(&group, text).unwrap();
        let message = failure(&format!("SELECT * FROM '{store}'")).await;
        assert_says(&message, &["store.zarr/zarr.json", word]);
    }
}

/// Changes the metadata of an array.
fn edit(store: &str, array: &str, change: impl Fn(&mut Value)) {
    let root = Path::new(store).join("zarr.json");
    let mut group: Value = serde_json::from_slice(&fs::read(&root).unwrap()).unwrap();
    group.as_object_mut().unwrap().remove("consolidated_metadata");
    fs::write(root, group.to_string()).unwrap();
    let file = Path::new(store).join(array).join("zarr.json");
    let mut metadata: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut metadata);
    fs::write(file, metadata.to_string()).unwrap();
    consolidate_if_unlisted(Path::new(store));
}

#[tokio::test]
async fn a_column_that_can_not_be_read_fails_alone() {
    for (field, value, words) in [
        (
            "codecs",
            json!([{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "mystery"}]),
            ["low", "mystery"],
        ),
        ("data_type", json!("complex65"), ["low", "complex65"]),
        ("data_type", json!({"name": "struct", "configuration": {}}), ["low", "struct"]),
        ("fill_value", json!("nonsense"), ["low", "fill value"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        edit(&store, "low", |metadata| metadata[field] = value.clone());
        let ctx = session(config());
        let sum = rows(&ctx, &format!("SELECT sum(full), count(*) FROM '{store}'")).await.unwrap();
        assert_eq!(sum, [[json!(21.0), json!(6)]]);
        for sql in ["SELECT low FROM", "SELECT * FROM", "SELECT count(low) FROM"] {
            assert_says(&failure(&format!("{sql} '{store}'")).await, &words);
        }
        let sql = format!(
            "SELECT unreadable IS NOT NULL FROM zarr_variables('{store}') WHERE name = 'low'"
        );
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(true)]]);
    }
}

#[tokio::test]
async fn sizes_that_contradict_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    edit(&store, "low", |metadata| metadata["shape"] = json!([5]));
    let message = failure(&format!("SELECT full, low FROM '{store}'")).await;
    assert_says(&message, &["low", "5", "3", "x"]);
}

#[tokio::test]
async fn chunks_that_are_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let spec = lsio_synthetic::reanalysis::Specification {
        times: 4,
        latitudes: 3,
        longitudes: 5,
        chunks: [2, 3, 5],
        shards: None,
        compression: lsio_synthetic::write::Compression::Zstd(3),
        packed: false,
        one_chunk: false,
    };
    lsio_synthetic::reanalysis::write(&path, &spec).unwrap();
    let store = path.to_string_lossy();
    let file = path.join("t2m/c/1/0/0");
    let good = fs::read(&file).unwrap();
    let mut huge = good.clone();
    // A frame header that claims 2⁶³ bytes.
    huge.splice(4.., [0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0]);
    for bad in [Vec::new(), good[..good.len() / 2].to_vec(), vec![7; 100], huge] {
        fs::write(&file, bad).unwrap();
        let message = failure(&format!("SELECT sum(t2m) FROM '{store}'")).await;
        assert_says(&message, &["store.zarr/t2m", "[1, 0, 0]", "c/1/0/0"]);
        // The other chunks and variables are as good as before.
        let ctx = session(config());
        let sql = format!("SELECT count(u10) FROM '{store}'");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(60)]]);
        let sql = format!("SELECT count(t2m) FROM (SELECT t2m FROM '{store}' LIMIT 30)");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(30)]]);
    }
}

#[tokio::test]
async fn shards_whose_index_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let spec = lsio_synthetic::reanalysis::Specification {
        times: 4,
        latitudes: 4,
        longitudes: 4,
        chunks: [2, 2, 4],
        shards: Some([4, 4, 4]),
        compression: lsio_synthetic::write::Compression::Zstd(3),
        packed: false,
        one_chunk: false,
    };
    lsio_synthetic::reanalysis::write(&path, &spec).unwrap();
    let store = path.to_string_lossy();
    let file = path.join("t2m/c/0/0/0");
    let good = fs::read(&file).unwrap();
    let sql = format!("SELECT sum(t2m) FROM '{store}'");
    assert!(rows(&session(config()), &sql).await.is_ok());
    for bad in [Vec::new(), vec![0; 10], good[1..].to_vec(), good[..good.len() - 3].to_vec()] {
        fs::write(&file, bad).unwrap();
        // Of the shard itself, or of the first of its chunks that is read.
        assert_says(&failure(&sql).await, &["store.zarr/t2m", "chunk [", "key 'c/0/0/0'"]);
    }
    // An index with a right checksum, whose chunk lies beyond the end: without the checksum it needs
    // none.
    edit(&store, "t2m", |metadata| {
        metadata["codecs"][0]["configuration"]["index_codecs"] =
            json!([{"name": "bytes", "configuration": {"endian": "little"}}]);
    });
    let mut index: Vec<u8> = good[..good.len() - 4 - 4 * 16].to_vec();
    for entry in [u64::MAX - 10, 16, 0, 16, 0, 1 << 40, 0, 16] {
        index.extend(entry.to_le_bytes());
    }
    fs::write(&file, index).unwrap();
    assert_says(&failure(&sql).await, &["store.zarr/t2m", "chunk 0", "byte 18446744073709551605"]);
}

#[tokio::test]
async fn cells_beyond_the_edge_mean_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let group = lsio_synthetic::write::GroupWriter::create(&path, json!({})).unwrap();
    let spec = lsio_synthetic::write::SyntheticArray {
        name: "time",
        data_type: "int64",
        dims: &[("time", 2)],
        chunks: &[4],
        shards: None,
        compression: lsio_synthetic::write::Compression::None,
        fill_value: json!(0),
        attributes: json!({"units": "days since 2000-01-01"}),
    };
    group.array(&spec).unwrap().write(&[0], &[0_i64, 1, i64::MAX, i64::MAX]).unwrap();
    consolidate_if_unlisted(&path);
    let sql = format!("SELECT CAST(max(time) AS VARCHAR) FROM '{}'", path.to_string_lossy());
    let rows = rows(&session(config()), &sql).await.unwrap();
    assert_eq!(rows, [[json!("2000-01-02T00:00:00")]]);
}

#[tokio::test]
async fn shapes_that_are_too_large() {
    for (shape, chunks, words) in [
        (json!([1_u64 << 40, 1_u64 << 40]), json!([1, 1]), ["too large", "store.zarr/full"]),
        (json!([1_u64 << 40, 3]), json!([1_u64 << 40, 3]), ["max_chunk_bytes", "store.zarr/full"]),
        // Nothing of such a size is made for one cell that isn't stored.
        (json!([1_u64 << 40, 3]), json!([1_u64 << 29, 1]), ["max_chunk_bytes", "store.zarr/full"]),
        (json!([4, 3]), json!([0, 3]), ["size of 0", "store.zarr/full"]),
        (json!([-4, 3]), json!([1, 3]), ["shape", "store.zarr/full"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        edit(&store, "full", |metadata| {
            metadata["shape"] = shape.clone();
            metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunks.clone();
        });
        let message = failure(&format!("SELECT * FROM '{store}/full'")).await;
        assert_says(&message, &words);
    }
}

#[tokio::test]
async fn options_and_arguments() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ddl = |options: &str| {
        format!("CREATE EXTERNAL TABLE t STORED AS ZARR LOCATION '{store}' OPTIONS ({options})")
    };
    assert_says(&failure(&ddl("'zarr.dmis' 'x'")).await, &["dmis", "dims", "nan_as_null"]);
    assert_says(
        &failure(&ddl("'zarr.decode_times' 'maybe'")).await,
        &["decode_times", "maybe", "text"],
    );
    assert_says(&failure(&format!("SELECT * FROM '{store}?dims=x,q'")).await, &["'q'", "x, y"]);
    assert_says(
        &failure(&format!("SELECT * FROM '{store}?variables=q'")).await,
        &["'q'", "full, low"],
    );
    assert_says(
        &failure("SELECT * FROM zarr_variables(3)").await,
        &["zarr_variables('store.zarr')"],
    );
    let columns = format!("CREATE EXTERNAL TABLE t (a INT) STORED AS ZARR LOCATION '{store}'");
    assert_says(&failure(&columns).await, &["column list"]);
    assert_says(
        &failure("SELECT * FROM 'ftp://host/store.zarr'").await,
        &["ftp://", "s3://", "object store"],
    );
    assert_says(
        &failure("SELECT * FROM 's3://bucket/store.zarr?aws.regio=x'").await,
        &["aws.regio", "aws.region"],
    );
}
