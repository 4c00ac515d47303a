//! [`FieldExpr`]: an expression whose values are those of a given field.

use std::{
    fmt::{self, Formatter},
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, FieldRef, Schema},
};
use datafusion::{
    error::Result, logical_expr::ColumnarValue, physical_expr::PhysicalExpr,
    physical_plan::expressions::Column,
};

/// An expression in the place of a column: it keeps the column's metadata, which a computed expression lacks.
#[derive(Clone, Debug)]
pub(crate) struct FieldExpr {
    expr: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl FieldExpr {
    /// Gives an expression a field, unless it is a column and so has its own.
    pub(crate) fn of(expr: Arc<dyn PhysicalExpr>, field: FieldRef) -> Arc<dyn PhysicalExpr> {
        if expr.downcast_ref::<Column>().is_some() {
            return expr;
        }
        Arc::new(Self { expr, field })
    }
}

impl PartialEq for FieldExpr {
    fn eq(&self, other: &Self) -> bool {
        self.expr.eq(&other.expr) && self.field == other.field
    }
}

impl Eq for FieldExpr {}

impl Hash for FieldExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expr.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for FieldExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expr)
    }
}

impl PhysicalExpr for FieldExpr {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(self.field.is_nullable())
    }

    fn return_field(&self, _input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.expr.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.expr]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let expr = children.pop().unwrap_or_else(|| Arc::clone(&self.expr));
        Ok(Arc::new(Self { expr, field: Arc::clone(&self.field) }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt_sql(f)
    }
}
