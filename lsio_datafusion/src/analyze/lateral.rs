//! The first rows of a subquery, for each row of another table.

use std::collections::HashMap;

use datafusion::{
    common::{
        Column, DFSchema, Result, TableReference,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    functions_window::expr_fn::row_number,
    logical_expr::{
        Expr, ExprFunctionExt as _, JoinType, LogicalPlan, LogicalPlanBuilder, SortExpr,
        expr_rewriter::NamePreserver, lit, utils::conjunction, when,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};

use super::reads_zarr;
use crate::walk::{reading, rewriting};

/// Rewrites `LATERAL (SELECT … WHERE … ORDER BY … LIMIT k)` and scalar subqueries with a LIMIT as joins, in
/// plans that read a Zarr table: for the latest row before a time, or the nearest. DataFusion 55.2 can't run
/// them.
///
/// The table's rows are numbered and joined on the subquery's condition; of each number's partners the first
/// are kept:
///
/// ```text
/// Projection                                              the table's columns, the subquery's
///   Filter: rank <= k
///     Window: rank = row_number() OVER (PARTITION BY row ORDER BY …)
///       Join: the subquery's condition
///         Window: row = row_number() OVER ()
///           the table
///         the subquery below its condition
/// ```
#[derive(Debug)]
pub struct LimitedLaterals;

impl AnalyzerRule for LimitedLaterals {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        if !reads_zarr(&plan)? {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(rewriting(&mut |plan| {
            if let Some(joined) = lateral_join(&plan)? {
                return Ok(Transformed::yes(joined));
            }
            scalar_subqueries(plan)
        }))
        .map(|rewritten| rewritten.data)
    }

    fn name(&self) -> &'static str {
        "zarr_limited_laterals"
    }
}

/// Relation of the new columns, a name that no table of a query has.
const RELATION: &str = "__lsio_lateral";

/// Rewrites a join with a lateral subquery that has a limit and refers to the table.
fn lateral_join(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Join(join) = plan else { return Ok(None) };
    let is_left = match join.join_type {
        JoinType::Inner => false,
        // A condition of the join itself would apply after the limit.
        JoinType::Left if join.filter.as_ref().is_none_or(is_true) => true,
        _ => return Ok(None),
    };
    if !join.on.is_empty() {
        return Ok(None);
    }
    let subquery = match join.right.as_ref() {
        LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
        other => other,
    };
    let LogicalPlan::Subquery(subquery) = subquery else { return Ok(None) };
    let names = join
        .right
        .schema()
        .iter()
        .map(|(relation, field)| (relation.cloned(), field.name().clone()));
    let Some(joined) = first_rows(&join.left, &subquery.subquery, names.collect(), is_left)? else {
        return Ok(None);
    };
    let joined = match &join.filter {
        Some(filter) if !is_left && !is_true(filter) => {
            LogicalPlanBuilder::from(joined).filter(filter.clone())?.build()?
        }
        _ => joined,
    };
    Ok(Some(joined))
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// Joins the scalar subqueries with a limit in a node's expressions to the node's input.
fn scalar_subqueries(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Filter(_)) {
        return Ok(Transformed::no(plan));
    }
    let [input] = plan.inputs()[..] else { return Ok(Transformed::no(plan)) };
    let columns = input.schema().columns();
    let mut joined = input.clone();
    let mut found = 0;
    let names = NamePreserver::new(&plan);
    let expressions = plan.expressions().into_iter().map(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_down(rewriting(&mut |expr| {
            let Expr::ScalarSubquery(subquery) = &expr else { return Ok(Transformed::no(expr)) };
            let column = (Some(TableReference::bare(RELATION)), format!("scalar_{found}"));
            let name = vec![column.clone()];
            Ok(match first_rows(&joined, &subquery.subquery, name, true)? {
                Some(with_value) => {
                    joined = with_value;
                    found += 1;
                    Transformed::yes(Expr::Column(Column::new(column.0, column.1)))
                }
                None => Transformed::no(expr),
            })
        }))?;
        Ok(name.restore(expr.data))
    });
    let expressions = expressions.collect::<Result<Vec<Expr>>>()?;
    if found == 0 {
        return Ok(Transformed::no(plan));
    }
    let is_filter = matches!(plan, LogicalPlan::Filter(_));
    let mut rewritten = plan.with_new_exprs(expressions, vec![joined])?;
    if is_filter {
        let columns = columns.into_iter().map(Expr::Column);
        rewritten = LogicalPlanBuilder::from(rewritten).project(columns)?.build()?;
    }
    Ok(Transformed::yes(rewritten))
}

