//! Arithmetic on columns of floats, a block that fits the first-level cache at a time.

use std::ops::Range;

use super::{
    float_column::{FloatColumn, FloatValues},
    native::{Native, Real},
};
use crate::simd::Simd;

/// Number of values computed at a time.
pub(super) const BLOCK: usize = 2048;

/// An arithmetic expression. NaN in an operand makes the result NaN.
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
    /// An operation on two operands of the same type.
    Combine(Operation, Box<Self>, Box<Self>),
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say all")]
pub enum Function {
    Negate,
    Absolute,
    Root,
    Square,
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

/// Values of a block.
pub(super) enum Block<'a> {
    Singles(BlockValues<'a, f32>),
    Doubles(BlockValues<'a, f64>),
}

pub(super) enum BlockValues<'a, T> {
    Given(&'a [T]),
    Made(Vec<T>),
    One(T),
}

impl Arithmetic {
    /// Values of the expression in some rows; `None` if the types don't fit.
    pub(super) fn block<'a>(
        &self,
        columns: &[FloatColumn<'a>],
        rows: Range<usize>,
        simd: Simd,
        spare: &mut Spare,
    ) -> Option<Block<'a>> {
        Some(match self {
            Self::Column(position) => match columns.get(*position)?.values {
                FloatValues::Singles(values) => {
                    Block::Singles(BlockValues::Given(values.get(rows)?))
                }
                FloatValues::Doubles(values) => {
                    Block::Doubles(BlockValues::Given(values.get(rows)?))
                }
                FloatValues::Packed(bytes, unpacking) => {
                    let mut singles = spare.singles.pop().unwrap_or_default();
                    if unpacking.singles_of(bytes, rows.clone(), &mut singles) {
                        return Some(Block::Singles(BlockValues::Made(singles)));
                    }
                    spare.singles.push(singles);
                    let mut doubles = spare.doubles.pop().unwrap_or_default();
                    unpacking.doubles_of(bytes, rows, &mut doubles).then_some(())?;
                    Block::Doubles(BlockValues::Made(doubles))
                }
            },
            Self::Single(value) => Block::Singles(BlockValues::One(*value)),
            Self::Double(value) => Block::Doubles(BlockValues::One(*value)),
            Self::Widen(of) => match of.block(columns, rows, simd, spare)? {
                Block::Singles(BlockValues::One(value)) => {
                    Block::Doubles(BlockValues::One(f64::from(value)))
                }
                Block::Singles(values) => {
                    let mut wide = spare.doubles.pop().unwrap_or_default();
                    // The contents of a spare block are overwritten.
                    wide.resize(values.as_slice().len(), 0.0);
                    simd.widen(&mut wide, values.as_slice());
                    spare.keep(Block::Singles(values));
                    Block::Doubles(BlockValues::Made(wide))
                }
                Block::Doubles(_) => return None,
            },
            Self::Apply(Function::Root, of) if of.summed_squares().is_some() => {
                let [one, other] = of.summed_squares()?;
                let one = one.block(columns, rows.clone(), simd, spare)?;
                match (one, other.block(columns, rows, simd, spare)?) {
                    (Block::Singles(one), Block::Singles(other)) => {
                        Block::Singles(root_of_squares(one, other, simd, &mut spare.singles))
                    }
                    (Block::Doubles(one), Block::Doubles(other)) => {
                        Block::Doubles(root_of_squares(one, other, simd, &mut spare.doubles))
                    }
                    _ => return None,
                }
            }
            Self::Apply(function, of) => match of.block(columns, rows, simd, spare)? {
                Block::Singles(values) => {
                    Block::Singles(apply(*function, values, simd, &mut spare.singles))
                }
                Block::Doubles(values) => {
                    Block::Doubles(apply(*function, values, simd, &mut spare.doubles))
                }
            },
            // Both sides are computed once.
            Self::Combine(Operation::Multiply, one, other) if one == other => {
                match one.block(columns, rows, simd, spare)? {
                    Block::Singles(values) => {
                        Block::Singles(apply(Function::Square, values, simd, &mut spare.singles))
                    }
                    Block::Doubles(values) => {
                        Block::Doubles(apply(Function::Square, values, simd, &mut spare.doubles))
                    }
                }
            }
            Self::Combine(operation, one, other) => {
                let one = one.block(columns, rows.clone(), simd, spare)?;
                match (one, other.block(columns, rows, simd, spare)?) {
                    (Block::Singles(one), Block::Singles(other)) => {
                        Block::Singles(combine(*operation, (one, other), simd, &mut spare.singles))
                    }
                    (Block::Doubles(one), Block::Doubles(other)) => {
                        Block::Doubles(combine(*operation, (one, other), simd, &mut spare.doubles))
                    }
                    _ => return None,
                }
            }
        })
    }
}

impl Arithmetic {
    /// The terms of which this is the sum of the squares.
    fn summed_squares(&self) -> Option<[&Self; 2]> {
        let Self::Combine(Operation::Add, one, other) = self else { return None };
        Some([one.squared()?, other.squared()?])
    }

