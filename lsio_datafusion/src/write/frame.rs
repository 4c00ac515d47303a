//! `write_zarr` beside DataFusion's own `write_parquet`.

use std::collections::HashMap;

use arrow::{array::AsArray as _, datatypes::UInt64Type};
use async_trait::async_trait;
use datafusion::{
    common::exec_datafusion_err, datasource::file_format::format_as_file_type, error::Result,
    logical_expr::LogicalPlanBuilder, prelude::DataFrame,
};

/// Writes a DataFrame as a Zarr group.
#[async_trait]
pub trait ZarrDataFrame: Sized {
    /// Writes the rows as a new Zarr group, and returns their number. `options` are those of `COPY … TO 'x.zarr'`: `dims`,
    /// `chunks`, `shards`, `codec`, `format`, `sparse`, `overwrite`.
    ///
    /// ```
    /// # use datafusion::prelude::SessionContext;
    /// use lsio_datafusion::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> datafusion::error::Result<()> {
    /// # let directory = tempfile::tempdir()?;
    /// # let target = directory.path().join("squares.zarr").to_string_lossy().into_owned();
    /// let ctx = SessionContext::new().with_zarr();
    /// let squares = ctx.query("SELECT value AS x, value * value AS y FROM range(0, 5)").await?;
    /// let rows = squares.write_zarr(&target, [("dims", "x"), ("chunks", "5")]).await?;
    /// assert_eq!(rows, 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If an option isn't known, something is at the target that may not be replaced, no column tells rows apart, or two
    /// rows have one cell.
    async fn write_zarr<'a>(
        self,
        target: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)> + Send,
    ) -> Result<u64>;

    /// The statement that writes, as a DataFrame of one row.
    ///
    /// # Errors
    /// If the session doesn't know Zarr.
    fn writing_zarr(self, target: &str, options: HashMap<String, String>) -> Result<DataFrame>;
}

#[async_trait]
impl ZarrDataFrame for DataFrame {
    async fn write_zarr<'a>(
        self,
        target: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)> + Send,
    ) -> Result<u64> {
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let written = self.writing_zarr(target, options.collect())?.collect().await?;
        let counts = written.iter().flat_map(|batch| batch.columns().first());
        Ok(counts
            .map(|count| count.as_primitive::<UInt64Type>().values().iter().sum::<u64>())
            .sum())
    }

    fn writing_zarr(self, target: &str, options: HashMap<String, String>) -> Result<DataFrame> {
        let (state, plan) = self.into_parts();
        let factory = state.get_file_format_factory("zarr").ok_or_else(|| {
            exec_datafusion_err!("the session can't write Zarr: it lacks SessionContext::with_zarr")
        })?;
        let file_type = format_as_file_type(factory);
        let plan =
            LogicalPlanBuilder::copy_to(plan, target.to_owned(), file_type, options, Vec::new())?;
        Ok(Self::new(state, plan.build()?))
    }
}
