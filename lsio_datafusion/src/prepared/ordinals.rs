//! Numbers of distinct keys, in the order in which they come.

use std::collections::HashMap;

use arrow::{
    array::{
        Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, UInt64Array, downcast_primitive,
    },
    buffer::NullBuffer,
    compute::take,
    datatypes::{ArrowNativeTypeOp as _, Field, Schema, ToByteSlice as _},
};
use datafusion::{
    error::Result,
    physical_plan::aggregates::{
        group_values::{GroupValues, new_group_values},
        order::GroupOrdering,
    },
};

/// The number of a key that equals no other.
pub(crate) const NONE: u64 = u64::MAX;

/// Distinct keys, each of one value or several.
pub(crate) struct Ordinals {
    known: Box<dyn GroupValues>,
    null_equals: Vec<bool>,
}

impl Ordinals {
    /// No keys yet, of the types of `keys`. NULL equals NULL where `null_equals`, and otherwise nothing.
    pub(crate) fn new(keys: &[ArrayRef], null_equals: Vec<bool>) -> Result<Self> {
        let fields = keys.iter().map(|key| Field::new("key", key.data_type().clone(), true));
        let schema = Schema::new(fields.collect::<Vec<_>>()).into();
        Ok(Self { known: new_group_values(schema, &GroupOrdering::None)?, null_equals })
    }

    /// The number of distinct keys.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The number of each key, or [`NONE`].
    pub(crate) fn of(&mut self, keys: &[ArrayRef]) -> Result<Vec<u64>> {
        let nulls = keys.iter().zip(&self.null_equals).filter(|(_, null_equals)| !**null_equals);
        let nulls = nulls.map(|(key, _)| key.logical_nulls());
        let nulls = nulls.fold(None, |all, own| NullBuffer::union(all.as_ref(), own.as_ref()));
        if let ([keys], None) = (keys, &nulls)
            && keys.null_count() == 0
        {
            macro_rules! repeated {
                ($t:ty) => {
                    return self.of_repeated::<$t>(keys)
                };
            }
            downcast_primitive! {
                keys.data_type() => (repeated),
                _ => {}
            }
        }
        self.of_any(keys, nulls.as_ref())
    }

    fn of_any(&mut self, keys: &[ArrayRef], nulls: Option<&NullBuffer>) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        self.known.intern(keys, &mut found)?;
        let ordinal = |(position, ordinal): (usize, &usize)| match nulls {
            Some(nulls) if nulls.is_null(position) => NONE,
            _ => *ordinal as u64,
        };
        Ok(found.iter().enumerate().map(ordinal).collect())
    }

    /// Keys that are mostly the same as the one before, or follow each other in the same order again and again, as those
    /// of the dimensions of a grid do: only the others are hashed.
    fn of_repeated<T: ArrowPrimitiveType>(&mut self, keys: &ArrayRef) -> Result<Vec<u64>> {
        let values = keys.as_primitive::<T>().values();
        // Distinct keys of this array, by their positions in it.
        let mut firsts: Vec<usize> = Vec::new();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut own: Vec<usize> = Vec::with_capacity(values.len());
        let mut last = 0;
        for (position, value) in values.iter().enumerate() {
            let is =
                |place: usize| firsts.get(place).is_some_and(|first| values[*first].is_eq(*value));
            let next = if last + 1 < firsts.len() { last + 1 } else { 0 };
            last = if is(last) {
                last
            } else if is(next) {
                next
            } else {
                *places.entry(value.to_byte_slice().to_vec()).or_insert_with(|| {
                    firsts.push(position);
                    firsts.len() - 1
                })
            };
            own.push(last);
        }
        let indices = UInt64Array::from_iter_values(firsts.iter().map(|first| *first as u64));
        let distinct = take(keys, &indices, None)?;
        let numbers = self.of_any(&[distinct], None)?;
        Ok(own.into_iter().map(|place| numbers[place]).collect())
    }
}
