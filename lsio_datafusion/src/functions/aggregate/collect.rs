//! Aggregates that keep values of their groups.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type},
};
use datafusion::{
    common::{
        plan_err,
        types::{NativeType, logical_float64},
    },
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Coercion, ColumnarValue, Documentation, GroupsAccumulator,
        ReversedUDAF, Signature, TypeSignatureClass, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
    scalar::ScalarValue,
};

use super::{
    collector::{Collector, Each, Frame, One},
    documentation::documentation,
    encoded::Encoding,
    extremes::Extreme,
    modes::Mode,
    quantiles::{Among, Between, Fraction},
};

/// An aggregate of the kinds below. NULL and NaN don't count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Collect {
    kind: Collected,
    aliases: Vec<String>,
    signature: Signature,
}

/// What it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Collected {
    /// A quantile between values.
    Quantile,
    Median,
    /// A quantile that is one of the values.
    QuantileAmong,
    /// The value where another one is largest.
    ArgMax,
    ArgMin,
    /// The most frequent value.
    Mode,
}

/// All of them.
pub(super) const COLLECTED: &[Collected] = &[
    Collected::Quantile,
    Collected::Median,
    Collected::QuantileAmong,
    Collected::ArgMax,
    Collected::ArgMin,
    Collected::Mode,
];

impl Collect {
    pub(super) fn new(kind: Collected) -> Self {
        let aliases = kind.aliases().iter().map(|&alias| alias.to_owned()).collect();
        Self { kind, aliases, signature: kind.signature() }
    }

    /// Makes something for what is kept.
    fn make<M: Make>(&self, args: &AccumulatorArgs<'_>, make: M) -> Result<M::Made> {
        let own = |argument: usize| {
            args.expr_fields.get(argument).map_or(&DataType::Null, |field| field.data_type())
        };
        let encoding = |argument| Encoding::new(self.name(), own(argument));
        let fraction = |fraction| Fraction {
            fraction,
            descending: args.order_bys.first().is_some_and(|order| order.options.descending),
            distinct: args.is_distinct,
        };
        let between = |fraction| match own(0) {
            DataType::Float16 | DataType::Float32 => make.of(Between::<Float32Type>::new(fraction)),
            _ => make.of(Between::<Float64Type>::new(fraction)),
        };
        Ok(match self.kind {
            Collected::Quantile => between(fraction(constant_fraction(self.name(), args)?)),
            Collected::Median => between(fraction(0.5)),
            Collected::QuantileAmong => {
                let fraction = fraction(constant_fraction(self.name(), args)?);
                make.of(Among::new(fraction, encoding(0)?))
            }
            Collected::ArgMax => make.of(Extreme::new(true, encoding(0)?, encoding(1)?)),
            Collected::ArgMin => make.of(Extreme::new(false, encoding(0)?, encoding(1)?)),
            Collected::Mode if args.is_distinct => {
                return plan_err!("mode(DISTINCT …) means nothing: each value is there once");
            }
            Collected::Mode => make.of(Mode::new(encoding(0)?)),
        })
    }
}

impl Collected {
    fn name(self) -> &'static str {
        match self {
            Self::Quantile => "percentile_cont",
            Self::Median => "median",
            Self::QuantileAmong => "quantile_disc",
            Self::ArgMax => "arg_max",
            Self::ArgMin => "arg_min",
            Self::Mode => "mode",
        }
    }

    /// Those of DataFusion's own functions, and `DuckDB`'s.
    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Quantile => &["quantile_cont"],
            Self::QuantileAmong => &["quantile", "percentile_disc"],
            Self::ArgMax => &["max_by", "argmax"],
            Self::ArgMin => &["min_by", "argmin"],
            Self::Median | Self::Mode => &[],
        }
    }

    fn signature(self) -> Signature {
        let number = |class| {
            Coercion::new_implicit(class, vec![TypeSignatureClass::Numeric], NativeType::Float64)
        };
        let value = || number(TypeSignatureClass::Float);
        let double = || number(TypeSignatureClass::Native(logical_float64()));
        match self {
            Self::Quantile => Signature::coercible(vec![value(), double()], Volatility::Immutable),
            Self::Median => Signature::coercible(vec![value()], Volatility::Immutable),
            Self::QuantileAmong | Self::ArgMax | Self::ArgMin => {
                Signature::any(2, Volatility::Immutable)
            }
            Self::Mode => Signature::any(1, Volatility::Immutable),
        }
    }
}

/// The second argument, which is the same for all rows.
fn constant_fraction(name: &str, args: &AccumulatorArgs<'_>) -> Result<f64> {
    let Some(expr) = args.exprs.get(1) else {
        return plan_err!("{name} needs a fraction: {name}(value, 0.9)");
    };
    let none = RecordBatch::new_empty(Arc::new(args.schema.clone()));
    let fraction = match expr.evaluate(&none) {
        Ok(ColumnarValue::Scalar(fraction)) => fraction.cast_to(&DataType::Float64).ok(),
        _ => None,
    };
    match fraction {
        Some(ScalarValue::Float64(Some(fraction))) if (0.0..=1.0).contains(&fraction) => {
            Ok(fraction)
        }
        _ => plan_err!("{name} takes a constant fraction from 0 to 1, and was given {expr}"),
    }
}

/// What is made for any kind of collector.
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
        Ok(match (self.kind, arg_types.first()) {
            (Collected::Quantile | Collected::Median, _) | (_, None) => DataType::Float64,
            (_, Some(own)) => own.clone(),
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.make(&args, MakeOne)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
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
            (Collected::Quantile | Collected::Median, DataType::Float16 | DataType::Float32) => {
                vec![list(DataType::Float32)]
            }
            (Collected::Quantile | Collected::Median, _) => vec![list(DataType::Float64)],
            (Collected::QuantileAmong, own) => vec![list(own.clone())],
            (Collected::ArgMax | Collected::ArgMin, own) => {
                let key = args.input_fields.get(1).map_or(&DataType::Null, |f| f.data_type());
                vec![own.clone(), key.clone()]
            }
            (Collected::Mode, own) => vec![list(own.clone()), list(DataType::UInt64)],
        };
        let field = |(number, data_type): (usize, DataType)| {
            let name = format_state_name(args.name, &number.to_string());
            Arc::new(Field::new(name, data_type, true))
        };
        Ok(states.into_iter().enumerate().map(field).collect())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // Behind WITHIN GROUP the order is an argument.
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn supports_within_group_clause(&self) -> bool {
        use Collected::{Mode, Quantile, QuantileAmong};
        matches!(self.kind, Quantile | QuantileAmong | Mode)
    }

    fn documentation(&self) -> Option<&Documentation> {
        documentation(self.name())
    }
}
