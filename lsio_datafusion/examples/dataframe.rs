//! The second door: the DataFrame API.
//!
//! ```text
//! cargo run -p lsio_datafusion --example dataframe
//! ```

use datafusion::{
    error::Result,
    functions_aggregate::expr_fn::{avg, stddev},
    prelude::{SessionContext, col, lit},
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

    let ctx = SessionContext::new().with_zarr();
    ctx.read_zarr(&store, OpenOptions::default())
        .await?
        .filter(col("latitude").gt_eq(lit(0)))?
        .aggregate(
            vec![col("latitude")],
            vec![avg(col("t2m")).alias("mean"), stddev(col("t2m")).alias("deviation")],
        )?
        .sort(vec![col("latitude").sort(false, false)])?
        .limit(0, Some(5))?
        .show()
        .await
}
