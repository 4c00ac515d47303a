//! The plan of an aggregate over a Zarr scan.

use std::{any::Any, sync::Arc};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::{
    error::Result,
    functions_aggregate::{
        average::Avg,
        count::Count,
        min_max::{Max, Min},
        stddev::{Stddev, StddevPop},
        sum::Sum,
        variance::{VariancePopulation, VarianceSample},
    },
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateFunctionExpr,
        expressions::{CastExpr, Literal},
    },
    physical_expr_common::physical_expr::is_volatile,
    physical_plan::aggregates::AggregateExec,
};
use lsio_core::{
    Selection, Table,
    reduce::{Reduction, Wanted},
};

use super::{
    keys::{CellGroups, GroupKeys},
    masks::{self, Weights},
    refusal::Refusal,
};
use crate::{
    ZarrSource,
    expression::{Ranked, substituted, union},
    functions::aggregate::{Collect, CollectKind, Statistic, StatisticKind},
    nan_as_null,
    predicate::{ColumnPredicate, Predicate},
};

/// Aggregate over a Zarr scan, in terms of the table's columns.
#[derive(Clone, Debug)]
pub(super) struct Aggregation {
    /// Scan of the arguments' columns.
    pub(super) source: ZarrSource,
    pub(super) keys: GroupKeys,
    /// The groups, if planning knows them.
    pub(super) groups: Option<Arc<CellGroups>>,
    pub(super) arguments: Vec<Argument>,
    /// Functions computed by DataFusion's accumulators.
    pub(super) accumulated: Vec<Accumulated>,
    /// Results, in the order of the output.
    pub(super) functions: Vec<ResultSource>,
    /// Names of the functions.
    pub(super) names: Vec<String>,
    /// Conditions of FILTER clauses.
    pub(super) filters: Vec<Ranked>,
    /// Columns that are read chunk by chunk, if all of them may be decoded in pieces.
    pub(super) streamed: Vec<usize>,
    /// Predicates of the source that are evaluated here, piece by piece.
    pub(super) compared: Vec<ColumnPredicate>,
    /// Factor of each cell's count: indices of dimensions along which nothing varies.
    pub(super) weight: u64,
    /// Whether filters may drop rows of a tile.
    pub(super) masked: bool,
    pub(super) schema: SchemaRef,
    /// Whether the output is states, which an aggregate above merges.
    pub(super) states: bool,
    /// Positions of the output's columns in which NaN is NULL.
    pub(super) without_nan: Vec<usize>,
    /// Sums of weights that may cover other cells than the weighted values.
    pub(super) weights: Vec<Weights>,
}

/// Argument that kernels reduce.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    pub(super) values: ArgumentValues,
    /// Position of its FILTER.
    pub(super) filter: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum ArgumentValues {
    /// The rows themselves.
    Rows,
    /// Values that are counted.
    Valid(Ranked),
    /// Numbers.
    Numbers { expr: Ranked, data_type: DataType, wanted: Wanted },
    /// Numbers with weights.
    Weighted { value: Ranked, weight: Ranked },
}

/// Sums kept of weighted numbers.
pub(super) const WEIGHTED: Wanted =
    Wanted { sum: true, weights: true, integer_sum: false, min: false, max: false, moments: false };

impl ArgumentValues {
    /// Expressions of the values.
    pub(super) fn exprs(&self) -> Vec<&Ranked> {
        match self {
            Self::Rows => vec![],
            Self::Valid(expr) | Self::Numbers { expr, .. } => vec![expr],
            Self::Weighted { value, weight } => vec![value, weight],
        }
    }
}

/// Function computed by DataFusion's accumulator.
#[derive(Clone, Debug)]
pub(super) struct Accumulated {
    pub(super) function: Arc<AggregateFunctionExpr>,
    pub(super) arguments: Vec<Ranked>,
    pub(super) filter: Option<usize>,
}

/// Origin of a function's result.
#[derive(Clone, Copy, Debug)]
pub(super) enum ResultSource {
    /// Computed from an argument's reduction.
    Reduced { argument: usize, result: Reduced },
    /// Taken from an accumulator.
    Accumulated(usize),
}

/// Function computed from a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduced {
    Count,
    Sum,
    IntegerSum,
    Avg,
    Min,
    Max,
    WeightedAvg,
    /// Variance or standard deviation, of our own functions or DataFusion's.
    Variance {
        sample: bool,
        root: bool,
        own: bool,
    },
}

/// Input rows of an aggregate.
#[derive(Debug)]
pub(super) struct AggregateInput {
    pub(super) source: ZarrSource,
    /// Columns of the input, as expressions over the table.
    pub(super) columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Predicates beside those of the source.
    pub(super) filters: Vec<Arc<dyn PhysicalExpr>>,
}

