//! Expressions over a table's columns, evaluated at their own rank.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{
        exec_err,
        tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion},
    },
    error::Result,
    functions::math::{abs, sqrt},
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, CaseExpr, CastExpr, Column, Literal, NegativeExpr},
        utils::collect_columns,
    },
    scalar::ScalarValue,
};
use lsio_core::{
    Table,
    read::{Rows, Tile, nan_to_null},
    reduce::{Arithmetic, Function, Operation},
};

use crate::{
    analyze::{POWER, ROOT},
    error::external,
    nan_as_null,
};

/// An expression over columns of a Zarr table.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// Expression over the table's columns, as shown to the user.
    expr: Arc<dyn PhysicalExpr>,
    /// Expression over a batch of its own columns.
    compact: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    columns: Vec<usize>,
    dims: Vec<usize>,
}

impl Expression {
    /// Wraps an expression over the table's columns.
    pub(crate) fn new(
        expr: Arc<dyn PhysicalExpr>,
        table: &Table,
        table_schema: &Schema,
    ) -> Result<Self> {
        let mut columns: Vec<usize> = collect_columns(&expr).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        let schema = Arc::new(table_schema.project(&columns)?);
        let compact = with_columns(&expr, |column| {
            let position = columns.binary_search(&column.index()).ok()?;
            Some(Column::new(column.name(), position))
        })?;
        let Some(compact) = compact else {
            return exec_err!("the columns of {expr} are not those of its table");
        };
        let dims = union(columns.iter().map(|&c| table.columns[c].dims.as_slice()));
        Ok(Self { expr, compact, schema, columns, dims })
    }

    /// Expression over the table's columns.
    pub(crate) fn expr(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }

    /// Positions of its columns in the table, ascending.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Dimensions along which it varies, ascending.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Type of its values.
    pub(crate) fn data_type(&self) -> Result<DataType> {
        self.compact.data_type(&self.schema)
    }

    /// Position in the table, if the expression is a column.
    pub(crate) fn as_column(&self) -> Option<usize> {
        self.expr.downcast_ref::<Column>().map(Column::index)
    }

    /// Evaluates the expression in a tile, at its own rank. `position` maps a column's position in the table
    /// to that in the tile.
    pub(crate) fn on(
        &self,
        tile: &Tile,
        position: impl Fn(usize) -> Option<usize>,
    ) -> Result<ArrayRef> {
        let positions: Vec<usize> = self.columns.iter().filter_map(|&c| position(c)).collect();
        let rows = tile.rows(&self.dims, &positions).map_err(external)?;
        self.evaluate(rows.slice(0, rows.len()).map_err(external)?, rows.len())
    }

    /// Evaluates the expression on rows of its columns.
    pub(crate) fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
        evaluate(&self.compact, &self.schema, columns, rows)
    }
}

/// Expression whose parts of lower rank are evaluated once for a tile instead of for each row.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    whole: Expression,
    /// The rest, over the columns followed by the parts.
    rest: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    columns: Vec<usize>,
    parts: Vec<Expression>,
    /// The rest for kernels, if it is arithmetic.
    arithmetic: Option<Arithmetic>,
    /// The whole as the only part, for rows of more dimensions than it has.
    alone: LonePart,
    /// Whether NaN among the values of `rest` and `arithmetic` is NULL.
    nan_is_null: bool,
}

/// Expression of one column, which holds the values of another expression.
#[derive(Clone, Debug)]
struct LonePart {
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    arithmetic: Option<Arithmetic>,
}

impl LonePart {
    fn new(data_type: DataType) -> Self {
        let is_float = matches!(data_type, DataType::Float32 | DataType::Float64);
        Self {
            expr: Arc::new(Column::new("part", 0)),
            schema: Arc::new(Schema::new(vec![Field::new("part", data_type, true)])),
            arithmetic: is_float.then_some(Arithmetic::Column(0)),
        }
    }
}

