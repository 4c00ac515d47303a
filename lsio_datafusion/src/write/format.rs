//! Zarr as a file format of `COPY … TO`.

use std::{any::Any, collections::HashMap, fmt, sync::Arc};

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{
        GetExt, Statistics, not_impl_err, plan_err,
        tree_node::{TreeNode as _, TreeNodeRecursion},
    },
    datasource::{
        file_format::{
            FileFormat, FileFormatFactory, file_compression_type::FileCompressionType,
            file_type_to_format, format_as_file_type,
        },
        physical_plan::{FileOpener, FileScanConfig, FileSinkConfig, FileSource},
        table_schema::TableSchema,
    },
    error::Result,
    logical_expr::{LogicalPlan, dml::CopyTo},
    physical_expr::{LexRequirement, PhysicalExpr},
    physical_plan::{ExecutionPlan, metrics::ExecutionPlanMetricsSet},
};
use object_store::{ObjectMeta, ObjectStore};

use super::{exec::ZarrWriteExec, options::WriteOptions};
use crate::{LsioConfig, meaning};

/// Writes the rows of `COPY` as a Zarr group.
#[derive(Clone, Debug, Default)]
pub(crate) struct ZarrFormatFactory {
    request: Option<Arc<WriteRequest>>,
}

/// What a statement says of its target, and what its query says of the columns.
#[derive(Debug, Default)]
pub(crate) struct WriteRequest {
    pub(super) options: WriteOptions,
    /// Positions of the keys of the outermost aggregate.
    pub(super) keys: Option<Vec<usize>>,
    /// The column of a store whose attributes each column has.
    pub(super) sources: Vec<Option<FieldRef>>,
    /// The columns' names without those of tables: `avg(t2m)` for `avg(/data/era5.zarr.t2m)`.
    names: Vec<String>,
}

impl ZarrFormatFactory {
    /// The statement with all that its physical plan needs to know. `None` if it doesn't write Zarr, or knows it.
    ///
    /// # Errors
    /// If an option isn't known.
    pub(super) fn prepared(copy: &CopyTo, overwrite: bool) -> Result<Option<CopyTo>> {
        if !is_zarr(copy) {
            return Ok(None);
        }
        let factory = file_type_to_format(&copy.file_type)?;
        let own = (factory.as_ref() as &dyn Any).downcast_ref::<Self>();
        if own.is_none_or(|own| own.request.is_some()) {
            return Ok(None);
        }
        if !copy.partition_by.is_empty() {
            return plan_err!(
                "PARTITIONED BY is for tables of files: a Zarr array has chunks (the option chunks)"
            );
        }
        let columns = copy.input.schema().fields().len();
        let request = WriteRequest {
            options: WriteOptions::new(&copy.options, overwrite)?,
            keys: meaning::keys(&copy.input),
            sources: (0..columns).map(|at| meaning::source(&copy.input, at)).collect(),
            names: short_names(&copy.input)?,
        };
        let factory = Self { request: Some(Arc::new(request)) };
        let file_type = format_as_file_type(Arc::new(factory));
        let input = Arc::clone(&copy.input);
        let url = copy.output_url.clone();
        Ok(Some(CopyTo::new(input, url, Vec::new(), file_type, HashMap::new())))
    }
}

impl WriteRequest {
    /// The columns of the rows that are written, under the names of their arrays.
    pub(super) fn fields(&self, schema: &Schema) -> Vec<Field> {
        let fields = schema.fields().iter().enumerate();
        let named = fields.map(|(at, field)| match self.names.get(at) {
            Some(name) => field.as_ref().clone().with_name(name),
            None => field.as_ref().clone(),
        });
        named.collect()
    }
}

/// The names of a plan's columns, without the names of its tables where they are told apart without them.
fn short_names(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut tables: Vec<String> = Vec::new();
    plan.apply(|node| {
        match node {
            LogicalPlan::TableScan(scan) => tables.push(format!("{}.", scan.table_name)),
            LogicalPlan::SubqueryAlias(alias) => tables.push(format!("{}.", alias.alias)),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // The longest first: one name may end with another.
    tables.sort_by_key(|table| std::cmp::Reverse(table.len()));
    let names: Vec<&String> = plan.schema().fields().iter().map(|field| field.name()).collect();
    let short: Vec<String> = names
        .iter()
        .map(|name| tables.iter().fold((*name).clone(), |name, table| name.replace(table, "")))
        .collect();
    let is_own =
        |(at, name): (usize, &String)| short.iter().position(|own| own == name) == Some(at);
    Ok(if short.iter().enumerate().all(is_own) {
        short
    } else {
        names.into_iter().cloned().collect()
    })
}

/// Whether a statement writes Zarr.
pub(crate) fn is_zarr(copy: &CopyTo) -> bool {
    copy.file_type.get_ext().eq_ignore_ascii_case("zarr")
}

impl GetExt for ZarrFormatFactory {
    fn get_ext(&self) -> String {
        "zarr".to_owned()
    }
}

impl FileFormatFactory for ZarrFormatFactory {
    fn create(
        &self,
        _session: &dyn Session,
        _options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        Ok(self.default())
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        let request = self.request.clone().unwrap_or_default();
        Arc::new(ZarrWriter { request })
    }
}

#[derive(Debug)]
struct ZarrWriter {
    request: Arc<WriteRequest>,
}

#[async_trait]
impl FileFormat for ZarrWriter {
    fn get_ext(&self) -> String {
        "zarr".to_owned()
    }

    fn get_ext_with_compression(&self, _compression: &FileCompressionType) -> Result<String> {
        Ok("zarr".to_owned())
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(
        &self,
        _session: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        _objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        not_impl_err!("{UNREAD}")
    }

    async fn infer_stats(
        &self,
        _session: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        _schema: SchemaRef,
        _object: &ObjectMeta,
    ) -> Result<Statistics> {
        not_impl_err!("{UNREAD}")
    }

    async fn create_physical_plan(
        &self,
        _session: &dyn Session,
        _config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("{UNREAD}")
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        session: &dyn Session,
        config: FileSinkConfig,
        _order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let resources = LsioConfig::of(session.config_options()).resources();
        let plan =
            ZarrWriteExec::new(input, config.original_url, Arc::clone(&self.request), resources);
        Ok(Arc::new(plan))
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(Unread { schema, metrics: ExecutionPlanMetricsSet::new() })
    }
}

const UNREAD: &str = "Zarr is read by its own tables, not as files";

/// The source of files that DataFusion asks for; none are read.
#[derive(Clone)]
struct Unread {
    schema: TableSchema,
    metrics: ExecutionPlanMetricsSet,
}

impl FileSource for Unread {
    fn create_file_opener(
        &self,
        _store: Arc<dyn ObjectStore>,
        _config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        not_impl_err!("{UNREAD}")
    }

    fn table_schema(&self) -> &TableSchema {
        &self.schema
    }

    fn with_batch_size(&self, _batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(self.clone())
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "zarr"
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unread")
    }
}
