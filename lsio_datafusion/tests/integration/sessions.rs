//! Sessions that know Zarr, and all else that they knew before.

use std::path::Path;

use datafusion::prelude::SessionContext;
use lsio_datafusion::prelude::*;
use object_store::{ObjectStoreExt as _, PutPayload, memory::InMemory};
use serde_json::json;

use crate::{
    differential::write_lower_rank,
    harness::{address, config, json_rows, query, rows, session},
    storage::consolidate_if_unlisted,
};

fn store(directory: &Path) -> String {
    let path = directory.join("store.zarr");
    write_lower_rank(&path);
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn other_formats_go_on_working() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let base = directory.path().to_string_lossy().into_owned();
    let ctx = session(config());
    for extension in ["parquet", "csv", "json"] {
        let file = format!("{base}/copy.{extension}");
        let copied = rows(&ctx, &format!("COPY (SELECT x, y, full FROM '{store}') TO '{file}'"))
            .await
            .unwrap();
        assert_eq!(copied, [[json!(6)]]);
        let sql = format!(
            "SELECT sum(z.full * f.full) FROM '{store}' z JOIN '{file}' f ON z.x = f.x AND z.y = f.y"
        );
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(91.0)]], "{extension}");
    }
    std::fs::create_dir(directory.path().join("folder")).unwrap();
    std::fs::copy(format!("{base}/copy.parquet"), format!("{base}/folder/1.parquet")).unwrap();
    for folder in ["folder", "folder/"] {
        let sql = format!("SELECT count(*) FROM '{base}/{folder}'");
        let counted = ctx.query(&sql).await.unwrap().collect().await.unwrap();
        assert_eq!(json_rows(&counted), [[json!(6)]]);
    }
}

#[tokio::test]
async fn an_existing_session_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ctx = SessionContext::new();
    query(&ctx, "CREATE TABLE mine AS SELECT 1 AS one").await.unwrap();
    let id = ctx.session_id();
    let ctx = ctx.with_zarr();
    assert_eq!(ctx.session_id(), id);
    ctx.register_zarr("z", &address(&store), OpenOptions::default()).await.unwrap();
    let sql = format!("SELECT one, sum(z.low) FROM mine, z, '{store}/low' GROUP BY one");
    assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(1), json!(36.0)]]);
    // Teaching it twice changes nothing.
    let ctx = ctx.with_zarr();
    assert_eq!(rows(&ctx, "SELECT count(*) FROM z").await.unwrap(), [[json!(6)]]);
}

#[tokio::test]
async fn ddl_and_describe() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ctx = session(config());
    query(
        &ctx,
        &format!(
            "CREATE EXTERNAL TABLE t STORED AS ZARR LOCATION '{store}' OPTIONS ('zarr.dims' 'x,y')"
        ),
    )
    .await
    .unwrap();
    assert_eq!(
        rows(&ctx, "SELECT * FROM t LIMIT 3").await.unwrap(),
        [
            [json!(0), json!(0), json!(1.0), json!(1.0)],
            [json!(0), json!(1), json!(4.0), json!(1.0)],
            [json!(1), json!(0), json!(2.0), json!(2.0)]
        ]
    );
    let described = [
        [json!("y"), json!("Int64"), json!("NO")],
        [json!("x"), json!("Int64"), json!("NO")],
        [json!("full"), json!("Float64"), json!("YES")],
        [json!("low"), json!("Float64"), json!("YES")],
    ];
    assert_eq!(rows(&ctx, &format!("DESCRIBE '{store}'")).await.unwrap(), described);
    query(&ctx, &format!("CREATE VIEW v AS SELECT x, sum(full) AS s FROM '{store}' GROUP BY x"))
        .await
        .unwrap();
    assert_eq!(rows(&ctx, "SELECT sum(s) FROM v").await.unwrap(), [[json!(21.0)]]);
}