impl Ranked {
    pub(crate) fn new(
        expr: Arc<dyn PhysicalExpr>,
        table: &Table,
        table_schema: &Schema,
    ) -> Result<Self> {
        let whole = Expression::new(expr, table, table_schema)?;
        let mut parts: Vec<Expression> = Vec::new();
        // Parts follow all columns of the table until the used ones are known.
        let behind = table.columns.len();
        let rest = Arc::clone(whole.expr())
            .transform_down(|node| {
                let is_leaf = node.children().is_empty();
                let columns = collect_columns(&node);
                let dims = union(columns.iter().map(|c| table.columns[c.index()].dims.as_slice()));
                if !is_leaf && !columns.is_empty() && dims.len() < whole.dims().len() {
                    let part = parts.iter().position(|part| part.expr().eq(&node));
                    let position = match part {
                        Some(position) => position,
                        None => {
                            parts.push(Expression::new(node, table, table_schema)?);
                            parts.len() - 1
                        }
                    };
                    let column = Column::new("part", behind + position);
                    let column: Arc<dyn PhysicalExpr> = Arc::new(column);
                    return Ok(Transformed::new(column, true, TreeNodeRecursion::Jump));
                }
                // An expression that is evaluated on some rows only may fail on the others.
                let next = if is_leaf || evaluates_some(&node) {
                    TreeNodeRecursion::Jump
                } else {
                    TreeNodeRecursion::Continue
                };
                Ok(Transformed::new(node, false, next))
            })
            .data()?;
        let mut columns: Vec<usize> = collect_columns(&rest)
            .iter()
            .map(Column::index)
            .filter(|index| *index < behind)
            .collect();
        columns.sort_unstable();
        columns.dedup();
        let mut fields: Vec<Field> =
            columns.iter().map(|&column| table_schema.field(column).clone()).collect();
        for part in &parts {
            fields.push(Field::new("part", part.data_type()?, true));
        }
        let rest = with_columns(&rest, |column| {
            let position = match column.index().checked_sub(behind) {
                Some(part) => columns.len() + part,
                None => columns.binary_search(&column.index()).ok()?,
            };
            Some(Column::new(column.name(), position))
        })?;
        let Some(rest) = rest else {
            return exec_err!("the columns of {} are not those of its table", whole.expr());
        };
        let schema = Arc::new(Schema::new(fields));
        // Reductions find NaN anyway.
        let mut nan_is_null = false;
        let rest = match nan_as_null::inside(&rest) {
            Some(inner) => {
                nan_is_null = true;
                Arc::clone(inner)
            }
            None => rest,
        };
        let arithmetic = arithmetic(&rest, &schema, &mut nan_is_null)?;
        let alone = LonePart::new(whole.data_type()?);
        Ok(Self { whole, rest, schema, columns, parts, arithmetic, alone, nan_is_null })
    }

    /// Treats NaN as NULL where the expression is evaluated [`on`](Self::on) a tile.
    pub(crate) fn with_nan_as_null(self) -> Self {
        Self { nan_is_null: true, ..self }
    }

    /// Whether NaN among the values on a tile is NULL.
    pub(crate) fn nan_is_null(&self) -> bool {
        self.nan_is_null
    }

    /// Whether another expression has the same values.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.nan_is_null == other.nan_is_null && self.whole.expr.eq(&other.whole.expr)
    }

    /// The whole expression.
    pub(crate) fn whole(&self) -> &Expression {
        &self.whole
    }

    /// Column of the table and factor of lower rank, if the expression is their product in double precision.
    pub(crate) fn product(&self) -> Option<(usize, &Expression)> {
        let Some(Arithmetic::Combine(Operation::Multiply, one, other)) = &self.arithmetic else {
            return None;
        };
        let column = |side: &Arithmetic| match side {
            Arithmetic::Column(column) => Some((*column, false)),
            Arithmetic::Widen(of) => match **of {
                Arithmetic::Column(column) => Some((column, true)),
                _ => None,
            },
            _ => None,
        };
        let sides = [column(one)?, column(other)?];
        let is_part = |(column, _): &(usize, bool)| *column >= self.columns.len();
        let (part, _) = *sides.iter().find(|side| is_part(side) && !side.1)?;
        let (column, is_wide) = *sides.iter().find(|side| !is_part(side))?;
        let is_double = *self.schema.field(column).data_type() == DataType::Float64;
        let part = self.parts.get(part - self.columns.len())?;
        (is_wide || is_double).then(|| (self.columns[column], part))
    }

    /// Prepares the evaluation on the rows of a tile, as a grid of these dimensions. `position` maps a
    /// column's position in the table to that in the tile; the columns at `pieces` come a piece at a time
    /// instead.
    pub(crate) fn on(
        &self,
        tile: &Tile,
        dims: &[usize],
        position: impl Fn(usize) -> Option<usize>,
        pieces: &[usize],
    ) -> Result<Evaluation<'_>> {
        let positions = |columns: &[usize]| -> Vec<usize> {
            let there = columns.iter().filter(|column| !pieces.contains(column));
            there.filter_map(|&column| position(column)).collect()
        };
        let slots = |columns: &[usize]| -> Vec<Option<usize>> {
            columns.iter().map(|column| pieces.iter().position(|piece| piece == column)).collect()
        };
        let nan_is_null = self.nan_is_null;
        if let Some(values) = self.values_of_lower_rank(tile, dims, &position) {
            let LonePart { expr, schema, arithmetic } = &self.alone;
            let mut rows = tile.rows(dims, &[]).map_err(external)?;
            rows.push(values, self.whole.dims());
            let (arithmetic, slots) = (arithmetic.as_ref(), vec![None]);
            return Ok(Evaluation { expr, schema, arithmetic, nan_is_null, rows, slots });
        }
        let mut rows = tile.rows(dims, &positions(&self.columns)).map_err(external)?;
        for part in &self.parts {
            let Ok(values) = part.on(tile, &position) else {
                // The error may come from a row that isn't wanted.
                let rows = tile.rows(dims, &positions(self.whole.columns())).map_err(external)?;
                let Expression { compact, schema, columns, .. } = &self.whole;
                let slots = slots(columns);
                let expr = compact;
                return Ok(Evaluation { expr, schema, arithmetic: None, nan_is_null, rows, slots });
            };
            rows.push(values, part.dims());
        }
        let Self { rest, schema, arithmetic, .. } = self;
        let mut slots = slots(&self.columns);
        slots.resize(slots.len() + self.parts.len(), None);
        let arithmetic = arithmetic.as_ref();
        Ok(Evaluation { expr: rest, schema, arithmetic, nan_is_null, rows, slots })
    }
}

