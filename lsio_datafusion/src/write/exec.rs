//! [`ZarrWriteExec`]: writes the rows of its input as a Zarr group.

use std::{
    fmt::{self, Formatter},
    sync::Arc,
};

use arrow::{
    array::{RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{exec_err, internal_err, tree_node::TreeNodeRecursion},
    datasource::source::DataSourceExec,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions},
        metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::stream;
use lsio_core::{
    Location, OpenOptions, Resources,
    write::{Existing, Written},
};

use super::{
    format::WriteRequest,
    rows, slabs,
    tiles::{self, TilePlan},
};
use crate::{ZarrAggregateExec, ZarrSource, register::resolve};

/// Writes the rows of its input as a Zarr group, and returns their number.
///
/// The result of an aggregate in the scan is arrays over its keys, and a scan's tiles are boxes of its grid: these are
/// written as they are. Other rows are placed into a grid of their labels.
#[derive(Debug)]
pub(crate) struct ZarrWriteExec {
    input: Arc<dyn ExecutionPlan>,
    /// The target, as the user wrote it.
    url: String,
    request: Arc<WriteRequest>,
    resources: Resources,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// A write under way.
pub(super) struct Write {
    pub(super) input: Arc<dyn ExecutionPlan>,
    pub(super) request: Arc<WriteRequest>,
    pub(super) location: Location,
    pub(super) context: Arc<TaskContext>,
    pub(super) metrics: ExecutionPlanMetricsSet,
}

impl ZarrWriteExec {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        url: String,
        request: Arc<WriteRequest>,
        resources: Resources,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, url, request, resources, properties: Arc::new(properties), metrics }
    }

    fn over(&self, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Arc<dyn ExecutionPlan> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        let (request, resources) = (Arc::clone(&self.request), self.resources.clone());
        Arc::new(Self::new(input, self.url.clone(), request, resources))
    }

    /// What is written as it is, for people.
    fn producer(&self) -> &'static str {
        if slabs::is_dense(&self.input) {
            "slabs"
        } else if matches!(TilePlan::new(&self.input, &self.request), Ok(Some(_))) {
            "tiles"
        } else {
            "rows"
        }
    }
}

fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

/// Writes, and returns the number of rows.
async fn write(write: &Write) -> Result<u64> {
    let replaces = write.request.options.existing == Existing::Replace;
    if replaces && write.location.local_path().is_none() && reads(&write.input, &write.location) {
        return exec_err!(
            "'{}' is read by the query that would replace it, and in a bucket it is removed first: write to another name",
            write.location
        );
    }
    if let Some(count) = slabs::write(write).await? {
        return Ok(count);
    }
    if let Some(plan) = TilePlan::new(&write.input, &write.request)? {
        return tiles::write(write, plan).await;
    }
    rows::write(write).await
}

/// Whether a plan reads arrays at a location.
fn reads(plan: &Arc<dyn ExecutionPlan>, location: &Location) -> bool {
    let source = match plan.downcast_ref::<ZarrAggregateExec>() {
        Some(aggregate) => Some(aggregate.source()),
        None => plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|scan| scan.data_source().downcast_ref::<ZarrSource>()),
    };
    let columns = source.iter().flat_map(|source| &source.table().columns);
    let mut read = columns.filter_map(lsio_core::Column::variable);
    read.any(|variable| {
        let own = variable.location();
        own.name().starts_with(location.name()) || own.path().prefix_matches(location.path())
    }) || plan.children().into_iter().any(|input| reads(input, location))
}

impl Write {
    /// Counts what was written.
    pub(super) fn count(&self, written: &Written) {
        let counter = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, 0);
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        counter("chunks_written").add(count(written.chunks));
        counter("objects_written").add(count(written.objects));
        counter("bytes_written").add(count(written.bytes));
        MetricBuilder::new(&self.metrics)
            .gauge("peak_open_bytes", 0)
            .set(count(written.peak_bytes));
    }
}

impl DisplayAs for ZarrWriteExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter) -> fmt::Result {
        let target = lsio_core::cloud::public_text(&self.url);
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ZarrWriteExec: to={target}, input={}", self.producer())
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "to={target}")?;
                writeln!(f, "input={}", self.producer())
            }
        }
    }
}

impl ExecutionPlan for ZarrWriteExec {
    fn name(&self) -> &'static str {
        "ZarrWriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    // Arrays have an order of their own, so that a sort below is left out.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![true]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.over(children))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.over(children))
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("ZarrWriteExec has one partition, not {partition}");
        }
        let (input, request) = (Arc::clone(&self.input), Arc::clone(&self.request));
        let (url, resources, metrics) =
            (self.url.clone(), self.resources.clone(), self.metrics.clone());
        let count = async move {
            let runtime = context.runtime_env();
            let options = OpenOptions::default();
            let (location, _) = resolve(&url, options, &resources, &runtime).await?;
            let count = write(&Write { input, request, location, context, metrics }).await?;
            let column = Arc::new(UInt64Array::from(vec![count]));
            Ok(RecordBatch::try_new(count_schema(), vec![column])?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), stream::once(count))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
