//! Packed numbers are reduced and compared as their unpacked values are.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    buffer::{BooleanBuffer, Buffer},
    datatypes::{
        ArrowPrimitiveType, DataType, Float64Type, Int8Type, Int16Type, Int32Type, UInt8Type,
        UInt16Type, UInt32Type,
    },
};
use proptest::prelude::*;

use super::{
    Comparison, GroupKeys, GroupLayout, Number, Reduction, Simd, States, StoredNumbers, Unpacking,
    Wanted, compare, compare_stored,
};

/// Packed numbers, as they are and as an array.
struct Case {
    unpacking: Unpacking,
    bytes: Buffer,
    array: ArrayRef,
}

impl Case {
    /// Draws each number from a few, some of which are missing.
    fn new<T: ArrowPrimitiveType>(of: &[T::Native], picks: &[usize], by: [f64; 2]) -> Self
    where
        T::Native: Into<i64>,
    {
        let numbers: Vec<T::Native> = picks.iter().map(|pick| of[pick % of.len()]).collect();
        let missing = of[..of.len() / 3].iter().map(|number| (*number).into()).collect();
        let unpacking = Unpacking::scaled(T::DATA_TYPE, missing, by).unwrap();
        let bytes = Buffer::from_slice_ref(&numbers);
        let array = unpacking.array(&bytes).unwrap();
        Self { unpacking, bytes, array }
    }

    fn of_each_type(picks: &[usize], kinds: usize, by: [f64; 2]) -> Vec<Self> {
        let most = kinds.max(1);
        macro_rules! case {
            ($t:ty, $n:ty) => {{
                let of = [<$n>::MIN, <$n>::MAX, 7, 0, 1, 100, <$n>::MAX - 1, 3];
                Self::new::<$t>(&of[..most.min(8)], picks, by)
            }};
        }
        vec![
            case!(Int8Type, i8),
            case!(Int16Type, i16),
            case!(Int32Type, i32),
            case!(UInt8Type, u8),
            case!(UInt16Type, u16),
            case!(UInt32Type, u32),
        ]
    }

    fn numbers(&self, cells: std::ops::Range<usize>) -> StoredNumbers<'_> {
        let width = self.unpacking.stored_width();
        let bytes = &self.bytes[cells.start * width..cells.end * width];
        StoredNumbers::new(bytes, Some(&self.unpacking))
    }
}

