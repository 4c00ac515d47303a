//! [`ZarrTable`]: a Zarr group or array as a DataFusion table.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    datasource::source::DataSourceExec,
    error::Result,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use futures::future::try_join_all;
use lsio_core::{Dataset, Location, OpenOptions, Table};

use crate::{
    config::LsioConfig,
    error::external,
    scan::{Reading, ZarrSource},
    schema::schema,
};

/// A Zarr group or array as a table: one row for each cell of its grid.
///
/// Opening one reads metadata. Coordinates are read when a query first names them.
#[derive(Debug)]
pub struct ZarrTable {
    dataset: Arc<Dataset>,
    table: Arc<Table>,
    schema: SchemaRef,
}

impl ZarrTable {
    /// Opens the group or array at a location.
    ///
    /// # Errors
    /// Those of [`Dataset::open`] and [`Dataset::table`], among them
    /// [`lsio_core::Error::SeveralGrids`].
    pub async fn open(location: &Location, options: &OpenOptions) -> lsio_core::Result<Self> {
        Self::new(Dataset::open(location, options).await?)
    }

    /// The table of a dataset.
    ///
    /// # Errors
    /// Those of [`Dataset::table`].
    pub fn new(dataset: Dataset) -> lsio_core::Result<Self> {
        let table = dataset.table()?;
        let schema = schema(&dataset, &table);
        Ok(Self { dataset: Arc::new(dataset), table: Arc::new(table), schema })
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The grid and the columns.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

#[async_trait]
impl TableProvider for ZarrTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let config = LsioConfig::of(state.config_options());
        let held_bytes = config.held_bytes();
        let is_local = self.dataset.location().local_path().is_some();
        let store = if is_local { Some(config.io_engine.store()?) } else { None };
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.table.columns.len()).collect(),
        };
        // The coordinates that the query names: the plan's statistics come from them, and later its
        // selections will.
        let rank = self.table.dims.len();
        let coordinates = columns
            .iter()
            .map(|&position| &self.table.columns[position])
            .filter(|column| column.role.is_coordinate() && column.is_held(rank, held_bytes));
        try_join_all(coordinates.map(lsio_core::Column::load)).await.map_err(external)?;

        let source = ZarrSource::try_new(
            self.dataset.location().name(),
            Arc::clone(&self.table),
            columns,
            &self.schema,
            Reading { held_bytes, store },
        )?;
        Ok(DataSourceExec::from_data_source(source.with_limit(limit)))
    }
}
