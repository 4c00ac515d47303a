//! The partner's columns, as columns of the joined table.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::{
    common::internal_datafusion_err,
    error::Result,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column},
        utils::collect_columns,
    },
};
use lsio_core::{Column as TableColumn, IndexMap, dataset::Lookup};

use super::sides::{PartnerPlan, Sides};
use crate::{ZarrSource, expression::substituted, prepared::PreparedColumn, refusal::Refusal};

/// Name of the column that says whether a cell has a partner.
const HAS_PARTNER: &str = "has_partner";

/// Columns of the joined table: the anchor's, and the partner's as they are needed.
pub(super) struct PartnerColumns<'a> {
    looked_up: LookedUp<'a>,
    pub(super) columns: Vec<TableColumn>,
    pub(super) fields: Vec<FieldRef>,
    /// Positions in the joined table of the partner's columns.
    known: HashMap<usize, usize>,
    present: Option<usize>,
}

/// What is looked up.
#[derive(Clone, Copy)]
pub(super) enum LookedUp<'a> {
    /// A scan's columns, through a map for each of its dimensions.
    Scan { partner: &'a ZarrSource, maps: &'a [IndexMap] },
    /// A plan's columns, which vary along these dimensions of the anchor.
    Plan { partner: &'a PartnerPlan, dims: &'a [usize] },
}

impl<'a> PartnerColumns<'a> {
    pub(super) fn new(anchor: &ZarrSource, looked_up: LookedUp<'a>) -> Self {
        Self {
            looked_up,
            columns: anchor.table().columns.clone(),
            fields: anchor.table_schema().fields().iter().cloned().collect(),
            known: HashMap::new(),
            present: None,
        }
    }

    /// An expression over the partner's columns as one over the joined table.
    pub(super) fn over_joined(
        &mut self,
        expr: &Arc<dyn PhysicalExpr>,
    ) -> Result<Arc<dyn PhysicalExpr>, Refusal> {
        for column in collect_columns(expr) {
            self.add(column.index())?;
        }
        Ok(self.known_over_joined(expr)?)
    }

    /// Conditions of keys that aren't in a map.
    pub(super) fn rest(
        &mut self,
        rest: &[usize],
        sides: &Sides,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>, Refusal> {
        let mut conditions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for pair in rest.iter().filter_map(|&position| sides.pairs.get(position)) {
            let op = if pair.null_equals { Operator::IsNotDistinctFrom } else { Operator::Eq };
            let other = self.over_joined(&pair.partner)?;
            conditions.push(Arc::new(BinaryExpr::new(Arc::clone(&pair.anchor), op, other)));
        }
        Ok(conditions)
    }

    /// Further conditions of the join.
    pub(super) fn conditions(
        &mut self,
        sides: &Sides,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>, Refusal> {
        let mut conditions = Vec::new();
        for condition in &sides.conditions {
            for expr in condition.partner_exprs() {
                self.over_joined(expr)?;
            }
            conditions.push(condition.with(|expr| self.known_over_joined(expr))?);
        }
        Ok(conditions)
    }

    /// Whether a cell has a partner.
    pub(super) fn present(&mut self) -> Arc<dyn PhysicalExpr> {
        let position = match self.present {
            Some(position) => position,
            None => {
                let name = HAS_PARTNER.to_owned();
                self.columns.push(match self.looked_up {
                    LookedUp::Scan { partner, maps } => {
                        Lookup { dims: &partner.table().dims, maps }.present(name)
                    }
                    LookedUp::Plan { dims, .. } => {
                        TableColumn::pending(name, dims.to_vec(), DataType::Boolean)
                    }
                });
                self.fields.push(Arc::new(Field::new(HAS_PARTNER, DataType::Boolean, true)));
                *self.present.insert(self.columns.len() - 1)
            }
        };
        Arc::new(Column::new(HAS_PARTNER, position))
    }

    /// What is looked up of a plan, by position in the joined table.
    pub(super) fn prepared(&self) -> Vec<(usize, PreparedColumn)> {
        let values =
            self.known.iter().map(|(&index, &position)| (position, PreparedColumn::Value(index)));
        let present = self.present.map(|position| (position, PreparedColumn::Present));
        values.chain(present).collect()
    }

    fn add(&mut self, index: usize) -> Result<(), Refusal> {
        if self.known.contains_key(&index) {
            return Ok(());
        }
        let (column, field) = match self.looked_up {
            LookedUp::Scan { partner, maps } => {
                let source = &partner.table().columns[index];
                let lookup = Lookup { dims: &partner.table().dims, maps };
                let column = lookup.column(source, source.name.clone());
                let field = partner.table_schema().field(index).clone();
                (column.map_err(Refusal::Unsupported)?, field)
            }
            LookedUp::Plan { partner, dims } => {
                let field = partner.plan.schema().field(index).clone();
                let (name, data_type) = (field.name().clone(), field.data_type().clone());
                (TableColumn::pending(name, dims.to_vec(), data_type), field)
            }
        };
        self.columns.push(column);
        // Cells without a partner are NULL before they are left out.
        self.fields.push(Arc::new(field.with_nullable(true)));
        self.known.insert(index, self.columns.len() - 1);
        Ok(())
    }

    fn known_over_joined(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let over = substituted(expr, |column| {
            let position = *self.known.get(&column.index())?;
            Some(Arc::new(Column::new(column.name(), position)))
        })?;
        over.ok_or_else(|| internal_datafusion_err!("columns of {expr} aren't looked up"))
    }
}
