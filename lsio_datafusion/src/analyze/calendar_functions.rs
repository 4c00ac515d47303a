//! `date_part`, `EXTRACT` and `date_trunc` take times that are text, in their own calendar.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, StringViewBuilder},
    compute::cast,
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{
        Result, config::ConfigOptions, exec_datafusion_err, exec_err, internal_err,
        tree_node::Transformed,
    },
    logical_expr::{
        ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs,
        ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
};
use lsio_core::dataset::calendar::Calendar;

use super::{Scope, calendar_text::TextTime, rewrite_expressions};
use crate::schema::{CALENDAR, text_calendar};

/// Replaces calls of `date_part` and `date_trunc` on a Zarr table's text times by functions that know
/// their calendar, so that one query runs on every climate model.
#[derive(Debug)]
pub struct CalendarFunctions;

impl AnalyzerRule for CalendarFunctions {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, replace)
    }

    fn name(&self) -> &'static str {
        "zarr_calendar_functions"
    }
}

fn replace(expr: Expr, scope: &Scope<'_>) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let kind = match call.func.name() {
        "date_part" => Kind::Part,
        "date_trunc" => Kind::Trunc,
        _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
    };
    let calendar = match call.args.get(1) {
        Some(time) => {
            let (_, field) = time.to_field(scope.schema)?;
            text_calendar(&field).and_then(Calendar::from_name)
        }
        None => None,
    };
    let Some(calendar) = calendar else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    call.func = Arc::new(ScalarUDF::new_from_impl(CalendarFunction::new(kind, calendar)));
    Ok(Transformed::yes(Expr::ScalarFunction(call)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Part,
    Trunc,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CalendarFunction {
    kind: Kind,
    calendar: Calendar,
    signature: Signature,
}

impl CalendarFunction {
    fn new(kind: Kind, calendar: Calendar) -> Self {
        Self { kind, calendar, signature: Signature::any(2, Volatility::Immutable) }
    }

    fn apply(&self, unit: &str, times: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        let times = cast(times, &DataType::Utf8View)?;
        let times = times.as_string_view();
        let parse = |text: &str| {
            TextTime::parse(text).ok_or_else(|| {
                exec_datafusion_err!("'{text}' is no time of the form YYYY-MM-DDThh:mm:ss")
            })
        };
        match self.kind {
            Kind::Part => {
                let parts = times
                    .iter()
                    .map(|text| text.map(|t| parse(t)?.part(unit, self.calendar)).transpose())
                    .collect::<Result<Float64Array>>()?;
                Ok(if *to == DataType::Int32 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "parts are small and whole"
                    )]
                    let parts: Int32Array = parts.iter().map(|p| p.map(|p| p as i32)).collect();
                    Arc::new(parts)
                } else {
                    Arc::new(parts)
                })
            }
            Kind::Trunc => {
                let mut out = StringViewBuilder::with_capacity(times.len());
                let mut text = String::new();
                for time in times {
                    match time {
                        None => out.append_null(),
                        Some(time) => {
                            text.clear();
                            parse(time)?.truncate(unit, self.calendar)?.write(&mut text);
                            out.append_value(&text);
                        }
                    }
                }
                Ok(Arc::new(out.finish()))
            }
        }
    }
}

impl ScalarUDFImpl for CalendarFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Part => "date_part",
            Kind::Trunc => "date_trunc",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the return type depends on the arguments' values")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let unit = match args.scalar_arguments.first().copied().flatten() {
            Some(unit) => unit.try_as_str().flatten().unwrap_or_default().to_ascii_lowercase(),
            None => {
                return exec_err!("the first argument of {} must be a constant text", self.name());
            }
        };
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(match self.kind {
            Kind::Part if unit == "epoch" => Field::new(self.name(), DataType::Float64, nullable),
            Kind::Part => Field::new(self.name(), DataType::Int32, nullable),
            Kind::Trunc => Field::new(self.name(), DataType::Utf8View, nullable).with_metadata(
                HashMap::from([(CALENDAR.to_owned(), self.calendar.name().to_owned())]),
            ),
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [unit, times] = args.args.as_slice() else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let unit = match unit {
            ColumnarValue::Scalar(unit) => unit.try_as_str().flatten(),
            ColumnarValue::Array(_) => None,
        };
        let Some(unit) = unit else {
            return exec_err!("the first argument of {} must be a constant text", self.name());
        };
        let to = args.return_field.data_type();
        match times {
            ColumnarValue::Array(times) => Ok(ColumnarValue::Array(self.apply(unit, times, to)?)),
            ColumnarValue::Scalar(time) => {
                let result = self.apply(unit, &time.to_array()?, to)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}
