//! `flag_meaning(column)`: the labels of flags, after the CF conventions (section 3.5).

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringViewArray, UInt32Array},
    compute::{cast, take},
    datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type},
};
use datafusion::{
    common::{Result, exec_err, internal_err, plan_err},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
    },
    scalar::ScalarValue,
};
use serde_json::{Map, Value};

use crate::schema::ATTRIBUTES;

/// Scalar function `flag_meaning(column)`: the label of a value by the column's attributes `flag_values` and
/// `flag_meanings`; with `flag_masks` the labels of all flags that are set, separated by blanks. NULL for a
/// value without a label.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FlagMeaning {
    signature: Signature,
}

impl Default for FlagMeaning {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FlagMeaning {
    fn name(&self) -> &'static str {
        "flag_meaning"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the labels are in the argument's field")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [field] = args.arg_fields else {
            return plan_err!("flag_meaning takes one argument, a column with flags");
        };
        Flags::of(field)?;
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8View, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ([field], [values]) = (args.arg_fields.as_slice(), args.args.as_slice()) else {
            return exec_err!("flag_meaning takes one argument, a column with flags");
        };
        let flags = Flags::of(field)?;
        match values {
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(flags.labels(values)?)),
            ColumnarValue::Scalar(value) => {
                let label = flags.labels(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&label, 0)?))
            }
        }
    }
}

/// Flags in a variable's attributes.
#[derive(Debug, PartialEq, Eq)]
struct Flags {
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    mask: Option<i128>,
    value: Option<i128>,
    label: String,
}

impl Condition {
    fn holds(&self, value: i128) -> bool {
        match (self.mask, self.value) {
            (Some(mask), Some(expected)) => value & mask == expected,
            (Some(mask), None) => value & mask != 0,
            (None, Some(expected)) => value == expected,
            (None, None) => false,
        }
    }
}

impl Flags {
    /// Reads the attributes of a column's field.
    fn of(field: &Field) -> Result<Self> {
        let name = field.name();
        let data_type = field.data_type();
        if !data_type.is_numeric() && *data_type != DataType::Boolean {
            return plan_err!("flag_meaning({name}): flags are numbers, and {name} is {data_type}");
        }
        let attributes: Option<Map<String, Value>> = field
            .metadata()
            .get(ATTRIBUTES)
            .and_then(|attributes| serde_json::from_str(attributes).ok());
        let Some(attributes) = attributes else {
            return plan_err!(
                "flag_meaning({name}): only a column of a Zarr table has the attributes that it \
                 needs, flag_meanings with flag_values or flag_masks; {name} is an expression or \
                 another table's"
            );
        };
        let labels = match attributes.get("flag_meanings") {
            Some(Value::String(labels)) => labels.split_whitespace().map(str::to_owned).collect(),
            Some(Value::Array(labels)) => {
                let labels = labels.iter().map(|label| label.as_str().map(str::to_owned));
                labels.collect::<Option<Vec<_>>>().unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let list = |key: &str| match attributes.get(key) {
            None => Ok(None),
            Some(value) => match numbers(value, data_type) {
                Some(numbers) => Ok(Some(numbers)),
                None => plan_err!(
                    "flag_meaning({name}): its attribute {key} is no list of integers: {value}"
                ),
            },
        };
        let (values, masks) = (list("flag_values")?, list("flag_masks")?);
        if labels.is_empty() || (values.is_none() && masks.is_none()) {
            let mut missing = Vec::new();
            if labels.is_empty() {
                missing.push("flag_meanings");
            }
            if values.is_none() && masks.is_none() {
                missing.push("flag_values or flag_masks");
            }
            return plan_err!(
                "flag_meaning({name}): {name} lacks the attributes {}",
                missing.join(" and ")
            );
        }
        for (key, list) in [("flag_values", &values), ("flag_masks", &masks)] {
            if let Some(list) = list
                && list.len() != labels.len()
            {
                return plan_err!(
                    "flag_meaning({name}): {} flag_meanings and {} {key}",
                    labels.len(),
                    list.len()
                );
            }
        }
        let at = |list: &Option<Vec<i128>>, i: usize| list.as_ref()?.get(i).copied();
        let conditions = labels
            .into_iter()
            .enumerate()
            .map(|(i, label)| Condition { mask: at(&masks, i), value: at(&values, i), label })
            .collect();
        Ok(Self { conditions })
    }

    /// Label of a value.
    fn label(&self, value: i128) -> Option<String> {
        let labels: Vec<&str> = self
            .conditions
            .iter()
            .filter(|condition| condition.holds(value))
            .map(|condition| condition.label.as_str())
            .collect();
        match labels.as_slice() {
            // A value of masks without a bit set is valid, and has an empty label.
            [] if value == 0 && self.conditions.iter().all(|c| c.value.is_none()) => {
                Some(String::new())
            }
            [] => None,
            // Of repeated values without masks, the first counts.
            [first, ..] if self.conditions.iter().all(|c| c.mask.is_none()) => {
                Some((*first).to_owned())
            }
            labels => Some(labels.join(" ")),
        }
    }

    fn labels(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let mut labels =
            Labels { flags: self, known: HashMap::new(), texts: Vec::new(), last: None };
        // Few values are distinct, and many in a row equal: each label is written once, and the views of all
        // its rows share it.
        let indices: UInt32Array = match values.data_type() {
            DataType::UInt64 => {
                let values = cast(values, &DataType::Decimal128(20, 0))?;
                values.as_primitive::<Decimal128Type>().iter().map(|v| labels.index(v?)).collect()
            }
            data_type if data_type.is_integer() || *data_type == DataType::Boolean => {
                let values = cast(values, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>();
                values.iter().map(|v| labels.index(v?.into())).collect()
            }
            _ => {
                let values = cast(values, &DataType::Float64)?;
                let values = values.as_primitive::<Float64Type>();
                values.iter().map(|v| labels.index(whole(v?)?)).collect()
            }
        };
        let texts = StringViewArray::from_iter_values(labels.texts);
        Ok(take(&texts, &indices, None)?)
    }
}

/// Labels in the order of their first values.
struct Labels<'a> {
    flags: &'a Flags,
    known: HashMap<i128, Option<u32>>,
    texts: Vec<String>,
    last: Option<(i128, Option<u32>)>,
}

impl Labels<'_> {
    fn index(&mut self, value: i128) -> Option<u32> {
        if let Some((last, index)) = self.last
            && last == value
        {
            return index;
        }
        let index = match self.known.get(&value) {
            Some(index) => *index,
            None => {
                let index = self.flags.label(value).and_then(|text| {
                    let index = u32::try_from(self.texts.len()).ok();
                    self.texts.push(text);
                    index
                });
                self.known.insert(value, index);
                index
            }
        };
        self.last = Some((value, index));
        index
    }
}

/// Integer of a float that is whole.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn whole(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 1e19).then_some(value as i128)
}

