//! Aggregate functions.
//!
//! ```text
//! statistic.rs   aggregates of numbers, told by a summary: mean, variance, covariance, regression, …
//!   │ summary.rs       what is kept of a group: merged, never subtracted from
//!   │ shape.rs         one of the third and fourth moments
//!   │ summarized.rs    a summary as what is collected
//!   │ sliding.rs       a summary of a window's frame
//! collect.rs     aggregates that keep values of their groups
//!   │ argument_types.rs  what types they take
//!   │ collector.rs     accumulators for one group, for each, or for a window's frame
//!   │ encoded.rs       values of any type as bytes that are ordered as they are
//!   │ quantiles.rs     quantiles and medians
//!   │ extremes.rs      the value where another one is largest or smallest
//!   │ modes.rs         the most frequent value, and the entropy
//!   │ histogram.rs     numbers of values in buckets
//!   │ integer_sums.rs  sums of 64-bit integers, which never wrap
//!   │ ordered.rs       those whose values an aggregate over a scan keeps side by side
//! booleans.rs    sum and avg that take booleans, and count_if
//! ```

mod argument_types;
mod booleans;
mod collect;
mod collector;
mod documentation;
mod encoded;
pub(crate) mod expr_fn;
mod extremes;
mod histogram;
mod integer_sums;
mod modes;
mod ordered;
mod quantiles;
mod rows;
mod shape;
mod sliding;
mod statistic;
mod summarized;
mod summary;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    functions_aggregate::{
        all_default_aggregate_functions,
        average::Avg,
        correlation::Correlation,
        covariance::{CovariancePopulation, CovarianceSample},
        median::Median,
        percentile_cont::PercentileCont,
        regr::Regr,
        stddev::{Stddev, StddevPop},
        sum::Sum,
        variance::{VariancePopulation, VarianceSample},
    },
    logical_expr::AggregateUDF,
};

use self::collect::COLLECTED;
pub(crate) use self::{
    argument_types::sum_type,
    booleans::TakesBooleans,
    collect::{Collect, CollectKind},
    histogram::{constant_buckets, histograms},
    integer_sums::{integer_sum_states, integer_sums},
    ordered::OrderStatistic,
    statistic::{PairStatistic, Statistic, StatisticKind},
    summary::Summary,
};

/// Adds the functions to those of a session. A user's function of the same name stays.
pub(crate) fn register(functions: &mut Vec<Arc<AggregateUDF>>) {
    let known = all_default_aggregate_functions();
    let own: Vec<Arc<AggregateUDF>> = all();
    let is_taken = |function: &AggregateUDF| {
        let names = |of: &AggregateUDF| {
            let mut names = of.aliases().to_vec();
            names.push(of.name().to_owned());
            names
        };
        let own = names(function);
        functions.iter().any(|other| {
            names(other).iter().any(|name| own.contains(name)) && !known.contains(other)
        })
    };
    let free: Vec<_> = own.into_iter().filter(|function| !is_taken(function)).collect();
    functions.extend(free);
}

/// Replacement of one of DataFusion's functions.
pub(crate) fn replacement(function: &AggregateUDF) -> Option<Arc<AggregateUDF>> {
    let own = function.inner().as_ref();
    if own.is::<Median>() {
        return Some(collect(CollectKind::Median));
    }
    if own.is::<PercentileCont>() {
        return Some(collect(CollectKind::Quantile));
    }
    let kind = if own.is::<Correlation>() {
        StatisticKind::Pair(PairStatistic::Correlation)
    } else if own.is::<CovarianceSample>() {
        StatisticKind::Pair(PairStatistic::Covariance { sample: true })
    } else if own.is::<CovariancePopulation>() {
        StatisticKind::Pair(PairStatistic::Covariance { sample: false })
    } else if own.is::<VarianceSample>() {
        StatisticKind::Variance { sample: true, root: false }
    } else if own.is::<VariancePopulation>() {
        StatisticKind::Variance { sample: false, root: false }
    } else if own.is::<Stddev>() {
        StatisticKind::Variance { sample: true, root: true }
    } else if own.is::<StddevPop>() {
        StatisticKind::Variance { sample: false, root: true }
    } else if own.is::<Regr>() {
        // DataFusion's counts are exact.
        *STATISTICS.iter().find(|kind| kind.name() == function.name())?
    } else {
        return None;
    };
    Some(statistic(kind))
}

/// Replacement of DataFusion's `sum` of integers or durations.
pub(crate) fn integer_sum(
    function: &AggregateUDF,
    arguments: &[DataType],
) -> Option<Arc<AggregateUDF>> {
    let [argument] = arguments else { return None };
    let is_sum = function.inner().is::<Sum>() && sum_type(argument).is_some();
    is_sum.then(|| collect(CollectKind::IntegerSum))
}

/// Sum of integers or durations over windows' frames, in a type that holds any.
pub(crate) fn wide_sum() -> Arc<AggregateUDF> {
    collect(CollectKind::WideSum)
}

/// Replacement of DataFusion's `sum` and `avg` over windows' frames, where they would subtract floats. Sums
/// of decimals are exact there.
pub(crate) fn sliding(
    function: &AggregateUDF,
    arguments: &[DataType],
) -> Option<Arc<AggregateUDF>> {
    let own = function.inner().as_ref();
    let [argument] = arguments else { return None };
    if own.is::<Sum>() && argument.is_floating() {
        return Some(statistic(StatisticKind::Sum));
    }
    let is_mean = own.is::<Avg>() && (argument.is_floating() || argument.is_integer());
    is_mean.then(|| statistic(StatisticKind::Avg))
}

/// Aggregates of numbers that a session gets.
///
/// They replace DataFusion's of the same names. DataFusion 55.2's grouped `corr` subtracts sums of squares,
/// and loses all digits of pressures in Pa; the states of its `var`, `covar_…` and `regr_…` hold the mean as
/// one double, too few digits for thousandths beside 10⁹.
const STATISTICS: &[StatisticKind] = &[
    StatisticKind::WeightedAvg,
    StatisticKind::Variance { sample: true, root: false },
    StatisticKind::Variance { sample: false, root: false },
    StatisticKind::Variance { sample: true, root: true },
    StatisticKind::Variance { sample: false, root: true },
    StatisticKind::Pair(PairStatistic::Correlation),
    StatisticKind::Pair(PairStatistic::Covariance { sample: true }),
    StatisticKind::Pair(PairStatistic::Covariance { sample: false }),
    StatisticKind::Pair(PairStatistic::Slope),
    StatisticKind::Pair(PairStatistic::Intercept),
    StatisticKind::Pair(PairStatistic::R2),
    StatisticKind::RegrAvgX,
    StatisticKind::RegrAvgY,
    StatisticKind::Pair(PairStatistic::Sxx),
    StatisticKind::Pair(PairStatistic::Syy),
    StatisticKind::Pair(PairStatistic::Sxy),
    StatisticKind::KahanSum,
    StatisticKind::KahanMean,
    StatisticKind::Product,
    StatisticKind::GeometricMean,
    StatisticKind::StandardError,
    StatisticKind::Skewness,
    StatisticKind::Kurtosis { sample: true },
    StatisticKind::Kurtosis { sample: false },
];

fn all() -> Vec<Arc<AggregateUDF>> {
    let statistics = STATISTICS.iter().map(|kind| statistic(*kind));
    let collected = COLLECTED.iter().map(|kind| collect(*kind));
    statistics.chain(collected).chain(booleans::all()).collect()
}

fn collect(kind: CollectKind) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(Collect::new(kind)))
}

pub(crate) fn statistic(kind: StatisticKind) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(Statistic::new(kind)))
}
