//! Arithmetic on columns of floats, a block that fits the first-level cache at a time.

use arrow::{array::ArrayRef, buffer::ScalarBuffer, datatypes::DataType};

use super::{
    native::{Native, Real},
    reduction::native_values,
};
use crate::simd::Simd;

/// The values that are computed at a time.
pub(super) const BLOCK: usize = 1024;

/// An arithmetic expression. Where an operand is NaN, so is the result.
#[derive(Clone, Debug, PartialEq)]
pub enum Arithmetic {
    /// The column at this position.
    Column(usize),
    /// A constant of type float32.
    Single(f32),
    /// A constant of type float64.
    Double(f64),
    /// A float32 as a float64.
    Widen(Box<Self>),
    /// A function of one operand.
    Apply(Function, Box<Self>),
    /// An operation on two of the same type.
    Combine(Operation, Box<Self>, Box<Self>),
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say all")]
pub enum Function {
    Negate,
    Absolute,
    Root,
}

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say all")]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// The columns of an expression.
pub(super) struct Columns {
    columns: Vec<Column>,
    nan_is_null: Vec<bool>,
}

enum Column {
    Singles(ScalarBuffer<f32>),
    Doubles(ScalarBuffer<f64>),
}

/// The values of a block.
pub(super) enum Block<'a> {
    Singles(Values<'a, f32>),
    Doubles(Values<'a, f64>),
}

pub(super) enum Values<'a, T> {
    Given(&'a [T]),
    Made(Vec<T>),
    One(T),
}

impl Columns {
    /// `None` if one isn't of floats.
    pub(super) fn new(columns: &[(ArrayRef, bool)]) -> Option<Self> {
        let nan_is_null = columns.iter().map(|(_, nan_is_null)| *nan_is_null).collect();
        let columns = columns.iter().map(|(array, _)| match array.data_type() {
            DataType::Float32 => native_values(&array.to_data()).map(Column::Singles),
            DataType::Float64 => native_values(&array.to_data()).map(Column::Doubles),
            _ => None,
        });
        Some(Self { columns: columns.collect::<Option<_>>()?, nan_is_null })
    }

    /// Whether no column is NULL because of NaN in a row.
    pub(super) fn is_valid(&self, row: usize) -> bool {
        self.columns.iter().zip(&self.nan_is_null).all(|(column, nan_is_null)| {
            !*nan_is_null
                || !match column {
                    Column::Singles(values) => values[row].is_nan(),
                    Column::Doubles(values) => values[row].is_nan(),
                }
        })
    }
}

impl Arithmetic {
    /// The values of some rows. `None` if types don't fit.
    pub(super) fn block<'a>(
        &self,
        columns: &'a Columns,
        rows: std::ops::Range<usize>,
        simd: Simd,
    ) -> Option<Block<'a>> {
        Some(match self {
            Self::Column(position) => match columns.columns.get(*position)? {
                Column::Singles(values) => Block::Singles(Values::Given(values.get(rows)?)),
                Column::Doubles(values) => Block::Doubles(Values::Given(values.get(rows)?)),
            },
            Self::Single(value) => Block::Singles(Values::One(*value)),
            Self::Double(value) => Block::Doubles(Values::One(*value)),
            Self::Widen(of) => match of.block(columns, rows, simd)? {
                Block::Singles(Values::One(value)) => Block::Doubles(Values::One(f64::from(value))),
                Block::Singles(values) => {
                    let values = values.as_slice();
                    let mut wide = vec![0.0; values.len()];
                    simd.widen(&mut wide, values);
                    Block::Doubles(Values::Made(wide))
                }
                Block::Doubles(_) => return None,
            },
            Self::Apply(function, of) => match of.block(columns, rows, simd)? {
                Block::Singles(values) => Block::Singles(apply(*function, values, simd)),
                Block::Doubles(values) => Block::Doubles(apply(*function, values, simd)),
            },
            Self::Combine(operation, one, other) => {
                let one = one.block(columns, rows.clone(), simd)?;
                match (one, other.block(columns, rows, simd)?) {
                    (Block::Singles(one), Block::Singles(other)) => {
                        Block::Singles(combine(*operation, one, other, simd))
                    }
                    (Block::Doubles(one), Block::Doubles(other)) => {
                        Block::Doubles(combine(*operation, one, other, simd))
                    }
                    _ => return None,
                }
            }
        })
    }
}

impl<T: Native> Values<'_, T> {
    /// The values; one that stands for all of them.
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::Given(values) => values,
            Self::Made(values) => values,
            Self::One(value) => std::slice::from_ref(value),
        }
    }
}

fn apply<'a, T: Real>(function: Function, values: Values<'a, T>, simd: Simd) -> Values<'a, T> {
    let mut made = match values {
        Values::Given(values) => values.to_vec(),
        Values::Made(values) => values,
        Values::One(mut value) => {
            simd.apply(function, std::slice::from_mut(&mut value));
            return Values::One(value);
        }
    };
    simd.apply(function, &mut made);
    Values::Made(made)
}

fn combine<'a, T: Real>(
    operation: Operation,
    one: Values<'a, T>,
    other: Values<'a, T>,
    simd: Simd,
) -> Values<'a, T> {
    let mut to;
    match (&one, &other) {
        (Values::One(one), Values::One(other)) => {
            let mut to = *one;
            simd.combine_right(operation, std::slice::from_mut(&mut to), &[*one], *other);
            return Values::One(to);
        }
        (Values::One(one), other) => {
            let other = other.as_slice();
            to = vec![T::LEAST; other.len()];
            simd.combine_left(operation, &mut to, *one, other);
        }
        (one, Values::One(other)) => {
            let one = one.as_slice();
            to = vec![T::LEAST; one.len()];
            simd.combine_right(operation, &mut to, one, *other);
        }
        (one, other) => {
            let one = one.as_slice();
            to = vec![T::LEAST; one.len()];
            simd.combine(operation, &mut to, one, other.as_slice());
        }
    }
    Values::Made(to)
}
