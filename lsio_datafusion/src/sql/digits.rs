//! Names that begin with a digit, which a parser took for a number and an alias.

use datafusion::{
    common::{
        DFSchema, Result, ScalarValue,
        config::ConfigOptions,
        plan_err,
        tree_node::{TreeNode as _, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan},
    optimizer::AnalyzerRule,
};

use crate::walk::reading;

/// Refuses `SELECT 2m_temperature` in DataFusion's own `ctx.sql` where there is such a column. sqlparser
/// 0.62's generic dialect takes it for `2 AS m_temperature`, a column of 2s.
#[derive(Debug)]
pub(crate) struct DigitNames;

impl AnalyzerRule for DigitNames {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(reading(&mut |node| {
            let names: Vec<String> = match node {
                LogicalPlan::Projection(projection) => {
                    let group = match projection.input.as_ref() {
                        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.as_slice(),
                        _ => &[],
                    };
                    projection.expr.iter().filter_map(|expr| numbered(expr, group)).collect()
                }
                _ => Vec::new(),
            };
            for name in names {
                if reads(node, &name)? {
                    return plan_err!(
                        "`{name}` is a number and an alias here, and there is a column of that name: write it in \
                         double quotes, \"{name}\", or run the query with `ctx.query`, which knows such \
                         names; a number needs another alias"
                    );
                }
            }
            Ok(TreeNodeRecursion::Continue)
        }))?;
        Ok(plan)
    }

    fn name(&self) -> &'static str {
        "zarr_digit_names"
    }
}

/// Name that a number and its alias may have been; the number may be a group key.
fn numbered(expr: &Expr, group: &[Expr]) -> Option<String> {
    let Expr::Alias(alias) = expr else { return None };
    let number = match alias.expr.as_ref() {
        Expr::Column(column) => {
            group.iter().find(|key| key.schema_name().to_string() == column.name)?
        }
        other => other,
    };
    match number {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) if *number >= 0 => {
            Some(format!("{number}{}", alias.name))
        }
        Expr::Literal(ScalarValue::UInt64(Some(number)), _) => {
            Some(format!("{number}{}", alias.name))
        }
        _ => None,
    }
}

/// Whether a node's input has a column of this name.
fn reads(node: &LogicalPlan, name: &str) -> Result<bool> {
    let mut found = false;
    node.apply(reading(&mut |below| {
        let has = |schema: &DFSchema| schema.fields().iter().any(|field| field.name() == name);
        found |= below.inputs().iter().any(|input| has(input.schema()));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    }))?;
    Ok(found)
}
