//! The first door: SQL. A path to a store is a table.
//!
//! ```text
//! cargo run -p lsio_datafusion --example sql
//! ```

use datafusion::{error::Result, prelude::SessionContext};
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
    let sql = format!(
        "SELECT date_trunc('day', time) AS day, avg(t2m) AS t2m, max(t2m) AS hottest
         FROM '{store}'
         WHERE latitude BETWEEN -10 AND 10
         GROUP BY day ORDER BY day"
    );
    ctx.query(&sql).await?.show().await?;

    // A path behind the store's names one variable, a `?` chooses options.
    let sql = format!("SELECT count(t2m) FROM '{store}/t2m?decode_times=false'");
    ctx.query(&sql).await?.show().await?;

    // What is in the store?
    let sql = format!("SELECT name, role, dims, units FROM zarr_variables('{store}')");
    ctx.query(&sql).await?.show().await
}
