//! The sides of a join by their roles.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    common::{JoinSide, JoinType, NullEquality},
    error::Result,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, CastExpr, Column},
        split_conjunction,
        utils::collect_columns,
    },
    physical_expr_common::physical_expr::is_volatile,
    physical_plan::{ExecutionPlan, joins::HashJoinExec},
};

use super::keys::KeyPair;
use crate::{
    comparison::reads_zarr, expression::substituted, prepared::unique_columns, refusal::Refusal,
    scan_rows::ScanRows,
};

/// What becomes of the anchor's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A row stays if it has a partner.
    Inner,
    /// All rows stay; without a partner its columns are NULL.
    Outer,
    /// A row stays if it has a partner, whose columns aren't seen.
    Semi,
    /// A row stays if it has no partner.
    Anti,
    /// All rows stay, with whether they have a partner.
    Mark,
}

/// A join with one side as the anchor.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) role: Role,
    /// Side of the anchor.
    pub(super) anchor_side: JoinSide,
    pub(super) anchor: ScanRows,
    pub(super) partner: Partner,
    pub(super) pairs: Vec<KeyPair>,
    /// Further conditions on pairs of rows.
    pub(super) conditions: Vec<Condition>,
    /// Whether a NULL among the partner's keys keeps all rows out, as in NOT IN.
    pub(super) null_aware: bool,
}

/// The side that is looked up.
#[derive(Clone, Debug)]
pub(super) enum Partner {
    /// Rows of a scan, which columns see through index maps.
    Scan(Box<ScanRows>),
    /// Rows of another plan, which runs before the scan.
    Plan(PartnerPlan),
}

/// A plan whose rows are looked up.
#[derive(Clone, Debug)]
pub(super) struct PartnerPlan {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// Its columns.
    pub(super) columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Positions of the columns that no two rows have in common; `None` if only its rows can tell.
    pub(super) unique: Option<Vec<usize>>,
}

impl Partner {
    /// Its columns, as expressions over the scan's table or the plan's columns.
    pub(super) fn columns(&self) -> &[Arc<dyn PhysicalExpr>] {
        match self {
            Self::Scan(rows) => &rows.columns,
            Self::Plan(plan) => &plan.columns,
        }
    }

    /// The side of a join, for its anchor's partner.
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Self, Refusal> {
        let reason = match ScanRows::of(plan) {
            Ok(rows) => return Ok(Self::Scan(Box::new(rows))),
            Err(Refusal::Unsupported(reason)) => reason,
            Err(failed) => return Err(failed),
        };
        let unique = unique_columns(plan);
        if unique.is_none() && reads_zarr(plan)? {
            // Rows of a scan may be too many to be held.
            return Err(Refusal::Unsupported(format!("one side isn't rows of a scan: {reason}")));
        }
        let schema = plan.schema();
        let columns = schema.fields().iter().enumerate();
        let columns = columns.map(|(index, field)| {
            Arc::new(Column::new(field.name(), index)) as Arc<dyn PhysicalExpr>
        });
        let columns = columns.collect();
        Ok(Self::Plan(PartnerPlan { plan: Arc::clone(plan), columns, unique }))
    }

    fn rank(&self) -> usize {
        match self {
            Self::Scan(rows) => rows.source.table().dims.len(),
            Self::Plan(_) => 0,
        }
    }
}

/// A condition on a pair of rows: an expression over its own columns.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    expr: Arc<dyn PhysicalExpr>,
    columns: Vec<SideColumn>,
}

/// A column of one of the sides, as an expression over its table.
#[derive(Clone, Debug)]
enum SideColumn {
    Anchor(Arc<dyn PhysicalExpr>),
    Partner(Arc<dyn PhysicalExpr>),
}

impl Condition {
    /// The condition with columns of the sides; `partner` rewrites expressions over the partner's table.
    pub(super) fn with(
        &self,
        partner: impl Fn(&Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>, Refusal> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(match column {
                SideColumn::Anchor(expr) => Arc::clone(expr),
                SideColumn::Partner(expr) => partner(expr)?,
            });
        }
        let with = substituted(&self.expr, |column| columns.get(column.index()).cloned())?;
        with.ok_or_else(|| Refusal::unsupported("its condition names unknown columns"))
    }

    /// Expressions over the partner's table that it needs.
    pub(super) fn partner_exprs(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        self.columns.iter().filter_map(|column| match column {
            SideColumn::Partner(expr) => Some(expr),
            SideColumn::Anchor(_) => None,
        })
    }
}

