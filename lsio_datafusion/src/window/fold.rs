//! The scan that takes the place of a window.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::{
    common::internal_datafusion_err,
    error::Result,
    physical_expr::{
        PhysicalExpr,
        expressions::{CaseExpr, Column, Literal},
        utils::collect_columns,
    },
};
use lsio_core::{
    Column as TableColumn, IndexMap, Table,
    dataset::{Lookup, Role},
};

use super::{
    call::WindowExprRef,
    lines::Lines,
    node::WindowNode,
    plan::{WindowColumn, planned},
    rule::ordered,
    whole::is_whole_aggregate,
};
use crate::{
    ZarrSource,
    expression::substituted,
    field_expr::FieldExpr,
    join::Folded,
    refusal::Refusal,
    scan_rows::{ScanRows, projected},
};

/// The plan that takes the place of a window: a scan with further columns, and above it the expressions that can't become
/// columns.
///
/// # Errors
/// [`Refusal::Unsupported`] with the reason why no expression becomes a column.
pub(super) fn folded(node: &WindowNode<'_>) -> Result<Folded, Refusal> {
    let rows = ScanRows::of(node.input)?;
    let (lines, columns) = planned(node, &rows)?;
    let mut reasons: Vec<String> = Vec::new();
    let mut folding = Folding::new(&rows.source, &lines);
    let mut exprs = rows.columns.clone();
    let mut fields: Vec<FieldRef> = node.input.schema().fields().iter().cloned().collect();
    // For each window expression its position among the columns, or among the expressions that stay.
    let mut places: Vec<Result<usize, usize>> = Vec::new();
    let mut staying: Vec<WindowExprRef> = Vec::new();
    for (expr, column) in node.exprs.iter().zip(columns) {
        let field = expr.field()?;
        let folded = column.and_then(|column| match folding.add(column, expr, &field) {
            Ok(folded) => Ok(Ok(folded)),
            Err(Refusal::Unsupported(reason)) => Err(reason),
            Err(Refusal::Failed(error)) => Ok(Err(error)),
        });
        match folded {
            Ok(folded) => {
                places.push(Ok(exprs.len()));
                exprs.push(folded?);
                fields.push(field);
            }
            Err(reason) => {
                // Those are looked up, or refused for another reason.
                if !is_whole_aggregate(expr) && !reasons.contains(&reason) {
                    reasons.push(reason);
                }
                places.push(Err(staying.len()));
                staying.push(Arc::clone(expr));
            }
        }
    }
    let reasons = reasons.join("; ");
    if staying.len() == node.exprs.len() {
        let whole = || "its frames are whole partitions".to_owned();
        return Err(Refusal::Unsupported(if reasons.is_empty() { whole() } else { reasons }));
    }
    let Folding { columns, table_fields, names, .. } = folding;
    let source = rows.source.clone();
    let table = Table { columns, ..(**source.table()).clone() };
    let metadata = source.table_schema().metadata().clone();
    let table_schema = Arc::new(Schema::new_with_metadata(table_fields, metadata.clone()));
    let mut source = source.with_table(Arc::new(table), table_schema)?.with_windows(&names);
    if !reasons.is_empty() {
        source = source.with_window_refusal(&reasons);
    }
    let schema = Schema::new_with_metadata(fields, node.input.schema().metadata().clone());
    let scan = projected(source, &exprs, &schema, rows.filters)?;
    if staying.is_empty() {
        return Ok(Folded { scan, prepared: None });
    }
    let inputs = rows.columns.len();
    let behind = exprs.len();
    let plan = node.with(staying, scan)?;
    let places = places.into_iter().map(|place| place.unwrap_or_else(|own| behind + own));
    let scan = ordered(plan, (0..inputs).chain(places))?;
    Ok(Folded { scan, prepared: None })
}

/// Columns of the table, as they come.
struct Folding<'a> {
    source: &'a ZarrSource,
    lines: &'a Lines,
    columns: Vec<TableColumn>,
    table_fields: Vec<FieldRef>,
    /// What is computed, for people.
    names: Vec<String>,
}