#[tokio::test]
async fn stores_of_other_object_stores() {
    let directory = tempfile::tempdir().unwrap();
    let local = store(directory.path());
    let memory = InMemory::new();
    for file in ["zarr.json", "full/zarr.json", "full/c/0/0", "low/zarr.json", "low/c/0"] {
        let bytes = std::fs::read(Path::new(&local).join(file)).unwrap();
        let path = object_store::path::Path::from(format!("data/store.zarr/{file}"));
        memory.put(&path, PutPayload::from(bytes)).await.unwrap();
    }
    let ctx = session(config());
    let url = url::Url::parse("memory://bucket").unwrap();
    ctx.register_object_store(&url, std::sync::Arc::new(memory));
    for (path, sum) in [("store.zarr", 21.0), ("store.zarr?dims=x,y&signature=x", 21.0)] {
        let sql = format!("SELECT sum(full) FROM 'memory://bucket/data/{path}'");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(sum)]]);
    }
}

#[tokio::test]
async fn intervals_meet_durations() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steps.zarr");
    let group = lsio_synthetic::write::GroupWriter::create(&path, json!({})).unwrap();
    let spec = lsio_synthetic::write::SyntheticArray {
        name: "step",
        data_type: "int64",
        dims: &[("n", 4)],
        chunks: &[],
        shards: None,
        compression: lsio_synthetic::write::Compression::None,
        fill_value: json!(0),
        attributes: json!({"units": "hours", "dtype": "timedelta64[s]"}),
    };
    group.whole_array(&spec, &[0_i64, 24, 36, 72]).unwrap();
    consolidate_if_unlisted(&path);
    let store = path.to_string_lossy();
    let ctx = session(config());
    for (condition, count) in [
        ("step <= INTERVAL '1 day'", 2),
        ("INTERVAL '36 hours' < step", 1),
        ("step BETWEEN INTERVAL '1 day' AND INTERVAL '2 days'", 2),
        ("step IN (INTERVAL '0 days', INTERVAL '3 days')", 2),
    ] {
        let sql = format!("SELECT count(*) FROM '{store}' WHERE {condition}");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(count)]], "{condition}");
    }
    let sql = format!("SELECT count(*) FROM '{store}' WHERE step < INTERVAL '1 month'");
    assert!(rows(&ctx, &sql).await.is_err_and(|e| e.to_string().contains("in days")));
}

#[tokio::test]
async fn zarr_and_other_paths_in_either_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let base = directory.path().to_string_lossy().into_owned();
    // Names in which other formats' extensions stand, but not at the end.
    for name in ["a.csv.zarr", "b.json.d", "plain"] {
        write_lower_rank(&directory.path().join(name));
    }
    let sessions = [
        SessionContext::new().with_zarr().enable_url_table(),
        SessionContext::new().enable_url_table().with_zarr(),
        SessionContext::new().enable_url_table().with_zarr().with_zarr(),
    ];
    for (number, ctx) in sessions.into_iter().enumerate() {
        let file = format!("{base}/copy{number}.parquet");
        query(&ctx, &format!("COPY (SELECT \"full\" AS f FROM '{store}') TO '{file}'"))
            .await
            .unwrap();
        assert_eq!(
            rows(&ctx, &format!("SELECT sum(f) FROM '{file}'")).await.unwrap(),
            [[json!(21.0)]]
        );
        for name in ["a.csv.zarr", "b.json.d", "plain"] {
            let sql = format!("SELECT sum(\"full\") FROM '{base}/{name}'");
            assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(21.0)]], "{name}");
        }
    }
}

#[tokio::test]
async fn types_follow_through_subqueries() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("days.zarr");
    let group = lsio_synthetic::write::GroupWriter::create(&path, json!({})).unwrap();
    let spec = lsio_synthetic::write::SyntheticArray {
        name: "time",
        data_type: "int64",
        dims: &[("time", 60)],
        chunks: &[],
        shards: None,
        compression: lsio_synthetic::write::Compression::None,
        fill_value: json!(0),
        attributes: json!({"units": "days since 2000-01-30", "calendar": "360_day"}),
    };
    group.whole_array(&spec, &(0_i64..60).collect::<Vec<_>>()).unwrap();
    consolidate_if_unlisted(&path);
    let store = path.to_string_lossy();
    let ctx = session(config());
    let inner =
        format!("SELECT date_trunc('day', time) AS d, count(*) AS n FROM '{store}' GROUP BY 1");
    for sql in [
        format!("SELECT max(date_part('day', d)) FROM ({inner})"),
        format!(
            "WITH days AS ({inner}) SELECT max(date_part('day', x.d)) FROM days AS x WHERE x.n = 1"
        ),
    ] {
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(30)]], "{sql}");
    }
}

