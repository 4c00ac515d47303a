//! Cells in relation to other cells: an anomaly, two models compared, a lagged correlation, a rolling mean, and the days
//! over each cell's own percentile.
//!
//! ```text
//! cargo run -p lsio_datafusion --example relations
//! ```

use datafusion::{error::Result, prelude::SessionContext};
use lsio_datafusion::prelude::*;
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};

#[path = "store/mod.rs"]
mod store;

/// Runs the example; the tests do so too.
///
/// # Errors
/// Those of the queries.
#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let ctx = SessionContext::new().with_zarr();
    let store = store::write(directory.path())?;
    ctx.register_zarr("era5", &store, OpenOptions::default()).await?;

    // Another model, of the first day only, in other chunks.
    let model = directory.path().join("model.zarr");
    reanalysis::write(
        &model,
        &Specification {
            times: 24,
            latitudes: 19,
            longitudes: 36,
            chunks: [5, 19, 12],
            shards: None,
            compression: Compression::Zstd(3),
            packed: true,
            one_chunk: false,
        },
    )?;
    ctx.register_zarr("model", &model.to_string_lossy(), OpenOptions::default()).await?;

    for (title, sql) in [
        (
            "Anomalies: how far is the temperature from the mean of its hour?",
            "SELECT latitude, avg(abs(anomaly)) AS anomaly
             FROM (SELECT latitude, t2m - avg(t2m) OVER
                     (PARTITION BY date_part('hour', time), latitude, longitude) AS anomaly
                   FROM era5)
             GROUP BY latitude ORDER BY anomaly DESC LIMIT 5",
        ),
        (
            "Two models: how far are they from each other, where both have a value?",
            "SELECT date_trunc('day', time) AS day, avg(a.t2m - b.t2m) AS bias,
               sqrt(avg(power(a.t2m - b.t2m, 2))) AS rmse, count(*) AS cells
             FROM era5 a JOIN model b USING (time, latitude, longitude)
             GROUP BY day",
        ),
        (
            "Lagged correlation: where does the wind follow the temperature of 6 hours before?",
            "SELECT latitude, longitude, corr(u10, before) AS r
             FROM (SELECT latitude, longitude, u10,
                     lag(t2m, 6) OVER (PARTITION BY latitude, longitude ORDER BY time) AS before
                   FROM era5)
             GROUP BY latitude, longitude ORDER BY r DESC LIMIT 5",
        ),
        (
            "Rolling mean: which 24 hours were the warmest?",
            "SELECT time, latitude, longitude, day
             FROM (SELECT *, avg(t2m) OVER (PARTITION BY latitude, longitude ORDER BY time
                     ROWS BETWEEN 23 PRECEDING AND CURRENT ROW) AS day
                   FROM era5)
             WHERE time >= '2019-01-01T23:00:00'
             ORDER BY day DESC, time, latitude, longitude LIMIT 5",
        ),
        (
            "Days over each cell's own percentile",
            "WITH hot AS (
               SELECT latitude, longitude, percentile_cont(0.9) WITHIN GROUP (ORDER BY t2m) AS p90
               FROM era5 GROUP BY latitude, longitude)
             SELECT latitude, longitude, count(DISTINCT date_trunc('day', time)) AS days
             FROM era5 JOIN hot USING (latitude, longitude)
             WHERE t2m > p90
             GROUP BY latitude, longitude ORDER BY days, latitude, longitude LIMIT 5",
        ),
    ] {
        println!("{title}");
        ctx.query(sql).await?.show().await?;
    }
    Ok(())
}
