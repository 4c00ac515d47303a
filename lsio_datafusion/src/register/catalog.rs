//! The session's catalogs, with paths as tables beside the registered ones.
//!
//! DataFusion's `DynamicFileCatalog` asks its factory last. Here Zarr is asked before other such catalogs,
//! which would read the metadata in a Zarr store as JSON files; registered tables still come first.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::{
        CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider, UrlTableFactory,
    },
    error::Result,
    logical_expr::TableType,
};

use lsio_core::Resources;

use super::home::expand_home;

#[derive(Debug)]
pub(super) struct UrlCatalogList {
    inner: Arc<dyn CatalogProviderList>,
    factory: Arc<dyn UrlTableFactory>,
    resources: Resources,
}

impl UrlCatalogList {
    pub(super) fn new(
        inner: Arc<dyn CatalogProviderList>,
        factory: Arc<dyn UrlTableFactory>,
        resources: Resources,
    ) -> Self {
        Self { inner, factory, resources }
    }
}

impl CatalogProviderList for UrlCatalogList {
    fn register_catalog(
        &self,
        name: String,
        catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        self.inner.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.inner.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let inner = self.inner.catalog(name)?;
        let (factory, resources) = (Arc::clone(&self.factory), self.resources.clone());
        Some(Arc::new(UrlCatalog { inner, factory, resources }))
    }
}

#[derive(Debug)]
struct UrlCatalog {
    inner: Arc<dyn CatalogProvider>,
    factory: Arc<dyn UrlTableFactory>,
    resources: Resources,
}

impl CatalogProvider for UrlCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.inner.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let inner = self.inner.schema(name)?;
        let (factory, resources) = (Arc::clone(&self.factory), self.resources.clone());
        Some(Arc::new(UrlSchema { inner, factory, resources }))
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(
        &self,
        name: &str,
        cascade: bool,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.deregister_schema(name, cascade)
    }
}

#[derive(Debug)]
struct UrlSchema {
    inner: Arc<dyn SchemaProvider>,
    factory: Arc<dyn UrlTableFactory>,
    resources: Resources,
}

#[async_trait]
impl SchemaProvider for UrlSchema {
    fn owner_name(&self) -> Option<&str> {
        self.inner.owner_name()
    }

    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.inner.table_exist(name) {
            return self.inner.table(name).await;
        }
        match self.factory.try_new(name).await? {
            Some(table) => Ok(Some(table)),
            None => self.inner.table(&expand_home(name, self.resources.environment())).await,
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        self.inner.table_type(name).await
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        self.inner.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.inner.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}