/// Parts of a subquery.
#[derive(Default)]
struct SubqueryParts {
    conditions: Vec<Expr>,
    order: Vec<SortExpr>,
    skip: u64,
    fetch: Option<u64>,
    /// Output columns, in terms of the table and the base.
    columns: HashMap<Column, Expr>,
    /// Output columns in order.
    output: Vec<Expr>,
}

/// Joins the rows of `left` with the first rows of a subquery for each, under these column names; `None` if
/// the subquery has another form.
fn first_rows(
    left: &LogicalPlan,
    subquery: &LogicalPlan,
    names: Vec<(Option<TableReference>, String)>,
    is_left: bool,
) -> Result<Option<LogicalPlan>> {
    if !refers_out(subquery)? {
        return Ok(None);
    }
    let Some((base, nodes)) = chain(subquery)? else { return Ok(None) };
    let number = |what: &str| format!("{what}_{}", left.schema().fields().len());
    let relation = || Some(TableReference::bare(RELATION));
    let column = |name: String| Column::new(relation(), name);
    let (row, rank, matched) = (number("row"), number("rank"), number("matched"));

    // Renames the base's columns, as a table may be joined with itself.
    let mut parts = SubqueryParts::default();
    let mut projected = vec![lit(true).alias_qualified(relation(), &matched)];
    for (position, inner) in base.schema().columns().into_iter().enumerate() {
        let name = number(&format!("column_{position}"));
        projected.push(Expr::Column(inner.clone()).alias_qualified(relation(), &name));
        let renamed = Expr::Column(column(name));
        parts.output.push(renamed.clone());
        parts.columns.insert(inner, renamed);
    }
    let renamed = LogicalPlanBuilder::from(base.clone()).project(projected)?.build()?;
    for node in nodes.into_iter().rev() {
        if !parts.add(node, left.schema())? {
            return Ok(None);
        }
    }
    let Some(fetch) = parts.fetch else { return Ok(None) };
    if is_left && parts.skip > 0 {
        return Ok(None);
    }

    let numbered = row_number().alias_qualified(relation(), &row);
    let join_type = if is_left { JoinType::Left } else { JoinType::Inner };
    let condition = conjunction(parts.conditions).unwrap_or_else(|| lit(true));
    let numbered = LogicalPlanBuilder::from(left.clone()).window([numbered])?;
    let joined = numbered.join_on(renamed, join_type, [condition])?;
    let ranked = row_number()
        .partition_by(vec![Expr::Column(column(row))])
        .order_by(parts.order)
        .build()?
        .alias_qualified(relation(), &rank);
    let rank = Expr::Column(column(rank));
    let first =
        rank.clone().gt(lit(parts.skip)).and(rank.lt_eq(lit(parts.skip.saturating_add(fetch))));
    let has_partner = Expr::Column(column(matched));
    let mut output: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    for (expr, (relation, name)) in parts.output.into_iter().zip(names) {
        let is_plain = matches!(expr, Expr::Column(_)) || !is_left;
        let expr = if is_plain { expr } else { when(has_partner.clone(), expr).end()? };
        output.push(expr.alias_qualified(relation, name));
    }
    let plan = joined.window([ranked])?.filter(first)?.project(output)?.build()?;
    Ok(Some(plan))
}

