//! `sum` and `avg` that take booleans too, and `count_if`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::{
    common::{not_impl_err, plan_err},
    error::Result,
    functions_aggregate::{average::avg_udaf, count::count_udaf, sum::sum_udaf},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, Signature, Volatility,
        cast, function::AccumulatorArgs, lit, type_coercion::functions::fields_with_udf, when,
    },
};

use super::documentation::documentation;

/// DataFusion's `sum` or `avg`, which also takes booleans, or `count_if`, which is DataFusion's `count` of
/// true values.
///
/// DataFusion 55.2 refuses booleans while it plans SQL, before any rule runs. The rule
/// [`CastArguments`](crate::analyze::CastArguments) replaces this function by DataFusion's own, with booleans
/// as numbers, so that later rules never see it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TakesBooleans {
    own: Arc<AggregateUDF>,
    booleans: Booleans,
    /// Whether the plan is one of `ctx.query`, in which sums are exact for every table.
    exact: bool,
    aliases: Vec<String>,
    signature: Signature,
}

/// Conversion of booleans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Booleans {
    Number(DataType),
    /// A number for true, NULL for false.
    Counted,
}

/// All functions of this kind.
pub(super) fn all() -> [Arc<AggregateUDF>; 3] {
    [
        (sum_udaf(), Booleans::Number(DataType::Int64)),
        (avg_udaf(), Booleans::Number(DataType::Float64)),
        (count_udaf(), Booleans::Counted),
    ]
    .map(|(own, booleans)| {
        let aliases = match booleans {
            Booleans::Number(_) => own.aliases().to_vec(),
            Booleans::Counted => vec!["countif".to_owned()],
        };
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(TakesBooleans {
            own,
            booleans,
            exact: false,
            aliases,
            signature,
        }))
    })
}

impl TakesBooleans {
    /// DataFusion's function.
    pub(crate) fn own(&self) -> &Arc<AggregateUDF> {
        &self.own
    }

    /// Variant for plans of `ctx.query`, if they differ. The rule [`ExactSums`](crate::analyze::ExactSums)
    /// replaces it by an exact function.
    pub(crate) fn as_exact(&self) -> Option<AggregateUDF> {
        let Self { own, booleans, aliases, signature, .. } = self;
        matches!(booleans, Booleans::Number(_)).then(|| {
            AggregateUDF::new_from_impl(Self {
                own: Arc::clone(own),
                booleans: booleans.clone(),
                exact: true,
                aliases: aliases.clone(),
                signature: signature.clone(),
            })
        })
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Converts booleans to the argument of DataFusion's function.
    pub(crate) fn numbers(&self, booleans: Expr) -> Result<Expr> {
        match &self.booleans {
            Booleans::Number(number) => Ok(cast(booleans, number.clone())),
            Booleans::Counted => when(booleans, lit(1_i64)).end(),
        }
    }
}

impl AggregateUDFImpl for TakesBooleans {
    fn name(&self) -> &str {
        match self.booleans {
            Booleans::Number(_) => self.own.name(),
            Booleans::Counted => "count_if",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let Booleans::Number(number) = &self.booleans else {
            return match arg_types {
                [DataType::Boolean | DataType::Null] => Ok(vec![DataType::Boolean]),
                _ => plan_err!(
                    "{name} counts the rows where a condition holds, such as {name}(t > 0), not \
                     ({})",
                    listed(arg_types)
                ),
            };
        };
        let field = |data_type: &DataType| -> FieldRef {
            let data_type = match data_type {
                DataType::Boolean => number.clone(),
                other => other.clone(),
            };
            Arc::new(Field::new("argument", data_type, true))
        };
        let fields: Vec<FieldRef> = arg_types.iter().map(field).collect();
        // DataFusion's own error lists a candidate for each type.
        let Ok(coerced) = fields_with_udf(&fields, self.own.as_ref()) else {
            return plan_err!(
                "{name} takes one number, boolean or duration, not ({})",
                listed(arg_types)
            );
        };
        Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.own.return_type(arg_types)
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{} needs the session's rule zarr_cast_arguments", self.name())
    }

    fn documentation(&self) -> Option<&Documentation> {
        match self.booleans {
            Booleans::Number(_) => self.own.documentation(),
            Booleans::Counted => documentation(self.name()),
        }
    }
}

/// Lists types for an error.
pub(super) fn listed(types: &[DataType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