/// Parses an attribute of one or more integers, as numbers or as text such as `0b, 1b, 2b`. Negative ones
/// beside an unsigned column are those of the same bits: `_Unsigned` applies to the data only.
fn numbers(value: &Value, data_type: &DataType) -> Option<Vec<i128>> {
    let bits = match data_type {
        DataType::UInt8 => 8,
        DataType::UInt16 => 16,
        DataType::UInt32 => 32,
        DataType::UInt64 => 64,
        _ => 0,
    };
    let unsigned =
        |number: i128| if number < 0 && bits > 0 { number + (1 << bits) } else { number };
    let numbers: Option<Vec<i128>> = match value {
        Value::Array(list) => list.iter().map(number).collect(),
        Value::String(text) => text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(|word| {
                let digits = word.trim_end_matches(['b', 'B', 's', 'S', 'l', 'L', 'u', 'U']);
                digits.parse().ok()
            })
            .collect(),
        one => Some(vec![number(one)?]),
    };
    Some(numbers?.into_iter().map(unsigned).collect())
}

fn number(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(value) => Some(i128::from(*value)),
        value => value
            .as_i64()
            .map(i128::from)
            .or_else(|| value.as_u64().map(i128::from))
            .or_else(|| value.as_f64().and_then(whole)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flags(data_type: DataType, attributes: &Value) -> Result<Flags> {
        let metadata = HashMap::from([(ATTRIBUTES.to_owned(), attributes.to_string())]);
        Flags::of(&Field::new("qc", data_type, true).with_metadata(metadata))
    }

    fn labels(attributes: &Value, values: &[i128]) -> Vec<Option<String>> {
        let flags = flags(DataType::UInt8, attributes).unwrap();
        values.iter().map(|value| flags.label(*value)).collect()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// Examples 3.3 to 3.5 of the CF conventions.
    #[test]
    fn examples_of_the_conventions() {
        let values = json!({
            "flag_values": [0, 1, 2],
            "flag_meanings": "quality_good sensor_nonfunctional outside_valid_range"
        });
        assert_eq!(
            labels(&values, &[0, 2, 3]),
            [some("quality_good"), some("outside_valid_range"), None]
        );
        let masks = json!({
            "flag_masks": [1, 2, 4, 8, 16, 32],
            "flag_meanings": "low_battery processor_fault memory_fault disk_fault software_fault \
                              maintenance_required"
        });
        assert_eq!(
            labels(&masks, &[0, 33, 4, 64, 65]),
            [
                some(""),
                some("low_battery maintenance_required"),
                some("memory_fault"),
                None,
                some("low_battery")
            ]
        );
        let both = json!({
            "flag_masks": [1, 2, 12, 12, 12],
            "flag_values": [1, 2, 4, 8, 12],
            "flag_meanings": "low_battery hardware_fault offline_mode calibration_mode \
                              maintenance_mode"
        });
        assert_eq!(
            labels(&both, &[0, 13, 6, 8]),
            [
                None,
                some("low_battery maintenance_mode"),
                some("hardware_fault offline_mode"),
                some("calibration_mode")
            ]
        );
    }

    #[test]
    fn spellings_of_attributes() {
        let labels_of = |values: Value| {
            labels(&json!({ "flag_values": values, "flag_meanings": ["a", "b"] }), &[1, 128])
        };
        for values in [json!([1, 128]), json!([1, -128]), json!("1b, -128b"), json!([1.0, 128.0])] {
            assert_eq!(labels_of(values), [some("a"), some("b")]);
        }
    }

    #[test]
    fn attributes_that_do_not_do() {
        for (attributes, words) in [
            (json!({}), "flag_meanings and flag_values or flag_masks"),
            (json!({ "flag_values": [1] }), "lacks the attributes flag_meanings"),
            (json!({ "flag_meanings": "a b" }), "flag_values or flag_masks"),
            (
                json!({ "flag_meanings": "a b", "flag_values": [1] }),
                "2 flag_meanings and 1 flag_values",
            ),
            (json!({ "flag_meanings": "a", "flag_masks": ["x"] }), "no list of integers"),
        ] {
            let error = flags(DataType::Int8, &attributes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = flags(DataType::Utf8View, &json!({})).unwrap_err().to_string();
        assert!(error.contains("flags are numbers"), "{error}");
    }
}
