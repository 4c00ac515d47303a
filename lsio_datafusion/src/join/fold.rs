//! The scan that takes the place of a join.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::{
    common::JoinSide,
    error::{DataFusionError, Result},
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, CaseExpr, Column, lit},
    },
    physical_plan::{ExecutionPlan, joins::HashJoinExec},
};
use lsio_core::{Column as TableColumn, IndexMap, Table};

use super::{
    columns::{LookedUp, PartnerColumns},
    keys::{KeyMaps, KeyPair, prepared_keys, with_partner},
    sides::{Partner, PartnerPlan, Role, Sides},
};
use crate::{
    ZarrSource,
    field_expr::FieldExpr,
    predicate::Predicate,
    prepared::{Prepared, PreparedLookup, Slot},
    refusal::Refusal,
    scan_rows::{ScanRows, projected},
};

/// The plan that takes the place of a join, with a plan that runs before it.
pub(crate) struct Folded {
    pub(crate) scan: Arc<dyn ExecutionPlan>,
    pub(crate) prepared: Option<Prepared>,
}

/// The plan that takes the place of a join.
///
/// # Errors
/// [`Refusal::Unsupported`] with the reason why none does.
pub(super) fn folded(join: &HashJoinExec, sides: &Sides, checks: bool) -> Result<Folded, Refusal> {
    match &sides.partner {
        Partner::Scan(partner) => over_scan(join, sides, partner),
        Partner::Plan(partner) if partner.unique.is_none() && !checks => {
            Err(Refusal::unsupported("rows may have several partners"))
        }
        Partner::Plan(partner) => over_plan(join, sides, partner),
    }
}

/// A join with a scan: index maps.
fn over_scan(join: &HashJoinExec, sides: &Sides, rows: &ScanRows) -> Result<Folded, Refusal> {
    let (anchor, partner) = (&sides.anchor.source, &rows.source);
    if partner.waits() {
        return Err(Refusal::unsupported("what it would look up is looked up itself"));
    }
    let found = KeyMaps::new(&sides.pairs, anchor, partner)?;
    let KeyMaps { maps, rest, repeats, partner_nulls, anchor_nulls } = found;
    if sides.null_aware && (partner_nulls || anchor_nulls || !rest.is_empty()) {
        return Err(Refusal::unsupported("NOT IN over NULL keeps no row"));
    }
    let looks_up = matches!(sides.role, Role::Inner | Role::Outer)
        || !rest.is_empty()
        || !sides.conditions.is_empty()
        || !rows.filters.is_empty()
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
    let mut columns = PartnerColumns::new(anchor, LookedUp::Scan { partner, maps: &maps });
    let mut conditions = columns.rest(&rest, sides)?;
    for filter in partner.filters().iter().map(Predicate::expr).chain(&rows.filters) {
        conditions.push(columns.over_joined(filter)?);
    }
    conditions.extend(columns.conditions(sides)?);
    let mut selection = anchor.selection().to_vec();
    let selects = sides.role == Role::Inner || (sides.role == Role::Semi && conditions.is_empty());
    if selects {
        selection = with_partner(&selection, &maps);
    }
    let misses = maps.iter().any(|map| map.has_absent(&selection));
    let kept = Kept::new(sides, conditions, misses, &mut columns)?;
    let exprs = outputs(join, sides, &kept, &mut columns)?;
    let PartnerColumns { columns, fields, .. } = columns;
    let (table, table_schema) = joined_table(anchor, columns, fields);
    let source = anchor.clone().joined(table, table_schema, partner, selection)?;
    let source = source.with_lookup(lookup_text(&maps, anchor, partner));
    let scan = as_joined(join, &exprs, source, kept.filters)?;
    Ok(Folded { scan, prepared: None })
}

/// A join with the rows of another plan, which runs before the scan.
fn over_plan(join: &HashJoinExec, sides: &Sides, partner: &PartnerPlan) -> Result<Folded, Refusal> {
    let anchor = &sides.anchor.source;
    if sides.null_aware {
        return Err(Refusal::unsupported("it is NOT IN over rows that aren't a scan's"));
    }
    let found = prepared_keys(&sides.pairs, anchor, partner)?;
    let (keys, rest) = (found.keys, found.rest);
    let mut dims: Vec<usize> = keys.iter().flat_map(|key| key.dims.iter().copied()).collect();
    dims.sort_unstable();
    dims.dedup();
    let mut columns = PartnerColumns::new(anchor, LookedUp::Plan { partner, dims: &dims });
    let mut conditions = columns.rest(&rest, sides)?;
    conditions.extend(columns.conditions(sides)?);
    let kept = Kept::new(sides, conditions, true, &mut columns)?;
    let exprs = outputs(join, sides, &kept, &mut columns)?;
    let looked_up = columns.prepared();
    let PartnerColumns { columns, fields, .. } = columns;
    let (table, table_schema) = joined_table(anchor, columns, fields);
    let slot: Arc<Slot> = Arc::default();
    let names = keys.iter().map(|key| key.of_row.to_string()).collect::<Vec<_>>().join(", ");
    let unique = match &partner.unique {
        Some(_) => None,
        None => Some(keys.iter().map(|key| Arc::clone(&key.of_row)).collect()),
    };
    let lookup = PreparedLookup { slot: Arc::clone(&slot), keys, columns: looked_up };
    let source = anchor.clone().looking_up(table, table_schema, lookup)?;
    let source = source.with_lookup(format!("rows of a plan by {names}"));
    let scan = as_joined(join, &exprs, source, kept.filters)?;
    Ok(Folded { scan, prepared: Some(Prepared { plan: Arc::clone(&partner.plan), slot, unique }) })
}

