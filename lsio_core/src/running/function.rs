//! [`Running`]: a function over the frames of a block.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayData, ArrayRef, make_array},
    buffer::{BooleanBuffer, Buffer, NullBuffer},
    datatypes::{DECIMAL128_MAX_PRECISION, DataType},
};

use super::{
    exact::{Counts, IntegerSums},
    exact_floats::{ExactSums, Exactness, Magnitude, Spread},
    extremes::Extremes,
    frames::Frames,
    moments::RowMoments,
    slabs::{Input, Results, visit},
    state::RunningState,
    sums::Sums,
    validity::Validity,
    walk::{Summary, Walk},
};
use crate::{Recycler, reduce::Simd};

/// What is computed of the values of each frame. A frame without values is NULL, but counts 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunningFunction {
    /// The number of values that aren't missing.
    Count,
    /// The sum: of floats in float64, rounded about once; of integers and durations exactly, in 38 digits.
    Sum,
    /// The mean, in float64.
    Avg,
    /// The minimum. NaN that isn't missing is above all numbers.
    Min,
    /// The maximum.
    Max,
    /// The variance, in float64.
    Variance {
        /// Whether the divisor is one less than the count.
        sample: bool,
        /// Whether its root is taken, the standard deviation.
        root: bool,
    },
}

/// The shape of a block, in C order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// The number of cells before the window's dimension.
    pub outer: usize,
    /// The number of indices of the window's dimension.
    pub length: usize,
    /// The number of cells behind it.
    pub inner: usize,
}

/// A window that can't be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunningError {
    /// No kernel takes this type.
    #[error("{function:?} over frames takes no {data_type}")]
    Type {
        /// The function.
        function: RunningFunction,
        /// The type of the values.
        data_type: DataType,
    },
    /// The number of values isn't that of the block.
    #[error("a block of {shape:?} has {expected} values, not {found}")]
    Shape {
        /// The block's shape.
        shape: BlockShape,
        /// The number of its cells.
        expected: usize,
        /// The number of values.
        found: usize,
    },
    /// The outputs are more than memory addresses.
    #[error("a window has {outputs} outputs for each of {lines} lines, more than an array holds")]
    TooLarge {
        /// The number of outputs.
        outputs: usize,
        /// The number of lines of cells.
        lines: usize,
    },
    /// The state is one of other lines, or another function.
    #[error("the state of a running window is of another block")]
    State,
    /// The frames don't continue what was seen before the block.
    #[error("frames that continue a state begin where their block does, or end where it does")]
    Frames,
}

impl BlockShape {
    fn cells(self) -> Option<usize> {
        self.outer.checked_mul(self.length)?.checked_mul(self.inner)
    }
}

impl RunningFunction {
    /// The type of the results for values of a type; `None` without kernels for it.
    #[must_use]
    pub fn result_type(self, values: &DataType) -> Option<DataType> {
        let is_number =
            values.is_integer() || matches!(values, DataType::Float32 | DataType::Float64);
        let is_time = matches!(values, DataType::Timestamp(..) | DataType::Duration(_));
        match self {
            Self::Count => Some(DataType::Int64),
            Self::Sum if values.is_integer() || matches!(values, DataType::Duration(_)) => {
                Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0))
            }
            Self::Sum | Self::Avg | Self::Variance { .. } => is_number.then_some(DataType::Float64),
            Self::Min | Self::Max => (is_number || is_time).then(|| values.clone()),
        }
    }
}

/// A function over frames of a block.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// The function.
    pub function: RunningFunction,
    /// Whether NaN is missing.
    pub nan_is_null: bool,
    /// The shape of the block of values.
    pub shape: BlockShape,
    /// The frame of each output along the window's dimension.
    pub frames: &'a Frames,
    /// Memory for the outputs.
    pub recycler: &'a Arc<Recycler>,
}

