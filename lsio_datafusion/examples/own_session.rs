//! The third door: Zarr in a session that someone else made, beside its own tables.
//!
//! ```text
//! cargo run -p lsio_datafusion --example own_session
//! ```

use std::sync::Arc;

use arrow::{
    array::{Float64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    error::Result,
    execution::SessionStateBuilder,
    prelude::{SessionConfig, SessionContext},
};
use lsio_datafusion::prelude::*;

#[path = "store/mod.rs"]
mod store;

/// Runs the example; the tests do so too.
///
/// # Errors
/// Those of the queries.
#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = store::write(directory.path())?;

    // A session as an application has it: here from its builder.
    let state = SessionStateBuilder::new()
        .with_config(SessionConfig::new().with_target_partitions(2))
        .with_default_features()
        .with_zarr()
        .build();
    let ctx = SessionContext::new_with_state(state);
    ctx.register_batch("stations", stations()?)?;

    ctx.register_zarr("era5", &store, OpenOptions::default()).await?;
    ctx.query(
        "SELECT name, avg(t2m) AS t2m
         FROM stations JOIN era5 ON lat = latitude AND lon = longitude
         GROUP BY name ORDER BY name",
    )
    .await?
    .show()
    .await?;

    // The same in DDL.
    ctx.query(&format!(
        "CREATE EXTERNAL TABLE raw STORED AS ZARR LOCATION '{store}' OPTIONS ('zarr.decode_times' 'false')"
    ))
    .await?
    .collect()
    .await?;
    ctx.query("SELECT min(time), max(time) FROM raw").await?.show().await
}

fn stations() -> Result<RecordBatch> {
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("lat", DataType::Float64, false),
        Field::new("lon", DataType::Float64, false),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(StringArray::from(vec!["north", "south"])),
            Arc::new(Float64Array::from(vec![60.0, -30.0])),
            Arc::new(Float64Array::from(vec![0.0, 120.0])),
        ],
    )?)
}
