//! A scan's specification goes to bytes and back, and is opened in another process.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use datafusion::{
    datasource::source::DataSourceExec,
    physical_plan::{ExecutionPlan, collect},
    prelude::SessionContext,
};
use lsio_core::read::DimOrder;
use lsio_datafusion::{ScanSpec, ZarrSource};
use serde_json::Value;

use crate::harness::{config, frame, json_rows, reanalysis_store, session};

/// Says that this process is to open the specification in a directory.
const DIRECTORY: &str = "LSIO_TEST_SPECIFICATION";

fn store(directory: &Path, times: u64) -> String {
    reanalysis_store(directory, [times, 7, 11], [3, 4, 6])
}

/// The source of the only scan in a plan.
fn source(plan: &Arc<dyn ExecutionPlan>) -> ZarrSource {
    let mut plan = Arc::clone(plan);
    loop {
        if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
            return scan.data_source().downcast_ref::<ZarrSource>().unwrap().clone();
        }
        let child = Arc::clone(plan.children()[0]);
        plan = child;
    }
}

async fn planned(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    frame(ctx, sql).await.unwrap().create_physical_plan().await.unwrap()
}

async fn run(ctx: &SessionContext, source: ZarrSource) -> Vec<Vec<Value>> {
    let plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(source);
    let mut rows = json_rows(&collect(plan, ctx.task_ctx()).await.unwrap());
    rows.sort_by_cached_key(|row| format!("{row:?}"));
    rows
}

fn one_partition() -> SessionContext {
    session(config().with_target_partitions(1))
}

const QUERIES: [&str; 5] = [
    "SELECT * FROM '{}'",
    "SELECT v10, longitude, v10 AS again FROM '{}' WHERE latitude > 10 AND longitude < 200",
    "SELECT t2m FROM '{}' LIMIT 20",
    "SELECT time, u10 FROM '{}' ORDER BY time DESC LIMIT 1000",
    "SELECT latitude FROM '{}?variables=t2m&decode_times=text' WHERE date_part('hour', time) = 3",
];

#[tokio::test]
async fn specifications_are_opened_in_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), 20);
    let ctx = one_partition();
    for query in QUERIES {
        let source = source(&planned(&ctx, &query.replace("{}", &store)).await);
        let bytes = serde_json::to_vec(source.spec().unwrap()).unwrap();
        let back: ScanSpec = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(Some(&back), source.spec(), "{query}");

        fs::write(directory.path().join("specification"), &bytes).unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "specifications::opens_what_it_is_given", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stdout));
        let theirs = fs::read(directory.path().join("rows")).unwrap();
        let theirs: Vec<Vec<Value>> = serde_json::from_slice(&theirs).unwrap();
        let own = run(&ctx, source).await;
        assert!(!own.is_empty() && own == theirs, "{query}: {} {}", own.len(), theirs.len());
    }
}

/// The other process.
#[tokio::test]
async fn opens_what_it_is_given() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let bytes = fs::read(directory.join("specification")).unwrap();
    let ctx = one_partition();
    let spec: ScanSpec = serde_json::from_slice(&bytes).unwrap();
    let source = ZarrSource::open_spec(spec, &ctx.state()).await.unwrap();
    let rows = run(&ctx, source).await;
    fs::write(directory.join("rows"), serde_json::to_vec(&rows).unwrap()).unwrap();
}

#[tokio::test]
async fn parts_together_are_all_rows() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), 20);
    let ctx = one_partition();
    let sql = format!("SELECT time, latitude, t2m FROM '{store}' WHERE longitude > 30");
    let whole = source(&planned(&ctx, &sql).await);
    let all = run(&ctx, whole.clone()).await;
    let mut parts = Vec::new();
    for tiles in [0..3, 3..4, 4..4, 4..1_000] {
        let mut spec = whole.spec().unwrap().clone();
        spec.tiles = Some(tiles);
        let part = ZarrSource::open_spec(spec, &ctx.state()).await.unwrap();
        parts.push(run(&ctx, part).await);
    }
    assert!(parts[..2].iter().all(|part| !part.is_empty()) && parts[2].is_empty());
    let mut together = parts.concat();
    together.sort_by_cached_key(|row| format!("{row:?}"));
    assert_eq!(together, all);
}

#[tokio::test]
async fn specifications_of_other_stores_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = store(directory.path(), 20);
    let ctx = one_partition();
    let spec =
        source(&planned(&ctx, &format!("SELECT t2m FROM '{path}'")).await).spec().unwrap().clone();
    let wrong = |change: fn(&mut ScanSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        spec
    };
    for spec in [
        wrong(|spec| spec.output = vec![100]),
        wrong(|spec| spec.selection.truncate(1)),
        wrong(|spec| spec.selection[1] = lsio_core::Selection::all(100)),
        wrong(|spec| spec.order = vec![DimOrder::forward(3)]),
        wrong(|spec| spec.dataset.fingerprint += 1),
    ] {
        let error = ZarrSource::open_spec(spec, &ctx.state()).await.unwrap_err().to_string();
        assert!(error.contains("store.zarr") && error.contains("plan the query again"), "{error}");
    }
    fs::remove_dir_all(&path).unwrap();
    store(directory.path(), 21);
    let error = ZarrSource::open_spec(spec, &ctx.state()).await.unwrap_err().to_string();
    assert!(error.contains("it has changed since"), "{error}");
}
