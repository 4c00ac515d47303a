//! Aggregates of numbers computed from a [`Summary`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::{
    common::{
        not_impl_err,
        types::{NativeType, logical_float64},
    },
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Coercion, Documentation, GroupsAccumulator, ReversedUDAF,
        Signature, TypeSignature, TypeSignatureClass, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
};
use lsio_core::reduce::{Moments, PairMoments};

use super::{
    collector::{Each, One},
    documentation::documentation,
    shape::ShapeMoments,
    sliding::Sliding,
    summarized::{Finish, Summarized},
    summary::{Logarithm, Product, Side, SingleValue, Summary, Sums, Weighted},
};

/// Aggregate of doubles, to which its arguments are cast. Rows with a NULL don't count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Statistic {
    kind: StatisticKind,
    aliases: Vec<String>,
    signature: Signature,
}

/// Result of a [`Statistic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StatisticKind {
    WeightedAvg,
    Sum,
    Avg,
    Variance {
        sample: bool,
        root: bool,
    },
    /// Statistic of the moments of pairs `(y, x)`.
    Pair(PairStatistic),
    RegrAvgX,
    RegrAvgY,
    /// Sum with compensated rounding.
    KahanSum,
    KahanMean,
    Product,
    GeometricMean,
    StandardError,
    Skewness,
    Kurtosis {
        sample: bool,
    },
}

/// Statistic of [`PairMoments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PairStatistic {
    Correlation,
    Covariance { sample: bool },
    Slope,
    Intercept,
    R2,
    Sxx,
    Syy,
    Sxy,
}

impl PairStatistic {
    /// The statistic of a group.
    pub(crate) fn finish(self) -> Finish<PairMoments> {
        match self {
            Self::Correlation => PairMoments::correlation,
            Self::Covariance { sample: true } => |own| own.covariance(1.0),
            Self::Covariance { sample: false } => |own| own.covariance(0.0),
            Self::Slope => PairMoments::slope,
            Self::Intercept => PairMoments::intercept,
            Self::R2 => PairMoments::r2,
            Self::Sxx => |own| own.squares(1),
            Self::Syy => |own| own.squares(0),
            Self::Sxy => PairMoments::products,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Correlation => "corr",
            Self::Covariance { sample: true } => "covar_samp",
            Self::Covariance { sample: false } => "covar_pop",
            Self::Slope => "regr_slope",
            Self::Intercept => "regr_intercept",
            Self::R2 => "regr_r2",
            Self::Sxx => "regr_sxx",
            Self::Syy => "regr_syy",
            Self::Sxy => "regr_sxy",
        }
    }
}

impl Statistic {
    pub(crate) fn new(kind: StatisticKind) -> Self {
        let double = Coercion::new_implicit(
            TypeSignatureClass::Native(logical_float64()),
            vec![TypeSignatureClass::Numeric],
            NativeType::Float64,
        );
        let numbers = TypeSignature::Coercible(vec![double; kind.arguments()]);
        Self {
            kind,
            aliases: kind.aliases().iter().map(|&alias| alias.to_owned()).collect(),
            signature: Signature::one_of(vec![numbers], Volatility::Immutable),
        }
    }

    pub(crate) fn kind(&self) -> StatisticKind {
        self.kind
    }
}

