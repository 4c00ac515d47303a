//! The scan that takes the place of a join.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::{
    common::{JoinSide, internal_datafusion_err},
    datasource::source::DataSourceExec,
    error::Result,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, CaseExpr, Column, lit},
        utils::collect_columns,
    },
    physical_plan::{
        ExecutionPlan,
        joins::HashJoinExec,
        projection::{ProjectionExec, ProjectionExpr},
    },
};
use lsio_core::{Column as TableColumn, IndexMap, Table, dataset::Lookup};

use super::{
    keys::{KeyMaps, KeyPair, with_partner},
    sides::{Role, Sides},
};
use crate::{
    ZarrSource, expression::substituted, field_expr::FieldExpr, predicate::Predicate,
    refusal::Refusal,
};

/// The plan that takes the place of a join.
///
/// # Errors
/// [`Refusal::Unsupported`] with the reason why none does.
pub(super) fn folded(
    join: &HashJoinExec,
    sides: &Sides,
) -> Result<Arc<dyn ExecutionPlan>, Refusal> {
    let (anchor, partner) = (&sides.anchor.source, &sides.partner.source);
    let found = KeyMaps::new(&sides.pairs, anchor, partner)?;
    let KeyMaps { maps, rest, repeats, partner_nulls, anchor_nulls } = found;
    if sides.null_aware && (partner_nulls || anchor_nulls || !rest.is_empty()) {
        return Err(Refusal::unsupported("NOT IN over NULL keeps no row"));
    }
    let rest: Vec<&KeyPair> = rest.iter().map(|&position| &sides.pairs[position]).collect();
    let looks_up = matches!(sides.role, Role::Inner | Role::Outer)
        || !rest.is_empty()
        || !sides.conditions.is_empty()
        || !sides.partner.filters.is_empty()
        || partner.leaves_out_rows();
    if looks_up {
        fixed(&maps, repeats, &sides.pairs, partner)?;
    }
    // A dimension that is left free has a partner if it has any index.
    let maps: Vec<IndexMap> = maps
        .into_iter()
        .zip(partner.selection())
        .map(|(map, selected)| {
            map.unwrap_or_else(|| IndexMap::new(vec![], vec![], vec![selected.iter().next()]))
        })
        .collect();
    let mut folding = Folding::new(anchor, partner, &maps);
    let mut conditions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for pair in rest {
        let op = if pair.null_equals { Operator::IsNotDistinctFrom } else { Operator::Eq };
        let other = folding.over_joined(&pair.partner)?;
        conditions.push(Arc::new(BinaryExpr::new(Arc::clone(&pair.anchor), op, other)));
    }
    for filter in partner.filters().iter().map(Predicate::expr).chain(&sides.partner.filters) {
        conditions.push(folding.over_joined(filter)?);
    }
    for condition in &sides.conditions {
        for expr in condition.partner_exprs() {
            folding.add(expr)?;
        }
        conditions.push(condition.with(|expr| folding.known_over_joined(expr))?);
    }
    let has_conditions = !conditions.is_empty();
    let mut filters = sides.anchor.filters.clone();
    let mut selection = anchor.selection().to_vec();
    // Whether a cell has a partner; `None` where each has.
    let mut partnered: Option<Arc<dyn PhysicalExpr>> = None;
    match sides.role {
        Role::Inner => {
            selection = with_partner(&selection, &maps);
            if maps.iter().any(|map| map.has_absent(&selection)) {
                filters.push(folding.present());
            }
            filters.extend(conditions);
        }
        Role::Semi if conditions.is_empty() => {
            selection = with_partner(&selection, &maps);
            if maps.iter().any(|map| map.has_absent(&selection)) {
                filters.push(folding.present());
            }
        }
        role => {
            let misses = maps.iter().any(|map| map.has_absent(&selection));
            let present = misses.then(|| folding.present());
            partnered = present.into_iter().chain(conditions).reduce(and);
            match (role, &partnered) {
                (Role::Semi, Some(condition)) => filters.push(Arc::clone(condition)),
                (Role::Anti, Some(condition)) => filters.push(is_true(condition, false)?),
                (Role::Anti, None) => filters.push(lit(false)),
                _ => {}
            }
        }
    }
    let schema = join.join_schema();
    let exprs = outputs(join, sides, partnered.as_ref(), has_conditions, &mut folding)?;
    let Folding { columns, fields, .. } = folding;
    let table = Table { columns, ..(**anchor.table()).clone() };
    let metadata = anchor.table_schema().metadata().clone();
    let table_schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    let mut output: Vec<usize> =
        exprs.iter().flat_map(|expr| collect_columns(expr)).map(|c| c.index()).collect();
    output.sort_unstable();
    output.dedup();
    let nullable = nullable(&exprs, schema);
    let scan = output_schema(&table_schema, &output, &nullable);
    let source = anchor.clone().joined(Arc::new(table), table_schema, partner, selection)?;
    let source = source.with_lookup(lookup_text(&maps, anchor, partner));
    let source = source.with_output(output.clone(), scan, filters)?;
    let scan = DataSourceExec::from_data_source(source);
    let picked = join.projection.as_deref();
    let all: Vec<usize> = (0..exprs.len()).collect();
    let picked = picked.unwrap_or(&all).iter().filter_map(|&index| {
        let expr = over_output(exprs.get(index)?, &output);
        Some(expr.map(|expr| ProjectionExpr { expr, alias: schema.field(index).name().clone() }))
    });
    let picked = picked.collect::<Result<Vec<_>, Refusal>>()?;
    Ok(Arc::new(ProjectionExec::try_new(picked, scan)?))
}