impl Sides {
    /// The ways to see a join, the better one first: inner joins have two.
    ///
    /// # Errors
    /// [`Refusal::Unsupported`] if a side isn't a scan's rows, or for joins that keep the rows of both sides.
    pub(super) fn of(join: &HashJoinExec) -> Result<Vec<Self>, Refusal> {
        if ExecutionPlan::fetch(join).is_some() {
            return Err(Refusal::unsupported("it has a LIMIT"));
        }
        let left = Partner::of(join.left())?;
        let right = Partner::of(join.right())?;
        let (role, anchors) = match join.join_type() {
            JoinType::Inner => {
                let both = if right.rank() > left.rank() {
                    [JoinSide::Right, JoinSide::Left]
                } else {
                    [JoinSide::Left, JoinSide::Right]
                };
                (Role::Inner, both.to_vec())
            }
            JoinType::Left => (Role::Outer, vec![JoinSide::Left]),
            JoinType::Right => (Role::Outer, vec![JoinSide::Right]),
            JoinType::LeftSemi => (Role::Semi, vec![JoinSide::Left]),
            JoinType::RightSemi => (Role::Semi, vec![JoinSide::Right]),
            JoinType::LeftAnti => (Role::Anti, vec![JoinSide::Left]),
            JoinType::RightAnti => (Role::Anti, vec![JoinSide::Right]),
            JoinType::LeftMark => (Role::Mark, vec![JoinSide::Left]),
            JoinType::RightMark => (Role::Mark, vec![JoinSide::Right]),
            JoinType::Full => {
                return Err(Refusal::unsupported("it keeps rows without a partner of both sides"));
            }
        };
        let mut sides = Vec::new();
        for anchor_side in anchors {
            let (anchor, partner) = match anchor_side {
                JoinSide::Right => (&right, &left),
                _ => (&left, &right),
            };
            if let Partner::Scan(anchor) = anchor {
                let (anchor, partner) = (anchor.as_ref().clone(), partner.clone());
                sides.push(Self::with_anchor(join, role, anchor_side, anchor, partner)?);
            }
        }
        if sides.is_empty() {
            return Err(Refusal::unsupported("the side that keeps its rows isn't a scan"));
        }
        Ok(sides)
    }

    fn with_anchor(
        join: &HashJoinExec,
        role: Role,
        anchor_side: JoinSide,
        anchor: ScanRows,
        partner: Partner,
    ) -> Result<Self, Refusal> {
        let null_equals = join.null_equality() == NullEquality::NullEqualsNull;
        let unknown = || Refusal::unsupported("its keys name unknown columns");
        let mut pairs = Vec::new();
        for (left, right) in join.on() {
            let (own, other) = match anchor_side {
                JoinSide::Right => (right, left),
                _ => (left, right),
            };
            let own = anchor.over_table(own)?.ok_or_else(unknown)?;
            let other = substituted(other, |c| partner.columns().get(c.index()).cloned())?;
            let other = other.ok_or_else(unknown)?;
            if is_volatile(&own) || is_volatile(&other) {
                return Err(Refusal::unsupported("a key is another value each time"));
            }
            pairs.push(KeyPair { anchor: own, partner: other, null_equals });
        }
        let mut conditions = Vec::new();
        if let Some(filter) = join.filter() {
            let mut columns = Vec::new();
            for column in filter.column_indices() {
                let known = if column.side == anchor_side {
                    anchor.columns.get(column.index).cloned().map(SideColumn::Anchor)
                } else {
                    partner.columns().get(column.index).cloned().map(SideColumn::Partner)
                };
                columns.push(known.ok_or_else(unknown)?);
            }
            for conjunct in split_conjunction(filter.expression()) {
                if is_volatile(conjunct) {
                    return Err(Refusal::unsupported("a condition is another value each time"));
                }
                if let Some(pair) = pair(conjunct, &columns, filter.schema())? {
                    pairs.push(pair);
                    continue;
                }
                conditions.push(Condition { expr: Arc::clone(conjunct), columns: columns.clone() });
            }
        }
        let conditions = conditions.into_iter().map(Condition::compact);
        let conditions = conditions.collect::<Result<Vec<_>, Refusal>>()?;
        let null_aware = join.null_aware;
        Ok(Self { role, anchor_side, anchor, partner, pairs, conditions, null_aware })
    }
}