fn assert_alike(own: &States, expected: &States, what: &str) {
    let counts = |states: &States| states.counts.iter().collect::<Vec<_>>();
    assert_eq!(counts(own), counts(expected), "{what}");
    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * (1e3 + b.abs());
    let means = |states: &States| -> Vec<f64> {
        states.starts.iter().zip(&states.means).map(|(start, mean)| start + mean).collect()
    };
    for (own, expected) in [
        (&own.sums, &expected.sums),
        (&own.squares, &expected.squares),
        (&means(own), &means(expected)),
    ] {
        assert_eq!(own.len(), expected.len(), "{what}");
        assert!(own.iter().zip(expected).all(is_close), "{what}: {own:?} {expected:?}");
    }
    for (own, expected_bounds) in [(&own.min, &expected.min), (&own.max, &expected.max)] {
        let bits = |bounds: &Option<Buffer>| -> Vec<u64> {
            let bounds = bounds.as_ref().map_or(&[][..], |b| b.typed_data::<u64>());
            let counted = bounds.iter().zip(expected.counts.iter());
            counted.filter(|(_, count)| *count > 0).map(|(bits, _)| *bits).collect()
        };
        assert_eq!(bits(own), bits(expected_bounds), "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn packed_numbers_are_reduced_as_their_values(
        shape in prop_oneof![
            Just([3, 5, 40]), Just([9, 2, 300]), Just([6, 1, 20]), Just([2, 3, 2500]),
        ],
        picks in prop::collection::vec(0_usize..97, 64..200),
        kinds in 1_usize..9,
        by in prop_oneof![
            Just([0.01, 273.15]), Just([-0.5, 3.0]), Just([0.0, 1.5]), Just([1.0, 0.0]), Just([-1e-5, 0.0]),
        ],
        // Groups along each dimension: none, each index, or some indices together.
        along in [0_usize..3, 0..3, 0..4],
        wanted in [any::<bool>(), any::<bool>(), any::<bool>()],
        masked: bool,
        weight in prop_oneof![3 => Just(1_u64), 1 => Just(3)],
        cut in 0.0_f64..1.0,
    ) {
        let cells: usize = shape.iter().product();
        let picks: Vec<usize> = (0..cells).map(|i| picks[(i * 31 + i / 53) % picks.len()]).collect();
        let mut stride = 1_u32;
        let mut keys = Vec::new();
        for (dim, kind) in along.into_iter().enumerate() {
            let size = u32::try_from(shape[dim]).unwrap();
            let group = |index: u32| match kind {
                0 => 0,
                1 => index,
                2 => index / 3,
                _ => index * 7 % size,
            };
            keys.push(GroupKeys { dims: vec![dim], offsets: (0..size).map(|i| group(i) * stride).collect() });
            stride *= size;
        }
        let layout = GroupLayout::new(&shape, &keys);
        let [sum, bounds, moments] = wanted;
        let wanted = Wanted { sum, min: bounds, max: bounds, moments, ..Wanted::default() };
        let rows = masked.then(|| BooleanBuffer::collect_bool(cells, |i| picks[i] % 5 != 2));
        let cut = (cut * cells as f64) as usize;
        for case in Case::of_each_type(&picks, kinds, by) {
            for simd in Simd::all() {
                let new = || {
                    let own = Reduction::new(&DataType::Float64, wanted, stride as usize).unwrap();
                    own.with_simd(simd)
                };
                let (mut own, mut expected) = (new(), new());
                for part in [0..cut, cut..cells] {
                    let (first, len) = (part.start, part.len());
                    let rows = rows.as_ref().map(|rows| rows.slice(first, len));
                    let values = case.array.slice(first, len);
                    expected.update(&layout, first, &values, true, rows.as_ref(), weight).unwrap();
                    let numbers = case.numbers(part);
                    own.update_stored(&layout, first, numbers, true, rows.as_ref(), weight).unwrap();
                }
                let what = format!("{:?} {by:?} {}", case.unpacking, layout.pattern());
                assert_alike(&own.finish(), &expected.finish(), &what);
            }
        }
    }

    #[test]
    fn packed_numbers_compare_as_their_values(
        picks in prop::collection::vec(0_usize..97, 1..200),
        kinds in 1_usize..9,
        by in prop_oneof![
            Just([0.01, 273.15]), Just([-0.5, 3.0]), Just([0.0, 1.5]), Just([1.0, 0.0]),
            Just([-1e-5, 0.0]), Just([1e300, 0.0]), Just([1e-20, 1.0]),
        ],
        near in 0_usize..200,
        step in -1_i8..2,
    ) {
        for case in Case::of_each_type(&picks, kinds, by) {
            let values = case.array.as_primitive::<Float64Type>();
            let value = values.value(near % values.len());
            let with = match step {
                -1 => value.next_down(),
                0 => value,
                _ => value.next_up(),
            };
            for with in [with, 0.0, f64::INFINITY, f64::NEG_INFINITY, 1e9] {
                for comparison in [
                    Comparison::Less,
                    Comparison::LessOrEqual,
                    Comparison::Equal,
                    Comparison::NotEqual,
                    Comparison::Greater,
                    Comparison::GreaterOrEqual,
                ] {
                    let number = Number::Float64(with);
                    let numbers = case.numbers(0..values.len());
                    let own = compare_stored(numbers, true, comparison, number).unwrap();
                    let expected = compare(&case.array, true, comparison, number).unwrap();
                    prop_assert_eq!(own, expected, "{:?} {:?} {}", case.unpacking, comparison, with);
                }
            }
            let none = compare_stored(case.numbers(0..1), true, Comparison::Less, Number::Float64(f64::NAN));
            prop_assert!(none.is_none());
        }
    }
}
