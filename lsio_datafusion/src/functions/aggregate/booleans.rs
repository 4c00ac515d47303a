//! `sum` and `avg` that take booleans too.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::{
    common::{not_impl_err, plan_err},
    error::Result,
    functions_aggregate::{average::avg_udaf, sum::sum_udaf},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility,
        function::AccumulatorArgs, type_coercion::functions::fields_with_udf,
    },
};

/// DataFusion's `sum` or `avg` as SQL finds it by its name: it lets booleans through.
///
/// DataFusion 55.2 refuses booleans while a statement is read, before any rule sees it. The rule
/// [`CastArguments`](crate::analyze::CastArguments) puts DataFusion's own function in its place, with
/// booleans cast to numbers, so that nothing later meets this type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TakesBooleans {
    own: Arc<AggregateUDF>,
    /// What booleans are cast to.
    number: DataType,
    signature: Signature,
}

/// Both functions.
pub(super) fn all() -> [Arc<AggregateUDF>; 2] {
    [(sum_udaf(), DataType::Int64), (avg_udaf(), DataType::Float64)].map(|(own, number)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(TakesBooleans { own, number, signature }))
    })
}

impl TakesBooleans {
    /// DataFusion's function.
    pub(crate) fn own(&self) -> &Arc<AggregateUDF> {
        &self.own
    }

    /// The type that booleans are cast to.
    pub(crate) fn number(&self) -> &DataType {
        &self.number
    }
}

impl AggregateUDFImpl for TakesBooleans {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn aliases(&self) -> &[String] {
        self.own.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let field = |data_type: &DataType| -> FieldRef {
            let data_type = match data_type {
                DataType::Boolean => self.number.clone(),
                other => other.clone(),
            };
            Arc::new(Field::new("argument", data_type, true))
        };
        let fields: Vec<FieldRef> = arg_types.iter().map(field).collect();
        // DataFusion's own error lists a candidate for each type.
        let Ok(coerced) = fields_with_udf(&fields, self.own.as_ref()) else {
            let types: Vec<String> = arg_types.iter().map(ToString::to_string).collect();
            let name = self.name();
            return plan_err!(
                "{name} takes one number, boolean or duration, not ({})",
                types.join(", ")
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
        self.own.documentation()
    }
}