/// The part of a subquery that doesn't refer to the table, and the nodes above it, topmost first; `None` if a
/// node has several inputs.
fn chain(subquery: &LogicalPlan) -> Result<Option<(&LogicalPlan, Vec<&LogicalPlan>)>> {
    let mut nodes = Vec::new();
    let mut node = subquery;
    while refers_out(node)? {
        let [input] = node.inputs()[..] else { return Ok(None) };
        nodes.push(node);
        node = input;
    }
    Ok(Some((node, nodes)))
}

fn refers_out(plan: &LogicalPlan) -> Result<bool> {
    let mut refers = false;
    plan.apply_with_subqueries(reading(&mut |plan| {
        refers |= plan.contains_outer_reference();
        Ok(if refers { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    }))?;
    Ok(refers)
}

impl SubqueryParts {
    /// Adds the next node above. Returns whether it could.
    fn add(&mut self, node: &LogicalPlan, table: &DFSchema) -> Result<bool> {
        let limited = self.fetch.is_some();
        match node {
            LogicalPlan::Projection(projection) => {
                let mut output = Vec::with_capacity(projection.expr.len());
                for expr in &projection.expr {
                    let Some(expr) = self.translate(expr, table)? else { return Ok(false) };
                    output.push(expr.unalias());
                }
                self.output = output;
                self.rename(node);
            }
            LogicalPlan::SubqueryAlias(_) => self.rename(node),
            LogicalPlan::Filter(filter) if !limited => {
                let Some(condition) = self.translate(&filter.predicate, table)? else {
                    return Ok(false);
                };
                self.conditions.push(condition);
            }
            LogicalPlan::Sort(sort) if !limited => {
                let mut order = Vec::with_capacity(sort.expr.len());
                for key in &sort.expr {
                    let Some(expr) = self.translate(&key.expr, table)? else { return Ok(false) };
                    order.push(SortExpr::new(expr, key.asc, key.nulls_first));
                }
                self.order = order;
                self.fetch = sort.fetch.map(|fetch| fetch as u64);
            }
            LogicalPlan::Limit(limit) if !limited => {
                let constant = |expr: &Option<Box<Expr>>| match expr.as_deref() {
                    None => Some(None),
                    Some(Expr::Literal(ScalarValue::Int64(value), _)) => {
                        value.map(|value| u64::try_from(value).ok()).or(Some(None))
                    }
                    Some(_) => None,
                };
                let (Some(skip), Some(Some(fetch))) =
                    (constant(&limit.skip), constant(&limit.fetch))
                else {
                    return Ok(false);
                };
                self.skip = skip.unwrap_or(0);
                self.fetch = Some(fetch);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Renames the output columns by a node's schema.
    fn rename(&mut self, node: &LogicalPlan) {
        let names = node.schema().columns().into_iter();
        self.columns = names.zip(self.output.iter().cloned()).collect();
    }

    /// Rewrites an expression of the subquery in terms of the table and the base; `None` if it has other
    /// columns.
    fn translate(&self, expr: &Expr, table: &DFSchema) -> Result<Option<Expr>> {
        let mut unknown = false;
        let translated = expr.clone().transform_down(rewriting(&mut |expr| {
            Ok(match expr {
                Expr::OuterReferenceColumn(_, column) if table.has_column(&column) => {
                    Transformed::new(Expr::Column(column), true, TreeNodeRecursion::Jump)
                }
                Expr::Column(column) => match self.columns.get(&column) {
                    Some(known) => Transformed::new(known.clone(), true, TreeNodeRecursion::Jump),
                    None => {
                        unknown = true;
                        Transformed::no(Expr::Column(column))
                    }
                },
                Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Unnest(_) => {
                    unknown = true;
                    Transformed::no(expr)
                }
                other => Transformed::no(other),
            })
        }))?;
        Ok((!unknown).then_some(translated.data))
    }
}