impl Aggregation {
    /// Plans `aggregate` over `rows`. `schema` is that of the output: of states if `states` is set, of final
    /// values if not.
    pub(super) fn new(
        aggregate: &AggregateExec,
        rows: AggregateInput,
        schema: SchemaRef,
        states: bool,
    ) -> Result<Self, Refusal> {
        let by = aggregate.group_expr();
        if by.has_grouping_set() {
            return Err(Refusal::unsupported("it has several grouping sets"));
        }
        let AggregateInput { source, columns, filters } = rows;
        let (table, table_schema) = (Arc::clone(source.table()), Arc::clone(source.table_schema()));
        let over_table = |expr: &Arc<dyn PhysicalExpr>| -> Result<Ranked, Refusal> {
            let expr = substituted(expr, |column| columns.get(column.index()).cloned())?;
            match expr {
                Some(expr) if is_volatile(&expr) => Err(volatile(&expr)),
                Some(expr) => Ok(Ranked::new(expr, &table, &table_schema)?),
                None => Err(Refusal::unsupported("it names columns that its input lacks")),
            }
        };

        let mut keys = Vec::new();
        for (expr, name) in by.expr() {
            keys.push((over_table(expr)?.whole().clone(), name.clone()));
        }
        let mut conditions: Vec<Ranked> = Vec::new();
        let mut arguments: Vec<Argument> = Vec::new();
        let mut accumulated = Vec::new();
        let mut functions = Vec::new();
        for (function, filter) in aggregate.aggr_expr().iter().zip(aggregate.filter_expr()) {
            let filter = match filter {
                None => None,
                Some(filter) => {
                    let filter = over_table(filter)?;
                    let same = |other: &Ranked| other.whole().expr().eq(filter.whole().expr());
                    let known = conditions.iter().position(same);
                    if known.is_none() {
                        conditions.push(filter);
                    }
                    Some(known.unwrap_or(conditions.len() - 1))
                }
            };
            // The order of WITHIN GROUP is an argument.
            let needs_order = function.order_sensitivity().hard_requires()
                && !function.fun().supports_within_group_clause();
            if needs_order && !function.order_bys().is_empty() {
                let reason = format!("{} wants its rows in order", function.name());
                return Err(Refusal::Unsupported(reason));
            }
            let mut exprs = function.expressions();
            exprs.extend(function.order_bys().iter().map(|order| Arc::clone(&order.expr)));
            let mut own = Vec::new();
            for expr in &exprs {
                own.push(over_table(expr)?);
            }
            let reduced = reduced(function, &own, &table, &table_schema)?;
            let reduced = reduced.and_then(|(values, result)| {
                let argument = with_argument(&mut arguments, values, filter)?;
                Some(ResultSource::Reduced { argument, result })
            });
            functions.push(reduced.unwrap_or_else(|| {
                let function = Arc::clone(function);
                accumulated.push(Accumulated { function, arguments: own, filter });
                ResultSource::Accumulated(accumulated.len() - 1)
            }));
        }
        let mut predicates = Vec::new();
        for filter in filters {
            if is_volatile(&filter) {
                return Err(volatile(&filter));
            }
            predicates.push(Predicate::new(filter, &table, &table_schema)?);
        }

        let mut needed: Vec<usize> = Vec::new();
        let mut dims: Vec<usize> = Vec::new();
        let exprs = arguments
            .iter()
            .flat_map(|argument| argument.values.exprs())
            .chain(accumulated.iter().flat_map(|function: &Accumulated| &function.arguments))
            .chain(&conditions);
        for expr in exprs {
            needed.extend(expr.whole().columns());
            dims.extend(expr.whole().dims());
        }
        for (key, _) in &keys {
            dims.extend(key.dims());
        }
        for filter in &predicates {
            dims.extend(filter.dims());
        }
        dims.extend(source.filter_dims());
        needed.sort_unstable();
        needed.dedup();
        let mut selection = source.selection().to_vec();
        let mut weight = 1;
        let (mut streamed, mut compared) = (Vec::new(), Vec::new());
        // Accumulators need every row.
        if accumulated.is_empty() {
            weight = leave_out_dimensions(&mut selection, &dims);
            (streamed, compared) = streams(&source, &needed, &predicates);
            needed.extend(&streamed);
            needed.sort_unstable();
            needed.dedup();
        }
        let keys = GroupKeys::new(keys, &table, &selection)?;
        // The error may come from a row that a filter drops when the query runs.
        let groups = keys.known(&table, &selection).map_err(|error| {
            Refusal::Unsupported(format!("GROUP BY can't be evaluated: {error}"))
        })?;
        let source = source.reading(needed, selection, predicates)?;
        let masked = source.leaves_out_rows();
        let weights = masks::weights(&arguments, &functions);
        Ok(Self {
            source,
            keys,
            groups: groups.map(Arc::new),
            arguments,
            accumulated,
            functions,
            names: aggregate.aggr_expr().iter().map(|f| f.name().to_owned()).collect(),
            filters: conditions,
            streamed,
            compared,
            weight,
            masked,
            schema,
            states,
            without_nan: Vec::new(),
            weights,
        })
    }

