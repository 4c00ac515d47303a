//! [`ZarrTable`]: a Zarr group or array as a DataFusion table.

use std::sync::Arc;

use arrow::{array::Array as _, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, internal_err},
    datasource::source::DataSourceExec,
    error::Result,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};
use futures::future::{join, join_all, try_join_all};
use lsio_core::{Column, Dataset, Location, OpenOptions, Selection, Table};

use crate::{
    config::LsioConfig,
    error::external,
    predicate::{Predicate, is_selection, nearest_values, select},
    scan::{ScanSpec, ZarrSource},
    schema::schema,
    snapshot::{QueryScope, Snapshot, Snapshots},
};

/// A Zarr group or array as a table: one row for each cell of its grid.
///
/// Opening one reads metadata, and so does every query, as others may write to the store. Coordinates are
/// read when a query names them.
#[derive(Debug)]
pub struct ZarrTable {
    snapshots: Snapshots,
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

    /// Makes the table of a dataset.
    ///
    /// # Errors
    /// Those of [`Dataset::table`].
    pub fn new(dataset: Dataset) -> lsio_core::Result<Self> {
        let table = dataset.table()?;
        let schema = schema(&dataset, &table);
        Ok(Self { snapshots: Snapshots::new(dataset, table), schema })
    }

    /// Makes the table of a dataset that a query has just opened for itself.
    pub(crate) fn of_query(dataset: Dataset) -> lsio_core::Result<Self> {
        let table = Self::new(dataset)?;
        Ok(Self { snapshots: table.snapshots.for_a_query(), ..table })
    }

    /// Dataset as first opened.
    #[must_use]
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.snapshots.first().dataset
    }

    /// Coordinates that a query needs of a remote store, to be read while its metadata are read again: a round trip less.
    fn early(&self, columns: &[usize], filters: &[Expr], held_bytes: u64) -> Vec<&Column> {
        let location = self.dataset().location();
        if !location.link().is_remote() || location.is_in_archive() {
            return Vec::new();
        }
        let table = self.table();
        let rank = table.dims.len();
        let of_projection = columns.iter().filter_map(|&position| table.columns.get(position));
        let of_projection = of_projection.filter(|column| column.role.is_coordinate());
        let of_filters = filters.iter().flat_map(Expr::column_refs);
        let of_filters = of_filters
            .filter_map(|name| table.columns.iter().find(|column| column.name == name.name));
        let mut early: Vec<&Column> = Vec::new();
        for column in of_projection.chain(of_filters) {
            let is_new = !early.iter().any(|other| other.name == column.name);
            if is_new && column.is_held(rank, held_bytes) {
                early.push(column);
            }
        }
        early
    }

    /// Grid and columns as first opened.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.snapshots.first().table
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

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // The scan takes further filters when there is a physical plan.
        Ok(filters
            .iter()
            .map(|filter| match is_selection(filter, self.table()) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scope = state.config().get_extension::<QueryScope>();
        let config = LsioConfig::of(state.config_options());
        let is_local = self.dataset().location().local_path().is_some();
        let options = config.scan_options(is_local)?;
        let held_bytes = options.held_bytes;
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.table().columns.len()).collect(),
        };
        let early = self.early(&columns, filters, held_bytes);
        let snapshot = self.snapshots.of(scope.as_ref(), &early).await.map_err(external)?;
        let Snapshot { dataset, table } = snapshot;
        // Coordinates that the query names: the plan's statistics come from them, and selections from filters
        // that are pushed down later.
        let rank = table.dims.len();
        let coordinates = columns
            .iter()
            .map(|&position| &table.columns[position])
            .filter(|column| column.role.is_coordinate() && column.is_held(rank, held_bytes));
        let coordinates = try_join_all(coordinates.map(lsio_core::Column::load));
        if dataset.location().link().is_remote() {
            // Loads those of the filters at the same time. An error counts only if the column is needed, as
            // seen below.
            let named = filters.iter().flat_map(Expr::column_refs);
            let named = named.filter_map(|name| table.columns.iter().find(|c| c.name == name.name));
            let named = named.filter(|column| column.is_held(rank, held_bytes));
            let filters = join_all(named.map(lsio_core::Column::load));
            join(coordinates, filters).await.0.map_err(external)?;
        } else {
            coordinates.await.map_err(external)?;
        }

        let mut selection: Vec<Selection> =
            table.dims.iter().map(|dim| Selection::all(dim.size)).collect();
        let mut notes = Vec::new();
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        for filter in filters {
            if selection.iter().any(Selection::is_empty) {
                // No cell is left, so no further filter is evaluated.
                break;
            }
            let expr = state.create_physical_expr(filter.clone(), &schema)?;
            let predicate = Predicate::new(Arc::clone(&expr), &table, &self.schema)?;
            match select(&predicate, &table, held_bytes).await? {
                Some((dim, selected)) => selection[dim] = selection[dim].intersect(&selected),
                // The filter became a constant.
                None if predicate.columns().is_empty() => {
                    let holds = predicate.evaluate(Vec::new(), 1)?;
                    if !(holds.is_valid(0) && holds.value(0)) {
                        selection.iter_mut().for_each(|dim| *dim = Selection::default());
                    }
                }
                None => return internal_err!("the filter {filter} was taken for a selection"),
            }
            notes.extend(nearest_values(&expr, &table, &self.schema)?);
        }
        let mut spec = ScanSpec::new(&dataset, &table, columns);
        spec.selection = selection;
        let store = dataset.location().name();
        let source = ZarrSource::try_new(spec, store, table, Arc::clone(&self.schema), options)?;
        Ok(DataSourceExec::from_data_source(source.with_notes(&notes).with_limit(limit)))
    }
}