impl Condition {
    /// Keeps only the columns that are named.
    fn compact(self) -> Result<Self, Refusal> {
        let mut named: Vec<usize> = collect_columns(&self.expr).iter().map(Column::index).collect();
        named.sort_unstable();
        let expr = substituted(&self.expr, |column| {
            let position = named.binary_search(&column.index()).ok()?;
            Some(Arc::new(Column::new(column.name(), position)))
        })?;
        let columns: Option<Vec<_>> =
            named.iter().map(|&index| self.columns.get(index).cloned()).collect();
        match (expr, columns) {
            (Some(expr), Some(columns)) => Ok(Self { expr, columns }),
            _ => Err(Refusal::unsupported("its condition names unknown columns")),
        }
    }
}

/// Keys of a condition that is an equality of the two sides.
fn pair(
    condition: &Arc<dyn PhysicalExpr>,
    columns: &[SideColumn],
    schema: &Schema,
) -> Result<Option<KeyPair>, Refusal> {
    let Some(binary) = condition.downcast_ref::<BinaryExpr>() else { return Ok(None) };
    let null_equals = match binary.op() {
        Operator::Eq => false,
        Operator::IsNotDistinctFrom => true,
        _ => return Ok(None),
    };
    let mut sides: EqualSides = (Arc::clone(binary.left()), Arc::clone(binary.right()));
    for (mixed, alone) in [(binary.left(), binary.right()), (binary.right(), binary.left())] {
        if let Some(apart) = apart(mixed, alone, columns, schema)? {
            sides = apart;
        }
    }
    let (left, right) = (side(&sides.0, columns)?, side(&sides.1, columns)?);
    Ok(match (left, right) {
        (Some((true, anchor)), Some((false, partner)))
        | (Some((false, partner)), Some((true, anchor))) => {
            Some(KeyPair { anchor, partner, null_equals })
        }
        _ => None,
    })
}

/// Whether an expression is over the anchor, and the expression over its table; `None` if it is over both sides.
fn side(
    expr: &Arc<dyn PhysicalExpr>,
    columns: &[SideColumn],
) -> Result<Option<(bool, Arc<dyn PhysicalExpr>)>> {
    let named = collect_columns(expr);
    let mut own = named.iter().filter_map(|column| columns.get(column.index()));
    let Some(first) = own.next() else { return Ok(None) };
    let is_anchor = matches!(first, SideColumn::Anchor(_));
    if own.any(|column| matches!(column, SideColumn::Anchor(_)) != is_anchor) {
        return Ok(None);
    }
    let over = substituted(expr, |column| match columns.get(column.index())? {
        SideColumn::Anchor(expr) | SideColumn::Partner(expr) => Some(Arc::clone(expr)),
    })?;
    Ok(over.map(|expr| (is_anchor, expr)))
}

/// Both sides of an equality.
type EqualSides = (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>);

/// The sides of `a.time - f.lead = f.init`, as those of `a.time = f.init + f.lead`: a time and a duration are moved to
/// where their tables are alone. Sums of times and durations are exact.
fn apart(
    mixed: &Arc<dyn PhysicalExpr>,
    alone: &Arc<dyn PhysicalExpr>,
    columns: &[SideColumn],
    schema: &Schema,
) -> Result<Option<EqualSides>> {
    let Some(binary) = mixed.downcast_ref::<BinaryExpr>() else { return Ok(None) };
    let (time, duration) = (binary.left(), binary.right());
    let inverse = match binary.op() {
        Operator::Plus => Operator::Minus,
        Operator::Minus => Operator::Plus,
        _ => return Ok(None),
    };
    let (Some((of_time, _)), Some((of_duration, _)), Some((of_alone, _))) =
        (side(time, columns)?, side(duration, columns)?, side(alone, columns)?)
    else {
        return Ok(None);
    };
    if of_time == of_duration || of_alone != of_duration {
        return Ok(None);
    }
    let is_time = |expr: &Arc<dyn PhysicalExpr>| -> Result<bool> {
        Ok(matches!(expr.data_type(schema)?, DataType::Timestamp(..)))
    };
    // Months differ in length.
    let stored = match duration.downcast_ref::<CastExpr>() {
        Some(cast) => cast.expr(),
        None => duration,
    };
    let is_duration = matches!(stored.data_type(schema)?, DataType::Duration(_));
    let same = time.data_type(schema)? == alone.data_type(schema)?;
    if !is_duration || !same || !is_time(time)? {
        return Ok(None);
    }
    let moved = BinaryExpr::new(Arc::clone(alone), inverse, Arc::clone(duration));
    Ok(Some((Arc::clone(time), Arc::new(moved))))
}