    /// Dimensions along which an argument is reduced: its own and those of the keys.
    pub(super) fn dims_of(&self, argument: &Argument) -> Vec<usize> {
        let keys = self.keys.dims();
        let exprs = argument.values.exprs();
        union(std::iter::once(keys.as_slice()).chain(exprs.iter().map(|e| e.whole().dims())))
    }

    /// Type of a column of the table.
    pub(super) fn data_type(&self, column: usize) -> DataType {
        self.source.table().columns[column].data_type()
    }

    /// Bytes of the kernels' states of one group.
    pub(super) fn group_bytes(&self) -> usize {
        let arguments = self.arguments.iter().map(|argument| match &argument.values {
            ArgumentValues::Rows | ArgumentValues::Valid(_) => Wanted::default().bytes(0),
            ArgumentValues::Numbers { data_type, wanted, .. } => {
                wanted.bytes(data_type.primitive_width().unwrap_or(8))
            }
            ArgumentValues::Weighted { .. } => WEIGHTED.bytes(8),
        });
        // Counts of rows are kept where filters drop rows, numbers of groups for accumulators.
        arguments.sum::<usize>() + 16 * usize::from(self.masked) + 4 * self.accumulated.len().min(1)
    }
}

fn volatile(expr: &Arc<dyn PhysicalExpr>) -> Refusal {
    Refusal::Unsupported(format!("{expr} is another value each time"))
}

/// Selects one index of each dimension along which nothing varies: all others give the same. Returns how
/// often each cell then counts.
fn leave_out_dimensions(selection: &mut [Selection], varying: &[usize]) -> u64 {
    let mut weight = 1_u64;
    for (dim, selection) in selection.iter_mut().enumerate() {
        if !varying.contains(&dim) && selection.len() > 1 {
            weight = weight.saturating_mul(selection.len());
            let first = selection.bounds().start;
            *selection = std::iter::once(first..first + 1).collect();
        }
    }
    weight
}

/// Columns that may be decoded in pieces, and the source's predicates that are evaluated there. There are
/// none unless all columns that are read chunk by chunk have all dimensions.
fn streams(
    source: &ZarrSource,
    needed: &[usize],
    predicates: &[Predicate],
) -> (Vec<usize>, Vec<ColumnPredicate>) {
    let chunked = needed.iter().copied().filter(|&column| source.is_chunked(column));
    let mut streamed: Vec<usize> = chunked.collect();
    let mut compared = Vec::new();
    // Predicates on columns that are read anyway leave out no chunk, so they may as well be evaluated piece
    // by piece.
    if predicates.is_empty()
        && let Some(all) = source.comparisons()
        && streamed.iter().all(|column| all.iter().any(|own| own.column == *column))
    {
        streamed.extend(all.iter().map(|own| own.column));
        compared = all;
    }
    streamed.sort_unstable();
    streamed.dedup();
    let table = source.table();
    let is_full = |&column: &usize| table.columns[column].dims.len() == table.dims.len();
    if streamed.iter().all(is_full) { (streamed, compared) } else { (Vec::new(), Vec::new()) }
}

/// Finds or adds an argument, and extends what is reduced of it. Returns its position; `None` without kernels
/// for it.
fn with_argument(
    arguments: &mut Vec<Argument>,
    values: ArgumentValues,
    filter: Option<usize>,
) -> Option<usize> {
    if let ArgumentValues::Numbers { data_type, wanted, .. } = &values {
        Reduction::new(data_type, *wanted, 0)?;
    }
    for (position, known) in arguments.iter_mut().enumerate() {
        if known.filter != filter {
            continue;
        }
        match (&mut known.values, &values) {
            (ArgumentValues::Rows, ArgumentValues::Rows) => return Some(position),
            (ArgumentValues::Valid(known), ArgumentValues::Valid(expr)) if known.same(expr) => {
                return Some(position);
            }
            (
                ArgumentValues::Numbers { expr: known, wanted, .. },
                ArgumentValues::Numbers { expr, wanted: more, .. },
            ) if known.same(expr) => {
                *wanted = wanted.or(*more);
                return Some(position);
            }
            _ => {}
        }
    }
    arguments.push(Argument { values, filter });
    Some(arguments.len() - 1)
}

