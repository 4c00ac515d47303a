//! The object store for local files by itself: in any session, for any format.
//!
//! ```text
//! cargo run -p lsio_datafusion --example local_files
//! ```

use std::sync::Arc;

use datafusion::{
    error::Result,
    execution::object_store::ObjectStoreUrl,
    prelude::{CsvReadOptions, SessionContext},
};
use lsio_uring::UringFileSystem;

/// Runs the example; the tests do so too.
///
/// # Errors
/// Those of the query.
#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("stations.csv");
    std::fs::write(&path, "name,height\nnorth,12\nsouth,340\n")?;

    let files = UringFileSystem::new()?;
    println!("Local files are read with {}.", files.engine());

    let ctx = SessionContext::new();
    let url = ObjectStoreUrl::local_filesystem();
    ctx.register_object_store(url.as_ref(), Arc::new(files));
    ctx.read_csv(path.to_string_lossy().into_owned(), CsvReadOptions::new()).await?.show().await
}
