//! Statistics of all values of a group, which lie side by side.

use std::{any::Any, cmp::Ordering, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayRef, ArrowNativeTypeOp as _, AsArray as _, Float64Array, Int64Array,
        PrimitiveArray,
    },
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type, Int64Type},
};
use datafusion::{
    error::Result,
    functions_aggregate::{
        approx_median::ApproxMedian, approx_percentile_cont::ApproxPercentileCont, count::Count,
    },
    physical_expr::aggregate::AggregateFunctionExpr,
};
use lsio_core::reduce::{GroupLayout, PencilKind, PencilPart, Pencils, TypedPart};

use super::{
    argument_types::is_time,
    collect::{Collect, CollectKind, constant_fractions},
    modes::entropy,
    quantiles::{Between, Fractions, QuantileType},
};

/// Statistic computed from a group's values, in any order.
#[derive(Clone, Debug)]
pub(crate) struct OrderStatistic {
    kind: OrderKind,
    /// Type of the result, or of the items of its lists.
    data_type: DataType,
    /// Whether DataFusion's function keeps less than all values.
    is_compact: bool,
}

#[derive(Clone, Debug)]
enum OrderKind {
    /// Quantiles between two values.
    Between(Fractions),
    /// Median of the distances from the median.
    Deviation {
        distinct: bool,
    },
    /// Quantiles that are values.
    Among(Fractions),
    CountDistinct,
    Mode,
    Entropy,
}

impl OrderStatistic {
    /// Statistic that a function computes of its first argument, of this type; `None` if it computes something else, or
    /// values of this type aren't kept.
    pub(crate) fn new(function: &AggregateFunctionExpr, value: &DataType) -> Option<Self> {
        let up = Self::counting(function, false)?;
        up.kept_type(value)?;
        if !matches!(up.kind, OrderKind::Between(_) | OrderKind::Among(_)) {
            return Some(up);
        }
        // DataFusion hides the order of WITHIN GROUP where rows may come in any order. So the accumulator is asked: of
        // two values it gives another one if it counts from the largest.
        let down = Self::counting(function, true)?;
        let two = cast(&Int64Array::from(vec![0, 1]), value).ok()?;
        let mut accumulator = function.create_accumulator().ok()?;
        accumulator.update_batch(&[Arc::clone(&two)]).ok()?;
        let result = accumulator.evaluate().and_then(|result| result.to_array()).ok()?;
        let (one, other) = (up.of_array(&two)?, down.of_array(&two)?);
        if *result == *one {
            return Some(up);
        }
        if *result == *other {
            return Some(down);
        }
        // Approximations come near.
        let number = |array: &ArrayRef| -> Option<f64> {
            let array = cast(array, &DataType::Float64).ok()?;
            array.as_primitive_opt::<Float64Type>()?.iter().next()?
        };
        let (result, one, other) = (number(&result)?, number(&one)?, number(&other)?);
        Some(if (result - one).abs() <= (result - other).abs() { up } else { down })
    }

    /// The statistic of a single group.
    fn of_array(&self, values: &ArrayRef) -> Option<ArrayRef> {
        let kept = self.kept_type(values.data_type())?;
        let pencils = Pencils::new(&kept, &[values.len()], PencilKind::default())?;
        let values = cast(values, &kept).ok()?;
        pencils.add(&GroupLayout::new(&[values.len()], &[]), 0, &values, true, None).ok()?;
        self.evaluate(pencils.into_parts().first_mut()?).ok()
    }

    fn counting(function: &AggregateFunctionExpr, descending: bool) -> Option<Self> {
        // Compares types: a user's function may have the same name.
        let own: &dyn Any = function.fun().inner().as_ref();
        let distinct = function.is_distinct();
        let arguments = function.expressions();
        let fractions = || -> Option<Fractions> {
            let (fractions, listed) = constant_fractions(function.name(), &arguments).ok()?;
            Some(Fractions { fractions, listed, descending, distinct })
        };
        let collected = own.downcast_ref::<Collect>().map(Collect::kind);
        let median = || Fractions::one(0.5, false, distinct);
        let (kind, is_compact) = if own.is::<ApproxPercentileCont>() && !distinct {
            // Exact values are approximations too.
            (OrderKind::Between(fractions().filter(|fractions| !fractions.listed)?), true)
        } else if own.is::<ApproxMedian>() && !distinct {
            (OrderKind::Between(median()), true)
        } else if own.is::<Count>() && distinct && arguments.len() == 1 {
            (OrderKind::CountDistinct, true)
        } else {
            match collected? {
                CollectKind::Quantile => (OrderKind::Between(fractions()?), false),
                CollectKind::Median => (OrderKind::Between(median()), false),
                CollectKind::Deviation => (OrderKind::Deviation { distinct }, false),
                CollectKind::QuantileAmong => (OrderKind::Among(fractions()?), false),
                CollectKind::Mode if !distinct => (OrderKind::Mode, true),
                CollectKind::Entropy if !distinct => (OrderKind::Entropy, true),
                _ => return None,
            }
        };
        let field = function.field();
        let data_type = match (&kind, field.data_type()) {
            (OrderKind::Between(of) | OrderKind::Among(of), DataType::List(item)) if of.listed => {
                item.data_type()
            }
            (_, data_type) => data_type,
        };
        Some(Self { kind, data_type: data_type.clone(), is_compact })
    }