/// Which rows of the anchor stay, and which have a partner.
struct Kept {
    /// Predicates over the joined table.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether a cell has a partner; `None` where each has.
    partnered: Option<Arc<dyn PhysicalExpr>>,
    has_conditions: bool,
}

impl Kept {
    /// `misses` is whether a cell may have no partner.
    fn new(
        sides: &Sides,
        conditions: Vec<Arc<dyn PhysicalExpr>>,
        misses: bool,
        columns: &mut PartnerColumns<'_>,
    ) -> Result<Self, Refusal> {
        let has_conditions = !conditions.is_empty();
        let mut filters = sides.anchor.filters.clone();
        let present = misses.then(|| columns.present());
        let mut partnered = None;
        if sides.role == Role::Inner {
            filters.extend(present);
            filters.extend(conditions);
        } else {
            partnered = present.into_iter().chain(conditions).reduce(and);
            match (sides.role, &partnered) {
                (Role::Semi, Some(condition)) => filters.push(Arc::clone(condition)),
                (Role::Anti, Some(condition)) => filters.push(is_true(condition, false)?),
                (Role::Anti, None) => filters.push(lit(false)),
                _ => {}
            }
        }
        Ok(Self { filters, partnered, has_conditions })
    }
}

fn joined_table(
    anchor: &ZarrSource,
    columns: Vec<TableColumn>,
    fields: Vec<FieldRef>,
) -> (Arc<Table>, SchemaRef) {
    let table = Table { columns, ..(**anchor.table()).clone() };
    let metadata = anchor.table_schema().metadata().clone();
    (Arc::new(table), Arc::new(Schema::new_with_metadata(fields, metadata)))
}

/// The scan's columns as those of the join.
fn as_joined(
    join: &HashJoinExec,
    exprs: &[Arc<dyn PhysicalExpr>],
    source: ZarrSource,
    filters: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn ExecutionPlan>, Refusal> {
    let schema = join.join_schema();
    let Some(picked) = join.projection.as_deref() else {
        return Ok(projected(source, exprs, schema, filters)?);
    };
    let exprs: Vec<_> = picked.iter().filter_map(|&index| exprs.get(index).cloned()).collect();
    Ok(projected(source, &exprs, &schema.project(picked).map_err(DataFusionError::from)?, filters)?)
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
    kept: &Kept,
    columns: &mut PartnerColumns<'_>,
) -> Result<Vec<Arc<dyn PhysicalExpr>>, Refusal> {
    let anchor = sides.anchor.columns.iter().cloned();
    match sides.role {
        Role::Semi | Role::Anti => return Ok(anchor.collect()),
        Role::Mark => {
            let mark = match &kept.partnered {
                Some(condition) => is_true(condition, true)?,
                None => lit(true),
            };
            return Ok(anchor.chain([mark]).collect());
        }
        Role::Inner | Role::Outer => {}
    }
    let first = match sides.anchor_side {
        JoinSide::Right => 0,
        _ => sides.anchor.columns.len(),
    };
    let mut partner = Vec::with_capacity(sides.partner.columns().len());
    for (number, expr) in sides.partner.columns().iter().enumerate() {
        let is_column = expr.downcast_ref::<Column>().is_some();
        let mut over = columns.over_joined(expr)?;
        // A column that is looked up is NULL by itself where there is no partner.
        let is_conditional = kept.has_conditions || !is_column;
        if let (Role::Outer, Some(condition), true) = (sides.role, &kept.partnered, is_conditional)
        {
            over = Arc::new(CaseExpr::try_new(None, vec![(Arc::clone(condition), over)], None)?);
            let field = join.join_schema().field(first + number).clone();
            over = FieldExpr::of(over, Arc::new(field));
        }
        partner.push(over);
    }
    Ok(match sides.anchor_side {
        JoinSide::Right => partner.into_iter().chain(anchor).collect(),
        _ => anchor.chain(partner).collect(),
    })
}

fn and(one: Arc<dyn PhysicalExpr>, other: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(one, Operator::And, other))
}

/// Whether a condition is true, or isn't: NULL is not.
fn is_true(condition: &Arc<dyn PhysicalExpr>, wanted: bool) -> Result<Arc<dyn PhysicalExpr>> {
    let case = vec![(Arc::clone(condition), lit(wanted))];
    Ok(Arc::new(CaseExpr::try_new(None, case, Some(lit(!wanted)))?))
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