impl Ranked {
    /// Values at the expression's own rank, if that is lower than that of the rows. `None` for a column, which needs no
    /// evaluation, and where it fails: the error may come from a row that isn't wanted.
    fn values_of_lower_rank(
        &self,
        tile: &Tile,
        dims: &[usize],
        position: impl Fn(usize) -> Option<usize>,
    ) -> Option<ArrayRef> {
        let Self { whole, .. } = self;
        let is_lower = whole.dims().len() < dims.len();
        if !is_lower || whole.as_column().is_some() || whole.columns().is_empty() {
            return None;
        }
        whole.on(tile, position).ok()
    }
}

/// Expression on the rows of a tile.
#[derive(Debug)]
pub(crate) struct Evaluation<'a> {
    expr: &'a Arc<dyn PhysicalExpr>,
    schema: &'a SchemaRef,
    arithmetic: Option<&'a Arithmetic>,
    nan_is_null: bool,
    rows: Rows,
    /// For each column, the piece that it is; `None` for a column of the rows.
    slots: Vec<Option<usize>>,
}

/// Values of a column, and whether NaN among them is NULL.
pub(crate) type StoredColumn = (ArrayRef, bool);

impl Evaluation<'_> {
    /// The expression for kernels, over [`Evaluation::stored`].
    pub(crate) fn arithmetic(&self) -> Option<&Arithmetic> {
        self.arithmetic
    }

    /// Whether NaN among the values is NULL.
    pub(crate) fn nan_is_null(&self) -> bool {
        self.nan_is_null
    }

    /// For each operand, the piece that it is; `None` for the next one of [`Evaluation::others`].
    pub(crate) fn slots(&self) -> &[Option<usize>] {
        &self.slots
    }

    /// Operands that aren't pieces, on `len` rows from `start` on.
    pub(crate) fn others(&self, start: usize, len: usize) -> Result<Vec<StoredColumn>> {
        self.rows.stored(start, len).map_err(external)
    }

    /// Whether operands are slices of what is in memory: none is repeated over rows.
    pub(crate) fn has_slices(&self) -> bool {
        self.rows.are_slices()
    }

    /// Operands on `len` rows from `start` on.
    pub(crate) fn stored(
        &self,
        start: usize,
        len: usize,
        pieces: &[StoredColumn],
    ) -> Result<Vec<StoredColumn>> {
        let mut rows = self.others(start, len)?.into_iter();
        let columns = self.slots.iter().map(|slot| match slot {
            Some(piece) => pieces.get(*piece).cloned(),
            None => rows.next(),
        });
        match columns.collect() {
            Some(columns) => Ok(columns),
            None => exec_err!("a column of {} is missing", self.expr),
        }
    }

    /// Operands on `len` rows, with NULL in place of NaN where NaN is missing.
    pub(crate) fn columns(
        &self,
        start: usize,
        len: usize,
        pieces: &[StoredColumn],
    ) -> Result<Vec<ArrayRef>> {
        let stored = self.stored(start, len, pieces)?.into_iter();
        Ok(stored.map(|(values, nan_is_null)| nan_to_null(values, nan_is_null)).collect())
    }

    /// Evaluates the expression on rows of these columns.
    pub(crate) fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
        evaluate(self.expr, self.schema, columns, rows)
    }
}

