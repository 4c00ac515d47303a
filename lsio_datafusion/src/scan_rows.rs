//! The rows of operators over a Zarr scan, in terms of its table.

use std::sync::Arc;

use datafusion::{
    datasource::source::DataSourceExec,
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column, split_conjunction},
    physical_plan::{
        ExecutionPlan, coalesce_partitions::CoalescePartitionsExec, coop::CooperativeExec,
        filter::FilterExec, projection::ProjectionExec, repartition::RepartitionExec,
    },
};

use crate::{ZarrSource, expression::substituted, refusal::Refusal};

/// Rows of a scan, with what operators above it compute of them.
#[derive(Clone, Debug)]
pub(crate) struct ScanRows {
    pub(crate) source: ZarrSource,
    /// Columns, as expressions over the table.
    pub(crate) columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Predicates beside those of the source.
    pub(crate) filters: Vec<Arc<dyn PhysicalExpr>>,
}

impl ScanRows {
    /// The rows of an operator.
    ///
    /// # Errors
    /// [`Refusal::Unsupported`] if they aren't rows of a scan, or only some that a limit decides on.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Self, Refusal> {
        if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
            let Some(source) = scan.data_source().downcast_ref::<ZarrSource>() else {
                return Err(Refusal::unsupported("it is over other rows"));
            };
            if source.limit().is_some() {
                return Err(Refusal::unsupported("it is over a LIMIT"));
            }
            if source.is_part() {
                return Err(Refusal::unsupported("it is over some of the tiles only"));
            }
            let columns = (0..scan.schema().fields().len())
                .filter_map(|index| Some(Arc::new(source.column(index)?) as Arc<dyn PhysicalExpr>));
            let columns = columns.collect();
            return Ok(Self { source: source.clone(), columns, filters: Vec::new() });
        }
        let children = plan.children();
        let ([input], true) = (children.as_slice(), is_transparent(plan)) else {
            let limit = if plan.fetch().is_some() { " with a LIMIT" } else { "" };
            return Err(Refusal::Unsupported(format!("it is over {}{limit}", plan.name())));
        };
        let mut rows = Self::of(input)?;
        let unknown =
            || Refusal::Unsupported(format!("{} names columns that its input lacks", plan.name()));
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let mut columns = Vec::new();
            for expr in projection.expr() {
                columns.push(rows.over_table(&expr.expr)?.ok_or_else(unknown)?);
            }
            rows.columns = columns;
        } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            for conjunct in split_conjunction(filter.predicate()) {
                let filter = rows.over_table(conjunct)?.ok_or_else(unknown)?;
                rows.filters.push(filter);
            }
            if let Some(picked) = filter.projection() {
                let columns: Option<Vec<_>> =
                    picked.iter().map(|&index| rows.columns.get(index).cloned()).collect();
                rows.columns = columns.ok_or_else(unknown)?;
            }
        }
        Ok(rows)
    }

    /// An expression over these columns as one over the table; `None` if it names others.
    pub(crate) fn over_table(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
    ) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        substituted(expr, |column: &Column| self.columns.get(column.index()).cloned())
    }
}

/// Whether an operator passes on rows unchanged, all or those for which predicates hold.
pub(crate) fn is_transparent(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let passes = plan.downcast_ref::<ProjectionExec>().is_some()
        || plan.downcast_ref::<FilterExec>().is_some()
        || plan.downcast_ref::<CooperativeExec>().is_some()
        || plan.downcast_ref::<CoalescePartitionsExec>().is_some()
        || plan.downcast_ref::<RepartitionExec>().is_some();
    passes && plan.fetch().is_none()
}