impl Running<'_> {
    /// Computes all outputs: an array of the shape (outer, outputs, inner), in C order.
    ///
    /// # Errors
    /// [`RunningError`] if the values aren't those of the block, or have a type without kernels.
    pub fn run(&self, values: &ArrayRef) -> Result<ArrayRef, RunningError> {
        self.compute(values, Walk::new(self.frames, self.shape.length), None)
    }

    /// Computes all outputs of frames that also hold all that `state` has seen, and adds the whole block to it.
    ///
    /// The frames begin where the block does, and blocks come in order; or they end where it does, and blocks come in
    /// reverse order.
    ///
    /// # Errors
    /// Those of [`Running::run`]; and [`RunningError::State`] or [`RunningError::Frames`] if the block can't continue
    /// the state.
    pub fn advance(
        &self,
        values: &ArrayRef,
        state: &mut RunningState,
    ) -> Result<ArrayRef, RunningError> {
        let walk = Walk::continuing(self.frames, self.shape.length).ok_or(RunningError::Frames)?;
        self.compute(values, walk, Some(state))
    }

    fn compute(
        &self,
        values: &ArrayRef,
        walk: Walk<'_>,
        state: Option<&mut RunningState>,
    ) -> Result<ArrayRef, RunningError> {
        let (function, shape, data_type) = (self.function, self.shape, values.data_type());
        let expected = shape.cells().unwrap_or(usize::MAX);
        if values.len() != expected {
            return Err(RunningError::Shape { shape, expected, found: values.len() });
        }
        let unknown = || RunningError::Type { function, data_type: data_type.clone() };
        let result = function.result_type(data_type).ok_or_else(unknown)?;
        let lines = shape.outer * shape.inner;
        let cells = self.frames.len().checked_mul(lines);
        let cells =
            cells.filter(|cells| cells.checked_mul(16).is_some_and(|b| b <= isize::MAX as usize));
        let too_large = || RunningError::TooLarge { outputs: self.frames.len(), lines };
        let cells = cells.ok_or_else(too_large)?;
        let block = Block { shape, walk, cells, recycler: self.recycler };
        let validity = Validity::of(values, self.nan_is_null);
        let simd = Simd::detect();
        if function == RunningFunction::Count {
            let bytes = validity.into_bytes(values);
            let stored = vec![0; values.len()];
            let validity = bytes.map_or(Validity::All, Validity::Bytes);
            return block.results(|_| Counts, &stored, &validity, state, &result);
        }
        let data = values.to_data();
        macro_rules! of {
            ($t:ty) => {{
                let stored = &data.buffer::<$t>(0)[..values.len()];
                match function {
                    RunningFunction::Min | RunningFunction::Max => {
                        let greatest = function == RunningFunction::Max;
                        let make = |width| Extremes::<$t>::new(simd, greatest, width);
                        block.results(make, stored, &validity, state, &result)
                    }
                    RunningFunction::Sum if matches!(result, DataType::Decimal128(..)) => {
                        let make = |_| IntegerSums::<$t>::new(simd);
                        block.results(make, stored, &validity, state, &result)
                    }
                    RunningFunction::Variance { sample, root } => {
                        // A state may have seen missing values.
                        let is_even = matches!(validity, Validity::All) && state.is_none();
                        let make =
                            |width| RowMoments::<$t>::new(simd, sample, root, is_even, width);
                        block.results(make, stored, &validity, state, &result)
                    }
                    _ => {
                        let mean = function == RunningFunction::Avg;
                        match self.exactness(simd, stored, &validity, state.is_some()) {
                            Some(Exactness::Whole) => {
                                let make =
                                    |width| ExactSums::<$t, false>::new(simd, mean, 0.0, width);
                                block.results(make, stored, &validity, state, &result)
                            }
                            Some(Exactness::Split(by)) => {
                                let make =
                                    |width| ExactSums::<$t, true>::new(simd, mean, by, width);
                                block.results(make, stored, &validity, state, &result)
                            }
                            None => {
                                let make = |width| Sums::<$t>::new(simd, mean, width);
                                block.results(make, stored, &validity, state, &result)
                            }
                        }
                    }
                }
            }};
        }
        match data_type {
            DataType::Int8 => of!(i8),
            DataType::Int16 => of!(i16),
            DataType::Int32 => of!(i32),
            DataType::Int64 | DataType::Timestamp(..) | DataType::Duration(_) => of!(i64),
            DataType::UInt8 => of!(u8),
            DataType::UInt16 => of!(u16),
            DataType::UInt32 => of!(u32),
            DataType::UInt64 => of!(u64),
            DataType::Float32 => of!(f32),
            DataType::Float64 => of!(f64),
            _ => Err(unknown()),
        }
    }
}

impl Running<'_> {
    /// How the sums of all frames are exact, if they are. Those of frames that only grow have no use for it.
    fn exactness<T: Magnitude>(
        &self,
        simd: Simd,
        values: &[T],
        validity: &Validity,
        continues: bool,
    ) -> Option<Exactness> {
        if continues || self.frames.only_starts_move() || self.frames.only_ends_move() {
            return None;
        }
        Spread::of(simd, values, validity)?.exactness(self.frames.longest())
    }
}

/// A block, and the way through it.
struct Block<'a> {
    shape: BlockShape,
    walk: Walk<'a>,
    /// The number of outputs.
    cells: usize,
    recycler: &'a Arc<Recycler>,
}

impl Block<'_> {
    fn results<S: Summary>(
        &self,
        mut make: impl FnMut(usize) -> S,
        values: &[S::Stored],
        validity: &Validity,
        mut state: Option<&mut RunningState>,
        result: &DataType,
    ) -> Result<ArrayRef, RunningError> {
        let sample = make(0);
        if let Some(state) = state.as_deref_mut()
            && !state.prepare(&sample, self.shape.outer * self.shape.inner, self.shape.length)
        {
            return Err(RunningError::State);
        }
        let least = sample.least_count();
        let may_lack = !matches!(validity, Validity::All) || self.walk.may_lack(least);
        let mut results = self.recycler.take(self.cells * size_of::<S::Out>());
        let mut valid = vec![0_u8; if least > 0 && may_lack { self.cells } else { 0 }];
        let input = Input { values, validity, shape: self.shape };
        let own = (!valid.is_empty()).then_some(valid.as_mut_slice());
        visit(make, &input, &self.walk, Results { values: results.typed_mut(), valid: own }, state);
        let nulls = (!valid.is_empty())
            .then(|| NullBuffer::new(BooleanBuffer::collect_bool(valid.len(), |i| valid[i] != 0)));
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        array(result, self.cells, results.freeze(), nulls)
    }
}

/// An array of so many values in their native form.
fn array(
    data_type: &DataType,
    len: usize,
    values: Buffer,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, RunningError> {
    let data = ArrayData::builder(data_type.clone())
        .len(len)
        .add_buffer(values)
        .nulls(nulls)
        .build()
        .map_err(|_| RunningError::TooLarge { outputs: len, lines: 1 })?;
    Ok(make_array(data))
}