/// Replaces the columns of an expression; `None` if `replace` lacks one.
pub(crate) fn with_columns(
    expr: &Arc<dyn PhysicalExpr>,
    replace: impl Fn(&Column) -> Option<Column>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    substituted(expr, |column| Some(Arc::new(replace(column)?)))
}

/// Replaces the columns of an expression by expressions; `None` if `replace` lacks one.
pub(crate) fn substituted(
    expr: &Arc<dyn PhysicalExpr>,
    replace: impl Fn(&Column) -> Option<Arc<dyn PhysicalExpr>>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let mut unknown = false;
    let replaced = Arc::clone(expr)
        .transform_up(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            Ok(match replace(column) {
                Some(other) => Transformed::yes(other),
                None => {
                    unknown = true;
                    Transformed::no(expr)
                }
            })
        })
        .data()?;
    Ok((!unknown).then_some(replaced))
}

/// Union of lists of dimensions, ascending.
pub(crate) fn union<'a>(dims: impl Iterator<Item = &'a [usize]>) -> Vec<usize> {
    let mut all: Vec<usize> = dims.flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn evaluate(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<ArrayRef> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
    expr.evaluate(&batch)?.into_array(rows)
}

/// Translates an expression for kernels: arithmetic on floats, `abs`, `sqrt` and the like. Where NaN of an
/// operand is NULL, NaN of the whole is: it propagates, and operators tested for NaN inside make none of
/// their own.
fn arithmetic(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
    nan_is_null: &mut bool,
) -> Result<Option<Arithmetic>> {
    let data_type = expr.data_type(schema)?;
    if !matches!(data_type, DataType::Float32 | DataType::Float64) {
        return Ok(None);
    }
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Ok(Some(Arithmetic::Column(column.index())));
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return Ok(match literal.value() {
            ScalarValue::Float32(Some(value)) => Some(Arithmetic::Single(*value)),
            ScalarValue::Float64(Some(value)) => Some(Arithmetic::Double(*value)),
            _ => None,
        });
    }
    if let Some(inner) = nan_as_null::inside(expr) {
        *nan_is_null = true;
        return arithmetic(inner, schema, nan_is_null);
    }
    let mut operand = |expr: &Arc<dyn PhysicalExpr>| -> Result<Option<Box<Arithmetic>>> {
        Ok(arithmetic(expr, schema, nan_is_null)?.map(Box::new))
    };
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return Ok(match (cast.expr().data_type(schema)?, data_type) {
            (DataType::Float32, DataType::Float64) => operand(cast.expr())?.map(Arithmetic::Widen),
            (from, to) if from == to => operand(cast.expr())?.map(|of| *of),
            _ => None,
        });
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
        return Ok(operand(negative.arg())?.map(|of| Arithmetic::Apply(Function::Negate, of)));
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        // Compares types: a user's function may have the same name.
        let (function, of) = match (call.fun(), call.args()) {
            (fun, [of]) if *fun == **ROOT || *fun == *sqrt() => (Function::Root, of),
            (fun, [of]) if *fun == *abs() => (Function::Absolute, of),
            (fun, [of, exponent]) if *fun == **POWER && is_two(exponent) => (Function::Square, of),
            _ => return Ok(None),
        };
        if of.data_type(schema)? != data_type {
            return Ok(None);
        }
        return Ok(operand(of)?.map(|of| Arithmetic::Apply(function, of)));
    }
    let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(None) };
    let operation = match binary.op() {
        Operator::Plus => Operation::Add,
        Operator::Minus => Operation::Subtract,
        Operator::Multiply => Operation::Multiply,
        Operator::Divide => Operation::Divide,
        _ => return Ok(None),
    };
    for side in [binary.left(), binary.right()] {
        if side.data_type(schema)? != data_type {
            return Ok(None);
        }
    }
    let sides = operand(binary.left())?.zip(operand(binary.right())?);
    Ok(sides.map(|(one, other)| Arithmetic::Combine(operation, one, other)))
}

fn is_two(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let literal = expr.downcast_ref::<Literal>();
    literal.is_some_and(|literal| *literal.value() == ScalarValue::Float64(Some(2.0)))
}

/// Whether an expression evaluates its parts on some rows only.
fn evaluates_some(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return matches!(binary.op(), Operator::And | Operator::Or);
    }
    if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return function.fun().short_circuits();
    }
    expr.downcast_ref::<CaseExpr>().is_some()
}
