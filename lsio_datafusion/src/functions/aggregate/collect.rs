//! Aggregates that keep the values of their groups.

use std::sync::Arc;

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type, Schema},
};
use datafusion::{
    common::plan_err,
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, ColumnarValue, Documentation, GroupsAccumulator,
        ReversedUDAF, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
    physical_expr::PhysicalExpr,
    scalar::ScalarValue,
};

use super::{
    argument_types::{distance, is_time},
    collector::{Collector, Each, Frame, One},
    documentation::documentation,
    encoded::OrderedEncoding,
    extremes::Extreme,
    histogram::{BucketCounts, constant_buckets},
    integer_sums::{self, DistinctSum, IntegerSum, SlidingSum},
    modes::{ValueCounts, ValueStatistic},
    quantiles::{Among, Between, Fractions},
};

/// Aggregate that keeps values. NULL and NaN don't count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Collect {
    kind: CollectKind,
    aliases: Vec<String>,
    signature: Signature,
}

/// Result of a [`Collect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CollectKind {
    /// Interpolated quantile.
    Quantile,
    Median,
    /// Quantile that is one of the values.
    QuantileAmong,
    /// Value in the row where another one is largest.
    ArgMax,
    ArgMin,
    /// Most frequent value.
    Mode,
    /// Entropy in bits.
    Entropy,
    /// Median of the distances from the median.
    Deviation,
    /// Numbers of values in buckets of equal width.
    Histogram,
    /// Sum of 64-bit integers or durations.
    IntegerSum,
    /// Sum for windows, as a decimal that holds any.
    WideSum,
}

/// Kinds that are functions of their own.
pub(super) const COLLECTED: &[CollectKind] = &[
    CollectKind::Quantile,
    CollectKind::Median,
    CollectKind::QuantileAmong,
    CollectKind::ArgMax,
    CollectKind::ArgMin,
    CollectKind::Mode,
    CollectKind::Entropy,
    CollectKind::Deviation,
    CollectKind::Histogram,
];

impl Collect {
    pub(super) fn new(kind: CollectKind) -> Self {
        let aliases = kind.aliases().iter().map(|&alias| alias.to_owned()).collect();
        Self { kind, aliases, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(crate) fn kind(&self) -> CollectKind {
        self.kind
    }

    /// Builds an accumulator of this kind.
    fn make<M: Make>(&self, args: &AccumulatorArgs<'_>, make: M) -> Result<M::Made> {
        let own = |argument: usize| {
            args.expr_fields.get(argument).map_or(&DataType::Null, |field| field.data_type())
        };
        let encoding = |argument| OrderedEncoding::new(self.name(), own(argument));
        let descending = args.order_bys.first().is_some_and(|order| order.options.descending);
        let fractions = || -> Result<Fractions> {
            let (fractions, listed) = constant_fractions(self.name(), args.exprs)?;
            Ok(Fractions { fractions, listed, descending, distinct: args.is_distinct })
        };
        Ok(match self.kind {
            CollectKind::Quantile => between(make, own(0), fractions()?),
            CollectKind::Median => {
                between(make, own(0), Fractions::one(0.5, false, args.is_distinct))
            }
            CollectKind::Deviation => deviation(make, own(0), args.is_distinct),
            CollectKind::QuantileAmong => make.of(Among::new(fractions()?, encoding(0)?)),
            CollectKind::ArgMax => make.of(Extreme::new(true, encoding(0)?, encoding(1)?)),
            CollectKind::ArgMin => make.of(Extreme::new(false, encoding(0)?, encoding(1)?)),
            CollectKind::Mode | CollectKind::Entropy if args.is_distinct => {
                let name = self.name();
                return plan_err!("{name}(DISTINCT …) means nothing: each value is there once");
            }
            CollectKind::Histogram if args.is_distinct => {
                return plan_err!("histogram(DISTINCT …) isn't supported: use a subquery");
            }
            CollectKind::Histogram => {
                let buckets = constant_buckets(self.name(), args.exprs, own(0))?;
                make.of(BucketCounts::new(buckets))
            }
            CollectKind::Mode => make.of(ValueCounts::new(ValueStatistic::Mode, encoding(0)?)),
            CollectKind::Entropy => {
                make.of(ValueCounts::new(ValueStatistic::Entropy, encoding(0)?))
            }
            CollectKind::IntegerSum | CollectKind::WideSum => {
                let (name, result) = (args.name, args.return_type());
                match args.is_distinct {
                    true => make.of(DistinctSum::new(name, own(0), result)),
                    false => make.of(IntegerSum::new(name, result)),
                }
            }
        })
    }
}

impl CollectKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quantile => "percentile_cont",
            Self::Median => "median",
            Self::QuantileAmong => "quantile_disc",
            Self::ArgMax => "arg_max",
            Self::ArgMin => "arg_min",
            Self::Mode => "mode",
            Self::Entropy => "entropy",
            Self::Deviation => "mad",
            Self::Histogram => "histogram",
            Self::IntegerSum | Self::WideSum => "sum",
        }
    }

    /// Aliases in DataFusion and `DuckDB`.
    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Quantile => &["quantile_cont"],
            Self::QuantileAmong => &["quantile", "percentile_disc"],
            Self::ArgMax => &["max_by", "argmax"],
            Self::ArgMin => &["min_by", "argmin"],
            _ => &[],
        }
    }
}

/// Builds interpolated quantiles of values of this type.
fn between<M: Make>(make: M, value: &DataType, fractions: Fractions) -> M::Made {
    let result = if is_time(value) { value.clone() } else { DataType::Float64 };
    match value {
        DataType::Float16 | DataType::Float32 => {
            make.of(Between::<Float32Type>::new(fractions, result))
        }
        time if is_time(time) => make.of(Between::<Int64Type>::new(fractions, result)),
        _ => make.of(Between::<Float64Type>::new(fractions, result)),
    }
}