impl<'a> Folding<'a> {
    fn new(source: &'a ZarrSource, lines: &'a Lines) -> Self {
        Self {
            source,
            lines,
            columns: source.table().columns.clone(),
            table_fields: source.table_schema().fields().iter().cloned().collect(),
            names: Vec::new(),
        }
    }

    /// Adds the columns of a window expression. Returns its value, as an expression over the table.
    fn add(
        &mut self,
        column: WindowColumn,
        expr: &WindowExprRef,
        field: &FieldRef,
    ) -> Result<Arc<dyn PhysicalExpr>, Refusal> {
        let name = expr.name().to_owned();
        let value = match column {
            WindowColumn::Memory(values) => {
                let dims = vec![self.lines.dim];
                self.push(TableColumn::memory(name.clone(), Role::Data, dims, values), field)
            }
            WindowColumn::Running(running) => {
                let dims = running.dims().to_vec();
                self.push(TableColumn::derived(name.clone(), dims, Arc::new(running)), field)
            }
            WindowColumn::Shifted { map, value, default } => {
                let absent = map.has_absent(self.source.selection());
                let is_column = value.downcast_ref::<Column>().is_some();
                let maps = self.maps(&map);
                let value = self.shifted(&value, &maps, field)?;
                if absent && (default.is_some() || !is_column) {
                    let lookup = Lookup { dims: &self.source.table().dims, maps: &maps };
                    let present = lookup.present("is_present".to_owned());
                    let boolean = Arc::new(Field::new("is_present", DataType::Boolean, true));
                    let present = self.push(present, &boolean);
                    let default =
                        default.map(|v| Arc::new(Literal::new(v)) as Arc<dyn PhysicalExpr>);
                    Arc::new(CaseExpr::try_new(None, vec![(present, value)], default)?)
                } else {
                    value
                }
            }
        };
        self.names.push(name);
        Ok(FieldExpr::of(value, Arc::clone(field)))
    }

    fn push(&mut self, column: TableColumn, field: &FieldRef) -> Arc<dyn PhysicalExpr> {
        let expr = Column::new(&column.name, self.columns.len());
        let field = field.as_ref().clone().with_name(column.name.clone());
        self.columns.push(column);
        self.table_fields.push(Arc::new(field));
        Arc::new(expr)
    }

    /// For each dimension of the grid, the map to its indices.
    fn maps(&self, map: &IndexMap) -> Vec<IndexMap> {
        let dims = self.source.table().dims.iter().enumerate();
        dims.map(|(dim, size)| match dim == self.lines.dim {
            true => map.clone(),
            false => IndexMap::same(dim, size.size),
        })
        .collect()
    }

    /// An expression over the table with the values of other cells.
    fn shifted(
        &mut self,
        value: &Arc<dyn PhysicalExpr>,
        maps: &[IndexMap],
        field: &FieldRef,
    ) -> Result<Arc<dyn PhysicalExpr>, Refusal> {
        let is_column = value.downcast_ref::<Column>().is_some();
        let mut known: Vec<(usize, Arc<dyn PhysicalExpr>)> = Vec::new();
        for column in collect_columns(value) {
            let own = &self.source.table().columns[column.index()];
            let lookup = Lookup { dims: &self.source.table().dims, maps };
            let shifted = lookup.column(own, own.name.clone()).map_err(Refusal::Unsupported)?;
            let own = self.source.table_schema().field(column.index());
            let own = Arc::new(own.clone().with_nullable(true));
            let pushed = self.push(shifted, if is_column { field } else { &own });
            known.push((column.index(), pushed));
        }
        let replaced = substituted(value, |column| {
            let (_, expr) = known.iter().find(|(position, _)| *position == column.index())?;
            Some(Arc::clone(expr))
        })?;
        let unknown = || internal_datafusion_err!("columns of {value} aren't looked up");
        Ok(replaced.ok_or_else(unknown)?)
    }
}