    /// The term of which this is the square.
    fn squared(&self) -> Option<&Self> {
        match self {
            Self::Apply(Function::Square, of) => Some(of),
            Self::Combine(Operation::Multiply, one, other) if one == other => Some(one),
            _ => None,
        }
    }

    /// Computes the values in some rows as doubles; `None` if the types don't fit.
    pub(super) fn doubles(
        &self,
        columns: &[FloatColumn<'_>],
        rows: Range<usize>,
        simd: Simd,
        spare: &mut Spare,
        values: &mut Vec<f64>,
    ) -> Option<()> {
        let len = rows.len();
        let block = self.block(columns, rows, simd, spare)?;
        // The contents are overwritten.
        values.resize(len, 0.0);
        match &block {
            Block::Singles(singles) => match singles.as_slice() {
                [one] => values.fill(f64::from(*one)),
                singles => simd.widen(values, singles),
            },
            Block::Doubles(doubles) => match doubles.as_slice() {
                [one] => values.fill(*one),
                doubles if doubles.len() == len => values.copy_from_slice(doubles),
                _ => return None,
            },
        }
        spare.keep(block);
        Some(())
    }
}

/// Memory of blocks for reuse.
#[derive(Clone, Debug, Default)]
pub(super) struct Spare {
    singles: Vec<Vec<f32>>,
    doubles: Vec<Vec<f64>>,
}

impl Spare {
    /// Keeps the memory of a block for reuse, if the block owns any.
    pub(super) fn keep(&mut self, block: Block<'_>) {
        match block {
            Block::Singles(BlockValues::Made(values)) => self.singles.push(values),
            Block::Doubles(BlockValues::Made(values)) => self.doubles.push(values),
            _ => {}
        }
    }
}

impl<T: Native> BlockValues<'_, T> {
    /// Values as a slice; of a constant, a slice of one value.
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::Given(values) => values,
            Self::Made(values) => values,
            Self::One(value) => std::slice::from_ref(value),
        }
    }
}

impl<T: Native> BlockValues<'_, T> {
    /// Values in memory that may be changed.
    fn made(self, spare: &mut Vec<Vec<T>>) -> Vec<T> {
        match self {
            Self::Made(values) => values,
            other => {
                let mut values = spare.pop().unwrap_or_default();
                values.clear();
                values.extend_from_slice(other.as_slice());
                values
            }
        }
    }
}

fn apply<'a, T: Real>(
    function: Function,
    values: BlockValues<'a, T>,
    simd: Simd,
    spare: &mut Vec<Vec<T>>,
) -> BlockValues<'a, T> {
    if let BlockValues::One(mut value) = values {
        simd.apply(function, std::slice::from_mut(&mut value));
        return BlockValues::One(value);
    }
    if let (BlockValues::Given(values), Function::Square) = (&values, function) {
        let mut to = spare.pop().unwrap_or_default();
        // The contents of a spare block are overwritten.
        to.resize(values.len(), T::default());
        simd.combine_both(Operation::Multiply, &mut to, values, values);
        return BlockValues::Made(to);
    }
    let mut made = values.made(spare);
    simd.apply(function, &mut made);
    BlockValues::Made(made)
}

/// The root of the sum of two squares, such as a speed of its components: one pass, in place of five.
fn root_of_squares<'a, T: Real>(
    one: BlockValues<'a, T>,
    other: BlockValues<'a, T>,
    simd: Simd,
    spare: &mut Vec<Vec<T>>,
) -> BlockValues<'a, T> {
    if matches!(one, BlockValues::One(_)) || matches!(other, BlockValues::One(_)) {
        let one = apply(Function::Square, one, simd, spare);
        let other = apply(Function::Square, other, simd, spare);
        let sum = combine(Operation::Add, (one, other), simd, spare);
        return apply(Function::Root, sum, simd, spare);
    }
    let mut to = spare.pop().unwrap_or_default();
    // The contents of a spare block are overwritten.
    to.resize(one.as_slice().len(), T::default());
    simd.root_of_squares(&mut to, one.as_slice(), other.as_slice());
    for values in [one, other] {
        if let BlockValues::Made(values) = values {
            spare.push(values);
        }
    }
    BlockValues::Made(to)
}

