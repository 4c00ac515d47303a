//! The rows of operators over a Zarr scan, in terms of its table.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::datatypes::{Field, Schema};
use datafusion::{
    common::internal_datafusion_err,
    datasource::source::DataSourceExec,
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column, split_conjunction, utils::collect_columns},
    physical_plan::{
        ExecutionPlan,
        coalesce_partitions::CoalescePartitionsExec,
        coop::CooperativeExec,
        filter::FilterExec,
        projection::{ProjectionExec, ProjectionExpr},
        repartition::RepartitionExec,
        replace_children_if_necessary,
    },
};

use crate::{ZarrSource, expression::substituted, refusal::Refusal, repeated_names::unique_names};

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

/// A plan that computes expressions over a scan's table, with the names of a schema's columns, of the rows for which the
/// predicates over the table hold.
pub(crate) fn projected(
    source: ZarrSource,
    exprs: &[Arc<dyn PhysicalExpr>],
    schema: &Schema,
    filters: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut output: Vec<usize> =
        exprs.iter().flat_map(collect_columns).map(|column| column.index()).collect();
    output.sort_unstable();
    output.dedup();
    // A column that is passed on as it is has the field that the plan's column has.
    let passed = exprs.iter().zip(schema.fields()).filter_map(|(expr, field)| {
        Some((expr.downcast_ref::<Column>()?.index(), field.is_nullable()))
    });
    let nullable: HashMap<usize, bool> = passed.collect();
    let table_schema = source.table_schema();
    // Filters are pushed down by the names of columns.
    let names = output.iter().map(|position| table_schema.field(*position).name().as_str());
    let names = unique_names(names);
    let fields = output.iter().zip(&names).map(|(position, name)| {
        let field = table_schema.field(*position).clone().with_name(name);
        match nullable.get(position) {
            Some(nullable) => field.with_nullable(*nullable),
            None => field,
        }
    });
    let fields: Vec<Field> = fields.collect();
    let scan = Arc::new(Schema::new_with_metadata(fields, table_schema.metadata().clone()));
    let source = source.with_output(output.clone(), scan, filters)?;
    let scan = DataSourceExec::from_data_source(source);
    let mut own = Vec::with_capacity(exprs.len());
    for (expr, field) in exprs.iter().zip(schema.fields()) {
        let over = substituted(expr, |column| {
            let position = output.binary_search(&column.index()).ok()?;
            Some(Arc::new(Column::new(&names[position], position)))
        })?;
        let expr = over.ok_or_else(|| internal_datafusion_err!("{expr} isn't over the scan"))?;
        own.push(ProjectionExpr { expr, alias: field.name().clone() });
    }
    Ok(Arc::new(ProjectionExec::try_new(own, scan)?))
}

/// A projection of a scan with relations that reads no column more than it names: what a join or a window has passed on
/// beside them isn't broadcast to rows. `None` for other plans, and if there is nothing to leave out.
pub(crate) fn narrowed(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(projection) = plan.downcast_ref::<ProjectionExec>() else { return Ok(None) };
    let mut input = projection.input();
    while let Some(below) = input.downcast_ref::<ProjectionExec>() {
        input = below.input();
    }
    let scan = input.downcast_ref::<DataSourceExec>();
    let source = scan.and_then(|scan| scan.data_source().downcast_ref::<ZarrSource>());
    let Some(source) = source.filter(|source| source.is_related() && !source.is_ordered()) else {
        return Ok(None);
    };
    let rows = match ScanRows::of(plan) {
        Ok(rows) => rows,
        Err(Refusal::Unsupported(_)) => return Ok(None),
        Err(Refusal::Failed(error)) => return Err(error),
    };
    let named: HashSet<usize> =
        rows.columns.iter().flat_map(collect_columns).map(|column| column.index()).collect();
    if named.is_empty() || source.output().iter().all(|column| named.contains(column)) {
        return Ok(None);
    }
    projected(rows.source, &rows.columns, &plan.schema(), rows.filters).map(Some)
}

/// Notes something at the scan below a chain of operators.
pub(crate) fn noted(
    plan: &Arc<dyn ExecutionPlan>,
    note: &impl Fn(ZarrSource) -> ZarrSource,
) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>()
        && let Some(source) = scan.data_source().downcast_ref::<ZarrSource>()
    {
        let source = Arc::new(note(source.clone()));
        return Ok(Arc::new(scan.clone().with_data_source(source)));
    }
    match plan.children().as_slice() {
        [input] => {
            let input = noted(input, note)?;
            replace_children_if_necessary(Arc::clone(plan), vec![input])
        }
        _ => Ok(Arc::clone(plan)),
    }
}