/// Builds the median of distances between values of this type.
fn deviation<M: Make>(make: M, value: &DataType, distinct: bool) -> M::Made {
    let result = distance(value);
    match value {
        DataType::Float16 | DataType::Float32 => {
            make.of(Between::<Float32Type>::deviation(distinct, result))
        }
        time if is_time(time) => make.of(Between::<Int64Type>::deviation(distinct, result)),
        _ => make.of(Between::<Float64Type>::deviation(distinct, result)),
    }
}

/// Fractions of the second argument, which is constant, and whether they are a list.
pub(super) fn constant_fractions(
    name: &str,
    arguments: &[Arc<dyn PhysicalExpr>],
) -> Result<(Vec<f64>, bool)> {
    let Some(expr) = arguments.get(1) else {
        return plan_err!("{name} needs a fraction: {name}(value, 0.9)");
    };
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let (fractions, listed) = match expr.evaluate(&none) {
        Ok(ColumnarValue::Scalar(ScalarValue::List(list))) if list.is_valid(0) => {
            (cast(&list.value(0), &DataType::Float64).ok(), true)
        }
        Ok(ColumnarValue::Scalar(fraction)) => {
            let fraction = fraction.cast_to(&DataType::Float64);
            (fraction.and_then(|fraction| fraction.to_array()).ok(), false)
        }
        _ => (None, false),
    };
    let fractions = fractions.as_ref().and_then(|array| array.as_primitive_opt::<Float64Type>());
    let fractions: Option<Vec<f64>> = fractions.and_then(|fractions| fractions.iter().collect());
    match fractions.filter(|all| all.iter().all(|fraction| (0.0..=1.0).contains(fraction))) {
        Some(fractions) => Ok((fractions, listed)),
        None => plan_err!("{name} takes a constant fraction from 0 to 1, and was given {expr}"),
    }
}

/// Builder of accumulators over any collector.
trait Make: Copy {
    type Made;

    fn of<C: Collector>(self, collector: C) -> Self::Made;
}

macro_rules! make {
    ($name:ident -> $made:ty, $maker:ident) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl Make for $name {
            type Made = $made;

            fn of<C: Collector>(self, collector: C) -> $made {
                Box::new($maker::new(collector))
            }
        }
    };
}

make!(MakeOne -> Box<dyn Accumulator>, One);
make!(MakeEach -> Box<dyn GroupsAccumulator>, Each);
make!(MakeFrame -> Box<dyn Accumulator>, Frame);

impl AggregateUDFImpl for Collect {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let own = arg_types.first().unwrap_or(&DataType::Null);
        let one = match self.kind {
            CollectKind::Quantile | CollectKind::Median if !is_time(own) => DataType::Float64,
            CollectKind::Entropy => DataType::Float64,
            CollectKind::Histogram => DataType::new_list(DataType::Int64, true),
            CollectKind::Deviation => distance(own),
            CollectKind::WideSum => integer_sums::STATE,
            _ => own.clone(),
        };
        let is_quantile = matches!(self.kind, CollectKind::Quantile | CollectKind::QuantileAmong);
        Ok(match arg_types.get(1) {
            Some(DataType::List(_)) if is_quantile => DataType::new_list(one, true),
            _ => one,
        })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.kind.coerced(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.make(&args, MakeOne)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        let is_sum = matches!(self.kind, CollectKind::IntegerSum | CollectKind::WideSum);
        if is_sum && !args.is_distinct {
            return Ok(Box::new(SlidingSum::new(args.name, args.return_type())));
        }
        self.make(&args, MakeFrame)
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.make(&args, MakeEach)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let own = args.input_fields.first().map_or(&DataType::Null, |field| field.data_type());
        let list =
            |item: DataType| DataType::LargeList(Arc::new(Field::new_list_field(item, true)));
        let states = match (self.kind, own) {
            (CollectKind::Quantile | CollectKind::Median | CollectKind::Deviation, own) => {
                vec![list(match own {
                    DataType::Float16 | DataType::Float32 => DataType::Float32,
                    time if is_time(time) => DataType::Int64,
                    _ => DataType::Float64,
                })]
            }
            (CollectKind::QuantileAmong, own) => vec![list(own.clone())],
            (CollectKind::Histogram, _) => vec![list(DataType::Int64)],
            (CollectKind::ArgMax | CollectKind::ArgMin, own) => {
                let key = args.input_fields.get(1).map_or(&DataType::Null, |f| f.data_type());
                vec![own.clone(), key.clone()]
            }
            (CollectKind::Mode | CollectKind::Entropy, own) => {
                vec![list(own.clone()), list(DataType::UInt64)]
            }
            (CollectKind::IntegerSum | CollectKind::WideSum, own) if args.is_distinct => {
                vec![list(own.clone())]
            }
            (CollectKind::IntegerSum | CollectKind::WideSum, _) => vec![integer_sums::STATE],
        };
        let field = |(number, data_type): (usize, DataType)| {
            let name = format_state_name(args.name, &number.to_string());
            Arc::new(Field::new(name, data_type, true))
        };
        Ok(states.into_iter().enumerate().map(field).collect())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // The order of WITHIN GROUP is an argument.
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn supports_within_group_clause(&self) -> bool {
        use CollectKind::{Mode, Quantile, QuantileAmong};
        matches!(self.kind, Quantile | QuantileAmong | Mode)
    }

    fn documentation(&self) -> Option<&Documentation> {
        documentation(self.name())
    }
}