    /// Whether the function's own accumulator keeps less than all values of a large group.
    pub(crate) fn is_compact(&self) -> bool {
        self.is_compact
    }

    /// Whether NaN that isn't NULL is a value.
    pub(crate) fn keeps_nan(&self) -> bool {
        matches!(self.kind, OrderKind::CountDistinct)
    }

    /// Type in which values of this type are kept; `None` if they aren't.
    pub(crate) fn kept_type(&self, value: &DataType) -> Option<DataType> {
        use DataType::{Float16, Float32, Float64, Int64, UInt64};
        let interpolates = matches!(self.kind, OrderKind::Between(_) | OrderKind::Deviation { .. });
        match value {
            Float16 | Float32 => Some(Float32),
            Float64 => Some(Float64),
            time if is_time(time) => Some(Int64),
            UInt64 => None,
            integer if integer.is_integer() && !interpolates => Some(Int64),
            _ => None,
        }
    }

    /// The statistic of each group.
    pub(crate) fn evaluate(&self, part: &mut PencilPart) -> Result<ArrayRef> {
        match part {
            PencilPart::Singles(part) => self.of::<Float32Type>(part),
            PencilPart::Doubles(part) => self.of::<Float64Type>(part),
            PencilPart::Integers(part) => self.of::<Int64Type>(part),
        }
    }

    fn of<T: QuantileType>(&self, part: &mut TypedPart<T::Native>) -> Result<ArrayRef> {
        let result = self.data_type.clone();
        let values = |values: Vec<Option<T::Native>>| -> Result<ArrayRef> {
            // One zero stands for both.
            let normal = |value: T::Native| value.add_wrapping(T::Native::ZERO);
            let values = values.into_iter().map(|value| value.map(normal));
            let values: ArrayRef = Arc::new(PrimitiveArray::<T>::from_iter(values));
            Ok(cast(&values, &result)?)
        };
        match &self.kind {
            OrderKind::Between(fractions) => {
                Between::<T>::new(fractions.clone(), result).of_groups(part.pencils())
            }
            OrderKind::Deviation { distinct } => {
                Between::<T>::deviation(*distinct, result).of_groups(part.pencils())
            }
            OrderKind::Among(fractions) => fractions.results(
                part.pencils(),
                |pencil, fraction| {
                    fractions.among(pencil, fraction, |a, b| match a == b {
                        true => Ordering::Equal,
                        false => a.compare(*b),
                    })
                },
                values,
            ),
            OrderKind::CountDistinct => {
                let counts = part.pencils().map(|pencil| runs::<T>(pencil).count() as i64);
                Ok(Arc::new(Int64Array::from_iter_values(counts)))
            }
            OrderKind::Mode => values(
                part.pencils()
                    .map(|pencil| {
                        let most = runs::<T>(pencil).reduce(|most, run| {
                            // The smallest of several comes first.
                            if run.len() > most.len() { run } else { most }
                        });
                        most.and_then(|run| run.first().copied())
                    })
                    .collect(),
            ),
            OrderKind::Entropy => {
                let entropies = part.pencils().map(|pencil| {
                    let is_empty = pencil.is_empty();
                    let counts: Vec<u64> = runs::<T>(pencil).map(|run| run.len() as u64).collect();
                    (!is_empty).then(|| entropy(counts.iter()))
                });
                Ok(Arc::new(entropies.collect::<Float64Array>()))
            }
        }
    }
}

/// Equal values, from the least on.
fn runs<T: QuantileType>(values: &mut [T::Native]) -> impl Iterator<Item = &[T::Native]> {
    values.sort_unstable_by(|a, b| a.compare(*b));
    // Both zeros are one value, and so is every NaN.
    values.chunk_by(|a, b| a == b || a.compare(*b).is_eq())
}