/// Fails unless the keys fix each dimension of the partner to one index.
fn fixed(
    maps: &[Option<IndexMap>],
    repeats: Option<usize>,
    pairs: &[KeyPair],
    partner: &ZarrSource,
) -> Result<(), Refusal> {
    let dims = &partner.table().dims;
    if let Some(free) = maps.iter().position(Option::is_none) {
        let keys: Vec<String> = pairs.iter().map(|pair| pair.partner.to_string()).collect();
        return Err(Refusal::Unsupported(format!(
            "its keys ({}) leave {} free",
            keys.join(", "),
            dims[free].name
        )));
    }
    match repeats {
        Some(dim) => Err(Refusal::Unsupported(format!(
            "several indices of {} have the same key",
            dims[dim].name
        ))),
        None => Ok(()),
    }
}

/// Output columns of a join, as expressions over the joined table.
fn outputs(
    join: &HashJoinExec,
    sides: &Sides,
    partnered: Option<&Arc<dyn PhysicalExpr>>,
    has_conditions: bool,
    folding: &mut Folding<'_>,
) -> Result<Vec<Arc<dyn PhysicalExpr>>, Refusal> {
    let anchor = sides.anchor.columns.iter().cloned();
    match sides.role {
        Role::Semi | Role::Anti => return Ok(anchor.collect()),
        Role::Mark => {
            let mark = match partnered {
                Some(condition) => is_true(condition, true)?,
                None => lit(true),
            };
            return Ok(anchor.chain([mark]).collect());
        }
        Role::Inner | Role::Outer => {}
    }
    let own = sides.anchor.columns.len();
    let others = sides.partner.columns.len();
    let first = if sides.anchor_side == JoinSide::Right { 0 } else { own };
    let mut partner = Vec::with_capacity(others);
    for (number, expr) in sides.partner.columns.iter().enumerate() {
        let field = join.join_schema().field(first + number);
        let is_column = expr.downcast_ref::<Column>().is_some();
        let mut over = folding.over_joined(expr)?;
        // A column that is looked up is NULL by itself where there is no partner.
        let conditional = has_conditions || !is_column;
        if let (Role::Outer, Some(condition), true) = (sides.role, partnered, conditional) {
            let case = CaseExpr::try_new(None, vec![(Arc::clone(condition), over)], None)?;
            over = Arc::new(case);
        }
        let field: FieldRef = Arc::new(field.clone());
        partner.push(if is_column || sides.role == Role::Outer {
            FieldExpr::of(over, field)
        } else {
            over
        });
    }
    Ok(if sides.anchor_side == JoinSide::Right {
        partner.into_iter().chain(anchor).collect()
    } else {
        anchor.chain(partner).collect()
    })
}

/// Columns of the joined table, as they are needed.
struct Folding<'a> {
    partner: &'a ZarrSource,
    lookup: Lookup<'a>,
    columns: Vec<TableColumn>,
    fields: Vec<FieldRef>,
    /// Positions of the partner's columns.
    known: HashMap<usize, usize>,
    present: Option<usize>,
}

impl<'a> Folding<'a> {
    fn new(anchor: &ZarrSource, partner: &'a ZarrSource, maps: &'a [IndexMap]) -> Self {
        Self {
            partner,
            lookup: Lookup { dims: &partner.table().dims, maps },
            columns: anchor.table().columns.clone(),
            fields: anchor.table_schema().fields().iter().cloned().collect(),
            known: HashMap::new(),
            present: None,
        }
    }

