//! Sessions, and results as JSON.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    thread,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    error::Result,
    prelude::{DataFrame, SessionConfig, SessionContext},
};
use futures::{StreamExt as _, future::BoxFuture, stream};
use lsio_datafusion::{LsioConfig, prelude::*};
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};
use serde_json::{Value, json};
use tokio::runtime;

use crate::storage::{self, Answered};

/// The workspace's directory.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A session with lsio's own settings, in which small chunks aren't taken together: the stores of
/// tests would be single tiles.
pub(crate) fn config() -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(true);
    let options = config.options_mut();
    options.extensions.insert(LsioConfig { tile_bytes: 0, ..LsioConfig::default() });
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.default_null_ordering = "nulls_last".to_owned();
    config
}

/// A session that knows Zarr and reads paths of other formats.
pub(crate) fn session(config: SessionConfig) -> SessionContext {
    SessionContext::new_with_config(config).with_zarr().enable_url_table()
}

/// Plans a query of local paths, of stores that may be behind a server.
pub(crate) async fn frame(ctx: &SessionContext, sql: &str) -> Result<DataFrame> {
    let addressed = storage::addressed(sql);
    if addressed == sql {
        return ctx.query(sql).await;
    }
    match ctx.query(&addressed).await {
        Err(error) if storage::needs_listing(sql, &error.to_string()) => {
            storage::note(Answered::Locally);
            ctx.query(sql).await
        }
        result => {
            storage::note(Answered::Remotely);
            result
        }
    }
}

/// The address of the store at a local path, which a test asks for without SQL.
pub(crate) fn address(path: &str) -> String {
    storage::note(Answered::Remotely);
    storage::address(path)
}

/// Runs `task` for each of these numbers, some at a time, and gives what they gave.
pub(crate) fn in_parallel<T: Send + 'static>(
    numbers: Range<u64>,
    task: impl Fn(u64) -> BoxFuture<'static, T>,
) -> Vec<T> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(4)
        // What happens there is the test's doing.
        .thread_name(thread::current().name().unwrap_or_default())
        .enable_all()
        .build()
        .unwrap();
    let tasks = stream::iter(numbers).map(|number| runtime.spawn(task(number)));
    runtime.block_on(tasks.buffer_unordered(4).map(|done| done.unwrap()).collect())
}

/// Runs a query.
pub(crate) async fn query(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    frame(ctx, sql).await?.collect().await
}

/// Runs a query and gives its rows as JSON: numbers, booleans and nulls as such, all else as text.
pub(crate) async fn rows(ctx: &SessionContext, sql: &str) -> Result<Vec<Vec<Value>>> {
    Ok(json_rows(&query(ctx, sql).await?))
}

pub(crate) fn json_rows(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Vec<Value>> = batch.columns().iter().map(json_column).collect();
        rows.extend((0..batch.num_rows()).map(|r| columns.iter().map(|c| c[r].clone()).collect()));
    }
    rows
}

fn json_column(array: &ArrayRef) -> Vec<Value> {
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).unwrap();
    let floats = array
        .data_type()
        .is_floating()
        .then(|| cast(array, &DataType::Float64).unwrap())
        .map(|floats| floats.as_primitive::<Float64Type>().clone());
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                return Value::Null;
            }
            let text = formatter.value(row).to_string();
            match (&floats, array.data_type()) {
                (Some(floats), _) => json!(floats.value(row)),
                (None, data_type) if data_type.is_integer() => {
                    json!(text.parse::<i128>().unwrap() as i64)
                }
                (None, DataType::Boolean) => json!(text == "true"),
                (None, _) => json!(text),
            }
        })
        .collect()
}

/// Whether two results are the same, doubles within a relative 1e-9.
pub(crate) fn same(actual: &[Vec<Value>], expected: &[Vec<Value>]) -> bool {
    actual.len() == expected.len()
        && actual
            .iter()
            .zip(expected)
            .all(|(a, e)| a.len() == e.len() && a.iter().zip(e).all(|(a, e)| same_value(a, e)))
}

fn same_value(actual: &Value, expected: &Value) -> bool {
    match (actual.as_f64(), expected.as_f64()) {
        (Some(actual), Some(expected)) => {
            actual == expected || (actual - expected).abs() <= 1e-9 * expected.abs()
        }
        _ => actual == expected,
    }
}

/// Writes a synthetic reanalysis of this many times, latitudes and longitudes, in chunks of this shape.
pub(crate) fn reanalysis_store(directory: &Path, shape: [u64; 3], chunks: [u64; 3]) -> String {
    let store = directory.join("store.zarr");
    let [times, latitudes, longitudes] = shape;
    let spec = Specification {
        times,
        latitudes,
        longitudes,
        chunks,
        shards: None,
        compression: Compression::Zstd(1),
        packed: false,
        one_chunk: false,
    };
    reanalysis::write(&store, &spec).unwrap();
    store.to_string_lossy().into_owned()
}
