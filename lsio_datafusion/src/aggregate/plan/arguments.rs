//! Arguments of functions, and what becomes of them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use lsio_core::reduce::{Buckets, PairsWanted, Reduction, Wanted};

use crate::{expression::Ranked, functions::aggregate::PairStatistic};

/// Argument that kernels reduce.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Argument {
    pub(in crate::aggregate) values: ArgumentValues,
    /// Position of its FILTER.
    pub(in crate::aggregate) filter: Option<usize>,
}

#[derive(Clone, Debug)]
pub(in crate::aggregate) enum ArgumentValues {
    /// The rows themselves.
    Rows,
    /// Values that are counted.
    Valid(Ranked),
    /// Numbers.
    Numbers { expr: Ranked, data_type: DataType, wanted: Wanted },
    /// Numbers with weights.
    Weighted { value: Ranked, weight: Ranked },
    /// Numbers counted in buckets.
    Buckets { expr: Ranked, buckets: Buckets },
    /// Pairs of numbers.
    Pairs { y: Ranked, x: Ranked, wanted: PairsWanted },
}

/// Sums kept of weighted numbers.
pub(in crate::aggregate) const WEIGHTED: Wanted =
    Wanted { sum: true, weights: true, integer_sum: false, min: false, max: false, moments: false };

impl ArgumentValues {
    /// Expressions of the values.
    pub(in crate::aggregate) fn exprs(&self) -> Vec<&Ranked> {
        match self {
            Self::Rows => vec![],
            Self::Valid(expr) | Self::Numbers { expr, .. } | Self::Buckets { expr, .. } => {
                vec![expr]
            }
            Self::Weighted { value, weight } => vec![value, weight],
            Self::Pairs { y, x, .. } => vec![y, x],
        }
    }
}

/// Function computed by DataFusion's accumulator.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Accumulated {
    pub(in crate::aggregate) function: Arc<AggregateFunctionExpr>,
    pub(in crate::aggregate) arguments: Vec<Ranked>,
    pub(in crate::aggregate) filter: Option<usize>,
}

/// Origin of a function's result.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) enum ResultSource {
    /// Computed from an argument's reduction.
    Reduced { argument: usize, result: Reduced },
    /// Statistic of kept values.
    Ordered(usize),
    /// Taken from an accumulator.
    Accumulated(usize),
}

/// Function computed from a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aggregate) enum Reduced {
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
    /// Statistic of pairs.
    Pair(PairStatistic),
    /// Mean of one side of pairs.
    PairMean(usize),
    /// Number of pairs.
    PairCount,
    Histogram,
}

/// Finds or adds an argument, and extends what is reduced of it. Returns its position; `None` without kernels
/// for it.
pub(super) fn with_argument(
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
            (
                ArgumentValues::Buckets { expr: known, buckets },
                ArgumentValues::Buckets { expr, buckets: own },
            ) if known.same(expr) && buckets == own => return Some(position),
            (
                ArgumentValues::Pairs { y: known_y, x: known_x, wanted },
                ArgumentValues::Pairs { y, x, wanted: more },
            ) if known_y.same(y) && known_x.same(x) => {
                *wanted = wanted.or(*more);
                return Some(position);
            }
            _ => {}
        }
    }
    arguments.push(Argument { values, filter });
    Some(arguments.len() - 1)
}
