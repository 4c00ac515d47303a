//! A store's metadata as tables: `zarr_variables('store')` and `zarr_attributes('store')`.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{ArrayRef, Int64Builder, ListBuilder, RecordBatch, StringBuilder, StringViewBuilder},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::plan_err,
    datasource::memory::MemorySourceConfig,
    error::Result,
    execution::runtime_env::RuntimeEnv,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
    scalar::ScalarValue,
};
use lsio_core::{
    Dataset, OpenOptions,
    dataset::{Attribute, Attributes},
};

use super::open_dataset;

/// Metadata listed by a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    /// One row for each variable.
    Variables,
    /// One row for each attribute of the group and of every variable.
    Attributes,
}

impl Metadata {
    pub(super) fn function_name(self) -> &'static str {
        match self {
            Self::Variables => "zarr_variables",
            Self::Attributes => "zarr_attributes",
        }
    }

    fn schema(self) -> SchemaRef {
        static VARIABLES: LazyLock<SchemaRef> = LazyLock::new(|| {
            let text = |name| Field::new(name, DataType::Utf8View, true);
            let list = |name, item| Field::new_list(name, Field::new_list_field(item, true), true);
            Arc::new(Schema::new(vec![
                text("name"),
                text("role"),
                text("data_type"),
                text("dtype"),
                list("dims", DataType::Utf8),
                list("shape", DataType::Int64),
                list("chunks", DataType::Int64),
                list("shards", DataType::Int64),
                text("codecs"),
                text("units"),
                text("standard_name"),
                text("long_name"),
                text("unreadable"),
            ]))
        });
        static ATTRIBUTES: LazyLock<SchemaRef> = LazyLock::new(|| {
            let text = |name| Field::new(name, DataType::Utf8View, true);
            Arc::new(Schema::new(vec![text("variable"), text("name"), text("value")]))
        });
        match self {
            Self::Variables => Arc::clone(&VARIABLES),
            Self::Attributes => Arc::clone(&ATTRIBUTES),
        }
    }

    fn batch(self, dataset: &Dataset) -> Result<RecordBatch> {
        let columns = match self {
            Self::Variables => variables(dataset),
            Self::Attributes => attributes(dataset),
        };
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

/// Table function over a store's metadata.
#[derive(Debug)]
pub(super) struct MetadataFunction {
    metadata: Metadata,
    runtime: Arc<RuntimeEnv>,
}

impl MetadataFunction {
    pub(super) fn new(metadata: Metadata, runtime: Arc<RuntimeEnv>) -> Self {
        Self { metadata, runtime }
    }
}

impl TableFunctionImpl for MetadataFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let location = match args.exprs() {
            [
                Expr::Literal(
                    ScalarValue::Utf8(Some(location)) | ScalarValue::Utf8View(Some(location)),
                    _,
                ),
            ] => location.clone(),
            _ => {
                let name = self.metadata.function_name();
                return plan_err!(
                    "{name} takes one text, the path or URL of a store: {name}('store.zarr')"
                );
            }
        };
        Ok(Arc::new(MetadataTable {
            metadata: self.metadata,
            location,
            runtime: Arc::clone(&self.runtime),
        }))
    }
}

/// Result of the function. Table functions are called in synchronous code, so the store is opened when the
/// table is scanned.
#[derive(Debug)]
struct MetadataTable {
    metadata: Metadata,
    location: String,
    runtime: Arc<RuntimeEnv>,
}

#[async_trait]
impl TableProvider for MetadataTable {
    fn schema(&self) -> SchemaRef {
        self.metadata.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = OpenOptions::default();
        let config = state.config_options();
        let dataset = open_dataset(&self.location, options, config, &self.runtime).await?;
        let batch = self.metadata.batch(&dataset)?;
        let plan =
            MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
}

fn variables(dataset: &Dataset) -> Vec<ArrayRef> {
    let texts = |value: &dyn Fn(&lsio_core::Variable) -> Option<String>| {
        let mut column = StringViewBuilder::new();
        for (variable, _) in dataset.variables() {
            column.append_option(value(variable));
        }
        Arc::new(column.finish()) as ArrayRef
    };
    let attribute = |key: &'static str| texts(&|v| v.text_attribute(key).map(str::to_owned));
    let sizes = |value: &dyn Fn(&lsio_core::Variable) -> Option<Vec<u64>>| {
        let mut column = ListBuilder::new(Int64Builder::new());
        for (variable, _) in dataset.variables() {
            column.append_option(
                value(variable).map(|sizes| sizes.into_iter().map(|s| i64::try_from(s).ok())),
            );
        }
        Arc::new(column.finish()) as ArrayRef
    };
    let mut roles = StringViewBuilder::new();
    let mut dims = ListBuilder::new(StringBuilder::new());
    for (variable, role) in dataset.variables() {
        roles.append_value(role.name());
        dims.append_value(variable.dims().iter().map(Some));
    }
    vec![
        texts(&|v| Some(v.name().to_owned())),
        Arc::new(roles.finish()),
        texts(&|v| v.unreadable().is_none().then(|| v.data_type().to_string())),
        texts(&|v| Some(v.layout().dtype.clone())),
        Arc::new(dims.finish()),
        sizes(&|v| Some(v.shape().to_vec())),
        sizes(&|v| Some(v.layout().inner_chunks.as_ref().unwrap_or(&v.layout().chunks).clone())),
        sizes(&|v| v.layout().inner_chunks.is_some().then(|| v.layout().chunks.clone())),
        texts(&|v| Some(v.layout().codecs.join(", "))),
        attribute("units"),
        attribute("standard_name"),
        attribute("long_name"),
        texts(&|v| v.unreadable().map(str::to_owned)),
    ]
}

fn attributes(dataset: &Dataset) -> Vec<ArrayRef> {
    let mut variables = StringViewBuilder::new();
    let mut names = StringViewBuilder::new();
    let mut values = StringViewBuilder::new();
    let mut append = |variable: Option<&str>, attributes: &Attributes| {
        for (name, value) in attributes.iter() {
            variables.append_option(variable);
            names.append_value(name);
            match value {
                Attribute::Text(text) => values.append_value(text),
                other => values.append_value(other.to_string()),
            }
        }
    };
    append(None, dataset.attributes());
    for (variable, _) in dataset.variables() {
        append(Some(variable.name()), variable.attributes());
    }
    vec![Arc::new(variables.finish()), Arc::new(names.finish()), Arc::new(values.finish())]
}
