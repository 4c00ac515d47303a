//! Functions that kernels compute, and their arguments.

use std::{any::Any, sync::Arc};

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    error::Result,
    functions_aggregate::{
        average::Avg,
        count::Count,
        min_max::{Max, Min},
        regr::regr_count_udaf,
        stddev::{Stddev, StddevPop},
        sum::Sum,
        variance::{VariancePopulation, VarianceSample},
    },
    physical_expr::{
        aggregate::AggregateFunctionExpr,
        expressions::{CastExpr, Literal},
    },
};
use lsio_core::{
    Table,
    reduce::{PairsWanted, Reduction, Wanted},
};

use super::{ArgumentValues, Reduced};
use crate::{
    expression::Ranked,
    functions::aggregate::{Collect, CollectKind, Statistic, StatisticKind, constant_buckets},
    nan_as_null,
};

/// Argument and function for the kernels; `None` if they can't compute it.
pub(super) fn reduced(
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
    if let ([y, x], false, Some((wanted, result))) =
        (arguments, function.is_distinct(), pair_result(function, own))
    {
        let values = ArgumentValues::Pairs { y: y.clone(), x: x.clone(), wanted };
        return Ok(Some((values, result)));
    }
    let collected = kind.downcast_ref::<Collect>().map(Collect::kind);
    if let (Some(CollectKind::Histogram), [value, ..], false) =
        (collected, arguments, function.is_distinct())
    {
        let data_type = value.whole().data_type()?;
        let exprs = function.expressions();
        let Ok(buckets) = constant_buckets(function.name(), &exprs, &data_type) else {
            return Ok(None);
        };
        let values = ArgumentValues::Buckets { expr: value.clone(), buckets };
        return Ok(Some((values, Reduced::Histogram)));
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
    } else if collected == Some(CollectKind::IntegerSum) {
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

/// What a function of pairs needs, and its result.
fn pair_result(
    function: &AggregateFunctionExpr,
    own: Option<StatisticKind>,
) -> Option<(PairsWanted, Reduced)> {
    let moments = PairsWanted { moments: true, sums: false };
    let sums = PairsWanted { moments: false, sums: true };
    match own {
        Some(StatisticKind::Pair(statistic)) => Some((moments, Reduced::Pair(statistic))),
        Some(StatisticKind::RegrAvgX) => Some((sums, Reduced::PairMean(1))),
        Some(StatisticKind::RegrAvgY) => Some((sums, Reduced::PairMean(0))),
        _ if *function.fun() == *regr_count_udaf() => {
            Some((PairsWanted::default(), Reduced::PairCount))
        }
        _ => None,
    }
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