    /// Adds the partner's columns that an expression names.
    fn add(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Result<(), Refusal> {
        for column in collect_columns(expr) {
            if self.known.contains_key(&column.index()) {
                continue;
            }
            let source = &self.partner.table().columns[column.index()];
            let looked_up = self.lookup.column(source, source.name.clone());
            self.columns.push(looked_up.map_err(Refusal::Unsupported)?);
            let field = self.partner.table_schema().field(column.index()).clone();
            // Cells without a partner are NULL before they are left out.
            self.fields.push(Arc::new(field.with_nullable(true)));
            self.known.insert(column.index(), self.columns.len() - 1);
        }
        Ok(())
    }

    /// An expression over the partner's table as one over the joined table.
    fn over_joined(
        &mut self,
        expr: &Arc<dyn PhysicalExpr>,
    ) -> Result<Arc<dyn PhysicalExpr>, Refusal> {
        self.add(expr)?;
        Ok(self.known_over_joined(expr)?)
    }

    fn known_over_joined(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let over = substituted(expr, |column| {
            let position = *self.known.get(&column.index())?;
            Some(Arc::new(Column::new(column.name(), position)))
        })?;
        over.ok_or_else(|| internal_datafusion_err!("columns of {expr} aren't looked up"))
    }

    /// Whether a cell has a partner.
    fn present(&mut self) -> Arc<dyn PhysicalExpr> {
        let position = *self.present.get_or_insert_with(|| {
            self.columns.push(self.lookup.present("has_partner".to_owned()));
            self.fields.push(Arc::new(Field::new("has_partner", DataType::Boolean, false)));
            self.columns.len() - 1
        });
        Arc::new(Column::new("has_partner", position))
    }
}

fn and(one: Arc<dyn PhysicalExpr>, other: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(one, Operator::And, other))
}

/// Whether a condition is true, or isn't: NULL is not.
fn is_true(condition: &Arc<dyn PhysicalExpr>, wanted: bool) -> Result<Arc<dyn PhysicalExpr>> {
    let case = vec![(Arc::clone(condition), lit(wanted))];
    Ok(Arc::new(CaseExpr::try_new(None, case, Some(lit(!wanted)))?))
}

/// Of each column that the output names as it is, whether it may be NULL.
fn nullable(exprs: &[Arc<dyn PhysicalExpr>], schema: &Schema) -> HashMap<usize, bool> {
    let columns = exprs.iter().zip(schema.fields()).filter_map(|(expr, field)| {
        Some((expr.downcast_ref::<Column>()?.index(), field.is_nullable()))
    });
    columns.collect()
}

fn output_schema(
    table_schema: &Schema,
    output: &[usize],
    nullable: &HashMap<usize, bool>,
) -> SchemaRef {
    let fields = output.iter().map(|position| {
        let field = table_schema.field(*position).clone();
        match nullable.get(position) {
            Some(nullable) => field.with_nullable(*nullable),
            None => field,
        }
    });
    let fields: Vec<Field> = fields.collect();
    Arc::new(Schema::new_with_metadata(fields, table_schema.metadata().clone()))
}

/// An expression over the joined table as one over columns of the output.
fn over_output(
    expr: &Arc<dyn PhysicalExpr>,
    output: &[usize],
) -> Result<Arc<dyn PhysicalExpr>, Refusal> {
    let over = substituted(expr, |column| {
        let position = output.binary_search(&column.index()).ok()?;
        Some(Arc::new(Column::new(column.name(), position)))
    })?;
    over.ok_or_else(|| Refusal::unsupported("its output names unknown columns"))
}

/// What is looked up, for people: the store, and the dimensions by which it is.
fn lookup_text(maps: &[IndexMap], anchor: &ZarrSource, partner: &ZarrSource) -> String {
    let name = |dim: &usize| anchor.table().dims[*dim].name.as_str();
    let by = maps.iter().zip(&partner.table().dims).map(|(map, dim)| {
        let own: Vec<&str> = map.dims().iter().map(name).collect();
        match own.as_slice() {
            [] => format!("{} at one index", dim.name),
            [own] if *own == dim.name => dim.name.clone(),
            own => format!("{} from {}", dim.name, own.join(" and ")),
        }
    });
    format!("{} by {}", partner.store(), by.collect::<Vec<_>>().join(", "))
}
