//! What `semantics.json` holds, and values of both sides that can be compared.

use std::{collections::BTreeMap, fmt};

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Float16Type, Float64Type, IntervalMonthDayNanoType,
        IntervalUnit, TimeUnit,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use serde::Deserialize;
use serde_json::Value;

use crate::harness::workspace;

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// What an expression gives, for each column in its `{x}`, or columns in its `{a}` and `{b}`.
#[derive(Deserialize)]
pub(super) struct Answers {
    /// The group of the store, or `aggregates`, which are those of `line`.
    pub over: String,
    pub sql: String,
    /// How far a mathematical library may be off, in units of the last place.
    #[serde(default)]
    pub ulps: u32,
    of: BTreeMap<String, Value>,
}

impl Answers {
    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        let path = workspace().join("lsio_datafusion/tests/fixtures/semantics.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The columns that are asked about.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.of.keys().map(String::as_str)
    }

    /// The expression of a column, or of a pair of them.
    pub(super) fn expression(&self, column: &str) -> String {
        let (a, b) = column.split_once(',').unwrap_or((column, column));
        self.sql.replace("{x}", a).replace("{a}", a).replace("{b}", &format!("{b}_"))
    }

    /// The values of a column's rows.
    pub(super) fn of(&self, column: &str) -> Vec<Cell> {
        match &self.of[column] {
            Value::String(letters) => letters.chars().map(Cell::of_letter).collect(),
            Value::Array(values) => values.iter().map(Cell::of_json).collect(),
            other => panic!("{} of {column}: {other}", self.sql),
        }
    }
}

/// One value. Times are text without zeros at their end, durations are nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    /// Whatever comes is right.
    Any,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

impl Cell {
    fn of_letter(letter: char) -> Self {
        match letter {
            'T' => Self::Bool(true),
            'F' => Self::Bool(false),
            _ => Self::Null,
        }
    }

    fn of_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => {
                let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
                whole.map_or_else(|| Self::Float(number.as_f64().unwrap()), Self::Int)
            }
            Value::String(text) => match text.as_str() {
                "?" => Self::Any,
                "inf" => Self::Float(f64::INFINITY),
                "-inf" => Self::Float(f64::NEG_INFINITY),
                text => Self::Text(text.to_owned()),
            },
            other => panic!("{other}"),
        }
    }

    /// A number as a double.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The value as one of another type has it: narrow floats are computed as such.
    pub(super) fn rounded(&self, to: &DataType) -> Self {
        match (self, to) {
            (Self::Int(_) | Self::Float(_), DataType::Float32) => {
                Self::Float(f64::from(self.number().unwrap() as f32))
            }
            (Self::Int(_) | Self::Float(_), DataType::Float16) => {
                Self::Float(Half::from_f64(self.number().unwrap()).to_f64())
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Any => f.write_str("anything"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "'{value}'"),
        }
    }
}

/// Whether a value that came, in a column of a type, is the expected one.
pub(super) fn is_right(actual: &Cell, data_type: &DataType, expected: &Cell, ulps: u32) -> bool {
    match (actual, expected) {
        (_, Cell::Any) => true,
        (Cell::Int(a), Cell::Int(e)) => a == e,
        (Cell::Int(_) | Cell::Float(_), Cell::Int(_) | Cell::Float(_)) => {
            let (bits, least, ulps) = match data_type {
                // Of what is computed in steps, each is rounded.
                DataType::Float32 => {
                    (f64::from(f32::EPSILON), f64::from(f32::MIN_POSITIVE), ulps.max(4))
                }
                DataType::Float16 => {
                    (Half::EPSILON.to_f64(), Half::MIN_POSITIVE.to_f64(), ulps.max(4))
                }
                _ => (f64::EPSILON, f64::MIN_POSITIVE, ulps),
            };
            let (a, e) = (actual.number().unwrap(), expected.rounded(data_type).number().unwrap());
            a == e || (a - e).abs() <= f64::from(ulps) * bits * e.abs().max(least)
        }
        _ => actual == expected,
    }
}

/// A column of a result.
pub(super) struct Column {
    pub data_type: DataType,
    pub cells: Vec<Cell>,
}

/// The columns of a result.
pub(super) fn columns(batches: &[RecordBatch]) -> Vec<Column> {
    let Some(first) = batches.first() else { return Vec::new() };
    (0..first.num_columns())
        .map(|at| Column {
            data_type: first.column(at).data_type().clone(),
            cells: batches.iter().flat_map(|batch| cells(batch.column(at))).collect(),
        })
        .collect()
}

fn cells(array: &ArrayRef) -> Vec<Cell> {
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).unwrap();
    let floats = array
        .data_type()
        .is_floating()
        .then(|| cast(array, &DataType::Float64).unwrap().as_primitive::<Float64Type>().clone());
    let whole = matches!(array.data_type(), DataType::Duration(_))
        .then(|| cast(array, &DataType::Int64).unwrap());
    let text = |row| formatter.value(row).to_string();
    (0..array.len())
        .map(|row| match array.data_type() {
            _ if array.is_null(row) => Cell::Null,
            DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
            DataType::Duration(unit) => {
                let formatter =
                    ArrayFormatter::try_new(whole.as_ref().unwrap(), &FormatOptions::default());
                let count: i128 = formatter.unwrap().value(row).to_string().parse().unwrap();
                Cell::Int(count * nanoseconds(*unit))
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                let days = i128::from(value.months) * 30 + i128::from(value.days);
                Cell::Int(days * 86_400_000_000_000 + i128::from(value.nanoseconds))
            }
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
                Cell::Text(time(&text(row)))
            }
            _ if floats.is_some() => Cell::Float(floats.as_ref().unwrap().value(row)),
            kind if kind.is_integer() => Cell::Int(text(row).parse().unwrap()),
            kind if kind.is_numeric() => {
                let text = text(row);
                text.parse().map_or_else(|_| Cell::Float(text.parse().unwrap()), Cell::Int)
            }
            _ => Cell::Text(text(row).trim_end_matches("T00:00:00").to_owned()),
        })
        .collect()
}

fn nanoseconds(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// ISO text without zeros at its end.
fn time(text: &str) -> String {
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    text.trim_end_matches("T00:00:00").to_owned()
}