#[tokio::test]
async fn metadata_in_the_root_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for name in ["full", "low"] {
        std::fs::remove_file(Path::new(&store).join(name).join("zarr.json")).unwrap();
    }
    // write_lower_rank doesn't consolidate: this does, by hand.
    let array = |dims: serde_json::Value, shape: serde_json::Value| {
        json!({
            "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "float64",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "dimension_names": dims, "attributes": {},
        })
    };
    std::fs::create_dir(Path::new(&store).join("sub")).unwrap();
    std::fs::rename(Path::new(&store).join("full"), Path::new(&store).join("sub/full")).unwrap();
    let group = json!({
        "zarr_format": 3, "node_type": "group", "attributes": {},
        "consolidated_metadata": {"kind": "inline", "must_understand": false, "metadata": {
            "low": array(json!(["x"]), json!([3])),
            "sub": {"zarr_format": 3, "node_type": "group", "attributes": {}},
            "sub/full": array(json!(["y", "x"]), json!([2, 3])),
        }},
    });
    std::fs::write(Path::new(&store).join("zarr.json"), group.to_string()).unwrap();
    let ctx = session(config());
    for (path, column, sum) in [
        ("", "low", 6.0),
        ("/low", "low", 6.0),
        ("/sub", "full", 21.0),
        ("/sub/full", "full", 21.0),
        ("?group=sub", "full", 21.0),
    ] {
        let sql = format!("SELECT sum({column}) FROM '{store}{path}'");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(sum)]], "{path}");
    }
}

/// The setting says how chunks are read, also those of tables that are registered already.
#[cfg(unix)]
#[tokio::test]
async fn the_engine_for_local_files() {
    use lsio_core::{Resources, object_store::path::Path, uring::Engine};

    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ctx = session(config());
    ctx.register_zarr("registered", &store, OpenOptions::default()).await.unwrap();
    let reads = |engine| {
        let counts = Resources::of_process().engines().files(engine).unwrap().counts();
        counts.direct_reads + counts.buffered_reads + counts.cached_reads
    };
    let chunk = Path::from_absolute_path(format!("{store}/full/c/0/0")).unwrap();
    for engine in Engine::NAMES {
        rows(&ctx, &format!("SET lsio.io_engine = '{engine}'")).await.unwrap();
        let before = reads(Engine::Pread);
        for table in ["registered", &format!("'{store}'")] {
            let sum = rows(&ctx, &format!("SELECT sum(full) FROM {table}")).await.unwrap();
            assert_eq!(sum, [[json!(21.0)]], "{engine}");
        }
        // Others may run at the same time, but none that reads with this one. What is in the page cache
        // is read without an engine.
        let files = Resources::of_process().engines().files(Engine::Auto).unwrap();
        let file = files.open_cached(&chunk);
        let cached = file.is_some_and(|file| file.is_cached(&(0..file.len())));
        let read = reads(Engine::Pread) > before;
        assert!(if engine == "pread" { read || cached } else { !read }, "{engine}");
    }
    let error = rows(&ctx, "SET lsio.io_engine = 'fast'").await.unwrap_err().to_string();
    assert!(error.contains("'fast'") && error.contains("auto, uring, pread"), "{error}");
    for used in ["fill", "never", "auto"] {
        rows(&ctx, &format!("SET lsio.page_cache = '{used}'")).await.unwrap();
        assert_eq!(
            rows(&ctx, "SHOW lsio.page_cache").await.unwrap(),
            [[json!("lsio.page_cache"), json!(used)]]
        );
        let sum = rows(&ctx, "SELECT sum(full) FROM registered").await.unwrap();
        assert_eq!(sum, [[json!(21.0)]], "{used}");
    }
    let error = rows(&ctx, "SET lsio.page_cache = 'some'").await.unwrap_err().to_string();
    assert!(error.contains("'some'") && error.contains("auto, fill, never"), "{error}");
}