impl StatisticKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WeightedAvg => "weighted_avg",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Variance { sample: true, root: false } => "var",
            Self::Variance { sample: false, root: false } => "var_pop",
            Self::Variance { sample: true, root: true } => "stddev",
            Self::Variance { sample: false, root: true } => "stddev_pop",
            Self::Pair(statistic) => statistic.name(),
            Self::RegrAvgX => "regr_avgx",
            Self::RegrAvgY => "regr_avgy",
            Self::KahanSum => "fsum",
            Self::KahanMean => "favg",
            Self::Product => "product",
            Self::GeometricMean => "geomean",
            Self::StandardError => "sem",
            Self::Skewness => "skewness",
            Self::Kurtosis { sample: true } => "kurtosis",
            Self::Kurtosis { sample: false } => "kurtosis_pop",
        }
    }

    /// Aliases in DataFusion and `DuckDB`.
    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Avg => &["mean"],
            Self::Variance { sample: true, root: false } => &["var_sample", "var_samp"],
            Self::Variance { sample: false, root: false } => &["var_population"],
            Self::Variance { sample: true, root: true } => &["stddev_samp"],
            Self::Pair(PairStatistic::Covariance { sample: true }) => &["covar"],
            Self::KahanSum => &["kahan_sum", "sumkahan"],
            Self::GeometricMean => &["geometric_mean"],
            _ => &[],
        }
    }

    fn arguments(self) -> usize {
        match self {
            Self::WeightedAvg | Self::Pair(_) | Self::RegrAvgX | Self::RegrAvgY => 2,
            _ => 1,
        }
    }

    /// Builds an accumulator over the summary of this kind.
    fn make<M: Make>(self, make: M) -> M::Made {
        match self {
            Self::WeightedAvg => make.make(Weighted::mean),
            Self::Sum | Self::KahanSum => make.make(Sums::<SingleValue>::sum),
            Self::Avg | Self::KahanMean => make.make(Sums::<SingleValue>::mean),
            Self::Product => make.make(Product::product),
            Self::GeometricMean => make.make(|own: &Sums<Logarithm>| own.mean().map(f64::exp)),
            Self::StandardError => {
                // DuckDB's formula.
                make.make(|own: &Moments| own.variance(0.0).map(|v| (v / own.count).sqrt()))
            }
            Self::Skewness => make.make(ShapeMoments::skewness),
            Self::Kurtosis { sample: true } => make.make(ShapeMoments::kurtosis),
            Self::Kurtosis { sample: false } => make.make(ShapeMoments::kurtosis_pop),
            Self::Variance { sample: true, root: false } => {
                make.make(|own: &Moments| own.variance(1.0))
            }
            Self::Variance { sample: false, root: false } => {
                make.make(|own: &Moments| own.variance(0.0))
            }
            Self::Variance { sample: true, root: true } => {
                make.make(|own: &Moments| own.variance(1.0).map(f64::sqrt))
            }
            Self::Variance { sample: false, root: true } => {
                make.make(|own: &Moments| own.variance(0.0).map(f64::sqrt))
            }
            Self::Pair(statistic) => make.make(statistic.finish()),
            Self::RegrAvgX => make.make(Sums::<Side<1>>::mean),
            Self::RegrAvgY => make.make(Sums::<Side<0>>::mean),
        }
    }
}

/// Builder of accumulators over any summary.
trait Make {
    type Made;

    fn make<S: Summary<K, W>, const K: usize, const W: usize>(
        self,
        finish: Finish<S>,
    ) -> Self::Made;
}

macro_rules! make {
    ($name:ident -> $made:ty, |$finish:ident| $do:expr) => {
        struct $name;

        impl Make for $name {
            type Made = $made;

            fn make<S: Summary<K, W>, const K: usize, const W: usize>(
                self,
                $finish: Finish<S>,
            ) -> $made {
                $do
            }
        }
    };
}

make!(MakeOne -> Box<dyn Accumulator>, |finish| Box::new(One::new(Summarized::new(finish))));
make!(MakeEach -> Box<dyn GroupsAccumulator>, |finish| Box::new(Each::new(Summarized::new(finish))));
make!(MakeSliding -> Box<dyn Accumulator>, |finish| Box::new(Sliding::<S, K, W>::new(finish)));
make!(MakeWidth -> usize, |_finish| W);

impl AggregateUDFImpl for Statistic {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        refuse_distinct(self.name(), &args)?;
        Ok(self.kind.make(MakeOne))
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        refuse_distinct(self.name(), &args)?;
        Ok(self.kind.make(MakeSliding))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        refuse_distinct(self.name(), &args)?;
        Ok(self.kind.make(MakeEach))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |number: usize| {
            let name = format_state_name(args.name, &number.to_string());
            Arc::new(Field::new(name, DataType::Float64, true))
        };
        Ok((0..self.kind.make(MakeWidth)).map(field).collect())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn documentation(&self) -> Option<&Documentation> {
        documentation(self.name())
    }
}

/// Refuses DISTINCT.
pub(super) fn refuse_distinct(name: &str, args: &AccumulatorArgs<'_>) -> Result<()> {
    if args.is_distinct {
        return not_impl_err!(
            "{name}(DISTINCT …) isn't supported: select the distinct rows in a subquery"
        );
    }
    Ok(())
}