/// Argument and function for the kernels; `None` if they can't compute it.
fn reduced(
    function: &AggregateFunctionExpr,
    arguments: &[Ranked],
    table: &Table,
    schema: &Schema,
) -> Result<Option<(ArgumentValues, Reduced)>> {
    // Compares types: a user's function may have the same name.
    let kind: &dyn Any = function.fun().inner().as_ref();
    let own = kind.downcast_ref::<Statistic>().map(Statistic::kind);
    if let (Some(StatisticKind::WeightedAvg), [value, weight], false) =
        (own, arguments, function.is_distinct())
    {
        let (value, _) = without_cast(value, value.whole().data_type()?, table, schema)?;
        let values = ArgumentValues::Weighted { value, weight: weight.clone() };
        return Ok(Some((values, Reduced::WeightedAvg)));
    }
    let [argument] = arguments else { return Ok(None) };
    if function.is_distinct() || !function.order_bys().is_empty() {
        return Ok(None);
    }
    let field = function.field();
    let (given, data_type) = (argument.whole().data_type()?, field.data_type());
    let float = *data_type == DataType::Float64 && given == DataType::Float64;
    let none = Wanted::default();
    if kind.is::<Count>() {
        let literal = argument.whole().expr().downcast_ref::<Literal>();
        if literal.is_some_and(|literal| !literal.value().is_null()) {
            return Ok(Some((ArgumentValues::Rows, Reduced::Count)));
        }
        let numbers = Reduction::new(&given, none, 0).is_some();
        let expr = argument.clone();
        let values = if numbers {
            ArgumentValues::Numbers { expr, data_type: given, wanted: none }
        } else {
            ArgumentValues::Valid(expr)
        };
        return Ok(Some((values, Reduced::Count)));
    }
    let (wanted, result) = if kind.is::<Sum>() && float {
        (Wanted { sum: true, ..none }, Reduced::Sum)
    } else if kind.downcast_ref::<Collect>().map(Collect::kind) == Some(CollectKind::IntegerSum) {
        (Wanted { integer_sum: true, ..none }, Reduced::IntegerSum)
    } else if kind.is::<Avg>() && float {
        (Wanted { sum: true, ..none }, Reduced::Avg)
    } else if kind.is::<Min>() && given == *data_type {
        (Wanted { min: true, ..none }, Reduced::Min)
    } else if kind.is::<Max>() && given == *data_type {
        (Wanted { max: true, ..none }, Reduced::Max)
    } else if let (Some(StatisticKind::Variance { sample, root }), true) = (own, float) {
        (Wanted { moments: true, ..none }, Reduced::Variance { sample, root, own: true })
    } else if let Some(variance) = variance(kind).filter(|_| float) {
        (Wanted { moments: true, ..none }, variance)
    } else {
        return Ok(None);
    };
    let (expr, data_type) = if wanted.min || wanted.max {
        (argument.clone(), given)
    } else {
        without_cast(argument, given, table, schema)?
    };
    Ok(Some((ArgumentValues::Numbers { expr, data_type, wanted }, result)))
}

/// DataFusion's own variance or standard deviation.
fn variance(kind: &dyn Any) -> Option<Reduced> {
    let sample = kind.is::<VarianceSample>() || kind.is::<Stddev>();
    let root = kind.is::<Stddev>() || kind.is::<StddevPop>();
    let is_known = sample || root || kind.is::<VariancePopulation>();
    is_known.then_some(Reduced::Variance { sample, root, own: false })
}

/// Removes a cast to a wider type: kernels take numbers as they are stored.
fn without_cast(
    argument: &Ranked,
    data_type: DataType,
    table: &Table,
    schema: &Schema,
) -> Result<(Ranked, DataType)> {
    let expr = argument.whole().expr();
    let inside = nan_as_null::inside(expr);
    let Some(cast) = inside.unwrap_or(expr).downcast_ref::<CastExpr>() else {
        return Ok((argument.clone(), data_type));
    };
    let mut inner = Ranked::new(Arc::clone(cast.expr()), table, schema)?;
    if inside.is_some() {
        inner = inner.with_nan_as_null();
    }
    let from = inner.whole().data_type()?;
    let narrow = matches!(from, DataType::UInt8 | DataType::UInt16 | DataType::UInt32);
    let signed = matches!(from, DataType::Int8 | DataType::Int16 | DataType::Int32);
    let same = match data_type {
        DataType::Float64 => {
            narrow
                || signed
                || matches!(from, DataType::Float32 | DataType::Int64 | DataType::UInt64)
        }
        DataType::Int64 => narrow || signed,
        DataType::UInt64 => narrow,
        _ => false,
    };
    Ok(if same { (inner, from) } else { (argument.clone(), data_type) })
}
