//! `CREATE EXTERNAL TABLE … STORED AS ZARR LOCATION '…' OPTIONS ('zarr.…' '…', 'aws.…' '…')`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, TableProviderFactory},
    common::plan_err,
    error::Result,
    logical_expr::CreateExternalTable,
};
use lsio_core::OpenOptions;

use super::open_dataset;
use crate::{ZarrTable, error::external};

#[derive(Debug)]
pub(super) struct ZarrTableFactory;

#[async_trait]
impl TableProviderFactory for ZarrTableFactory {
    async fn create(
        &self,
        state: &dyn Session,
        command: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        if !command.schema.fields().is_empty() {
            return plan_err!(
                "a Zarr store says itself which columns it has: leave out the column list of '{}'",
                command.name
            );
        }
        if !command.table_partition_cols.is_empty() || !command.order_exprs.is_empty() {
            return plan_err!(
                "PARTITIONED BY and WITH ORDER don't apply to the Zarr table '{}'",
                command.name
            );
        }
        let [location] = command.locations.as_slice() else {
            return plan_err!(
                "the Zarr table '{}' needs one LOCATION, not {}",
                command.name,
                command.locations.len()
            );
        };
        let mut options = OpenOptions::default();
        let mut given: Vec<_> = command.options.iter().collect();
        given.sort();
        for (key, value) in given {
            // DataFusion prefixes keys without a namespace with `format.`.
            let key = key.strip_prefix("format.").unwrap_or(key);
            options.set(key.strip_prefix("zarr.").unwrap_or(key), value).map_err(external)?;
        }
        let (config, runtime) = (state.config_options(), state.runtime_env());
        let dataset = open_dataset(location, options, config, runtime).await?;
        Ok(Arc::new(ZarrTable::new(dataset).map_err(external)?))
    }
}