fn combine<'a, T: Real>(
    operation: Operation,
    values: (BlockValues<'a, T>, BlockValues<'a, T>),
    simd: Simd,
    spare: &mut Vec<Vec<T>>,
) -> BlockValues<'a, T> {
    match values {
        (BlockValues::One(mut one), BlockValues::One(other)) => {
            simd.combine_right(operation, std::slice::from_mut(&mut one), other);
            BlockValues::One(one)
        }
        (BlockValues::One(one), other) => {
            let mut to = other.made(spare);
            simd.combine_left(operation, one, &mut to);
            BlockValues::Made(to)
        }
        (one, BlockValues::One(other)) => {
            let mut to = one.made(spare);
            simd.combine_right(operation, &mut to, other);
            BlockValues::Made(to)
        }
        (BlockValues::Made(mut to), other) => {
            simd.combine(operation, &mut to, other.as_slice());
            if let BlockValues::Made(values) = other {
                spare.push(values);
            }
            BlockValues::Made(to)
        }
        (BlockValues::Given(one), other) => {
            let mut to = spare.pop().unwrap_or_default();
            // The contents of a spare block are overwritten.
            to.resize(one.len(), T::default());
            simd.combine_both(operation, &mut to, one, other.as_slice());
            if let BlockValues::Made(values) = other {
                spare.push(values);
            }
            BlockValues::Made(to)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array};

    use super::*;

    fn values(expr: &Arithmetic, columns: &[ArrayRef; 2]) -> Vec<u64> {
        let own: Vec<_> =
            columns.iter().map(|own| FloatColumn::of_array(own, true).unwrap()).collect();
        let (mut spare, mut all) = (Spare::default(), Vec::new());
        for start in (0..own[0].len()).step_by(700) {
            let (rows, mut some) = (start..own[0].len().min(start + 700), Vec::new());
            expr.doubles(&own, rows, Simd::detect(), &mut spare, &mut some).unwrap();
            // The sign of NaN is nobody's.
            let bits = |v: &f64| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
            all.extend(some.iter().map(bits));
        }
        all
    }

    #[test]
    fn roots_of_squares_are_those_of_single_steps() {
        use Arithmetic::{Apply, Column, Combine, Double, Single};
        let numbers = |step: u64| (0..2000).map(move |i| (i * step % 8191) as f64 / 37.0 - 99.0);
        let with_nan = |step| numbers(step).map(|v| if v < -98.5 { f64::NAN } else { v });
        let singles = |step| -> ArrayRef {
            Arc::new(Float32Array::from_iter_values(with_nan(step).map(|v| v as f32)))
        };
        let doubles =
            |step| -> ArrayRef { Arc::new(Float64Array::from_iter_values(with_nan(step))) };
        let product = |of: &Arithmetic| {
            Combine(Operation::Multiply, Box::new(of.clone()), Box::new(of.clone()))
        };
        let square = |of: &Arithmetic| Apply(Function::Square, Box::new(of.clone()));
        let made = |of: &Arithmetic| Apply(Function::Negate, Box::new(of.clone()));
        let (one, other) = (Column(0), Column(1));
        for (columns, constant) in [
            ([singles(7919), singles(104_729)], Single(2.5)),
            ([doubles(7919), doubles(104_729)], Double(2.5)),
        ] {
            for (one, other) in [
                (product(&one), product(&other)),
                (square(&one), product(&made(&other))),
                (square(&made(&one)), square(&made(&other))),
                (square(&constant), product(&other)),
                (product(&one), square(&constant)),
                (square(&constant), square(&constant)),
            ] {
                let sum = Combine(Operation::Add, Box::new(one), Box::new(other));
                assert!(sum.summed_squares().is_some());
                // The same steps, one by one.
                let steps = Apply(Function::Absolute, Box::new(sum.clone()));
                let steps = Apply(Function::Root, Box::new(steps));
                let root = Apply(Function::Root, Box::new(sum));
                assert_eq!(values(&root, &columns), values(&steps, &columns), "{root:?}");
            }
        }
    }
}
