//! Frames against a plain computation of each.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, Float32Array, Float64Array, Int16Array, Int64Array,
        UInt64Array,
    },
    compute::{cast, concat},
    datatypes::{DataType, Decimal128Type, Float64Type, Int64Type},
};
use proptest::prelude::*;

use super::*;
use crate::Recycler;

const FUNCTIONS: [RunningFunction; 9] = [
    RunningFunction::Count,
    RunningFunction::Sum,
    RunningFunction::Avg,
    RunningFunction::Min,
    RunningFunction::Max,
    RunningFunction::Variance { sample: true, root: false },
    RunningFunction::Variance { sample: false, root: false },
    RunningFunction::Variance { sample: true, root: true },
    RunningFunction::Variance { sample: false, root: true },
];

fn block() -> impl Strategy<Value = BlockShape> {
    let inner = prop_oneof![Just(1_usize), 2_usize..6, 16_usize..40, Just(530_usize)];
    (1_usize..4, 1_usize..20, inner).prop_map(|(outer, length, inner)| BlockShape {
        outer,
        length,
        inner,
    })
}

/// Frames of all kinds: of fixed length, growing, shrinking, with gaps and jumps, and all of these the other way.
fn frames(length: usize) -> impl Strategy<Value = Vec<Range<usize>>> {
    let end = length as i64;
    let clipped =
        move |start: i64, stop: i64| start.clamp(0, end) as usize..stop.clamp(0, end) as usize;
    let fixed = (-6_i64..4, 0_i64..8).prop_map(move |(from, len)| {
        (0..end).map(|i| clipped(i + from, i + from + len)).collect::<Vec<_>>()
    });
    let growing = (-3_i64..4).prop_map(move |by| (0..end).map(|i| clipped(0, i + by)).collect());
    let shrinking =
        (-3_i64..4).prop_map(move |by| (0..end).map(|i| clipped(i + by, end)).collect());
    let steps = prop::collection::vec((0_usize..4, 0_usize..4), 0..30).prop_map(move |steps| {
        let (mut start, mut stop) = (0, 0);
        let frames = steps.into_iter().map(|(one, other)| {
            start = (start + one).min(length);
            stop = (stop + other).min(length);
            start..stop
        });
        frames.collect()
    });
    (prop_oneof![fixed, growing, shrinking, steps], any::<bool>()).prop_map(
        |(mut frames, falling)| {
            if falling {
                frames.reverse();
            }
            frames
        },
    )
}

fn doubles(cells: usize) -> impl Strategy<Value = Vec<Option<f64>>> {
    let special = prop::sample::select(vec![
        1e17,
        -1e17,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        5e-324,
        -0.0,
        1e9,
        1e9 + 1.0 / 1024.0,
    ]);
    let value = prop_oneof![6 => (-500_i32..500).prop_map(|v| f64::from(v) / 64.0), 1 => special];
    prop::collection::vec(prop::option::weighted(0.9, value), cells)
}

fn integers(cells: usize) -> impl Strategy<Value = Vec<Option<i64>>> {
    let value = prop_oneof![4 => -500_i64..500, 1 => any::<i64>()];
    prop::collection::vec(prop::option::weighted(0.9, value), cells)
}

/// Sum of the parts that don't overlap.
///
/// Shewchuk: Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates (1997).
fn exact_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut parts, mut unbounded): (Vec<f64>, f64) = (Vec::new(), 0.0);
    for mut value in values {
        if !value.is_finite() {
            unbounded += value;
            continue;
        }
        let mut kept = Vec::new();
        for mut part in parts {
            if value.abs() < part.abs() {
                (value, part) = (part, value);
            }
            let sum = value + part;
            let lost = part - (sum - value);
            if lost != 0.0 {
                kept.push(lost);
            }
            value = sum;
        }
        kept.push(value);
        parts = kept;
    }
    if unbounded == 0.0 { parts.iter().sum() } else { unbounded }
}

fn expected(function: RunningFunction, values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let sum = || exact_sum(values.iter().copied());
    match function {
        RunningFunction::Count => Some(count),
        _ if values.is_empty() => None,
        RunningFunction::Sum => Some(sum()),
        RunningFunction::Avg => Some(sum() / count),
        RunningFunction::Min => {
            values.iter().copied().reduce(|a, b| if b.total_cmp(&a).is_lt() { b } else { a })
        }
        RunningFunction::Max => {
            values.iter().copied().reduce(|a, b| if b.total_cmp(&a).is_gt() { b } else { a })
        }
        RunningFunction::Variance { sample, root } => {
            let near: Vec<f64> = values.iter().map(|v| v - values[0]).collect();
            let mean = exact_sum(near.iter().copied()) / count;
            let squares = exact_sum(near.iter().map(|v| (v - mean).powi(2)));
            let less = if sample { 1.0 } else { 0.0 };
            (count > less)
                .then(|| squares / (count - less))
                .map(|v| if root { v.sqrt() } else { v })
        }
    }
}

fn is_near(actual: Option<f64>, expected: Option<f64>) -> bool {
    match (actual, expected) {
        (Some(one), Some(other)) => {
            one == other
                || (one.is_nan() && other.is_nan())
                || (one - other).abs() <= 1e-9 * other.abs()
        }
        (None, None) => true,
        _ => false,
    }
}

/// The values of each output's frame, in the order of the outputs.
fn framed<T: Copy>(
    values: &[Option<T>],
    shape: BlockShape,
    frames: &[Range<usize>],
) -> Vec<Vec<T>> {
    let BlockShape { outer, length, inner } = shape;
    let mut all = Vec::new();
    for o in 0..outer {
        for frame in frames {
            for i in 0..inner {
                let own = frame.clone().filter_map(|t| values[(o * length + t) * inner + i]);
                all.push(own.collect());
            }
        }
    }
    all
}

fn as_doubles(values: &ArrayRef) -> Vec<Option<f64>> {
    let values = cast(values, &DataType::Float64).unwrap();
    values.as_primitive::<Float64Type>().iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn floats_are_as_if_each_frame_were_computed(
        (shape, frames, values) in block().prop_flat_map(|shape| {
            let cells = shape.outer * shape.length * shape.inner;
            (Just(shape), frames(shape.length), doubles(cells))
        }),
        nan_is_null in any::<bool>(),
        nulls in any::<bool>(),
        single in any::<bool>(),
    ) {
        let values: Vec<Option<f64>> = values
            .into_iter()
            .map(|v| if nulls { v } else { Some(v.unwrap_or(0.25)) })
            .map(|v| v.map(|v| if single { f64::from(v as f32) } else { v }))
            .collect();
        let array: ArrayRef = if single {
            Arc::new(values.iter().map(|v| v.map(|v| v as f32)).collect::<Float32Array>())
        } else {
            Arc::new(values.iter().copied().collect::<Float64Array>())
        };
        // A slice, so that an offset is seen.
        let array = concat(&[&array.slice(0, 1), &array]).unwrap().slice(1, values.len());
        let known: Vec<Option<f64>> =
            values.iter().map(|v| v.filter(|v| !(nan_is_null && v.is_nan()))).collect();
        let checked = Frames::new(frames.clone()).unwrap();
        for function in FUNCTIONS {
            let running = Running { function, nan_is_null, shape, frames: &checked, recycler: &Arc::default() };
            let actual = running.run(&array).unwrap();
            prop_assert_eq!(Some(actual.data_type().clone()), function.result_type(array.data_type()));
            let actual = as_doubles(&actual);
            let all = framed(&known, shape, &frames);
            prop_assert_eq!(actual.len(), all.len());
            for (at, (actual, own)) in actual.iter().zip(&all).enumerate() {
                let expected = expected(function, own);
                prop_assert!(
                    is_near(*actual, expected),
                    "{:?}: {:?}, not {:?}, of {:?} at {}", function, actual, expected, own, at
                );
            }
        }
    }

    #[test]
    fn integers_are_exact(
        (shape, frames, values) in block().prop_flat_map(|shape| {
            let cells = shape.outer * shape.length * shape.inner;
            (Just(shape), frames(shape.length), integers(cells))
        }),
        width in 0..3,
    ) {
        let values: Vec<Option<i64>> = values
            .into_iter()
            .map(|v| v.map(|v| match width { 0 => i64::from(v as i16), 1 => v, _ => v & i64::MAX }))
            .collect();
        let array: ArrayRef = match width {
            0 => Arc::new(values.iter().map(|v| v.map(|v| v as i16)).collect::<Int16Array>()),
            1 => Arc::new(values.iter().copied().collect::<Int64Array>()),
            _ => Arc::new(values.iter().map(|v| v.map(|v| v as u64)).collect::<UInt64Array>()),
        };
        let checked = Frames::new(frames.clone()).unwrap();
        let all = framed(&values, shape, &frames);
        let run = |function| {
            Running { function, nan_is_null: false, shape, frames: &checked, recycler: &Arc::default() }.run(&array).unwrap()
        };
        let sums = run(RunningFunction::Sum);
        let sums: Vec<Option<i128>> = sums.as_primitive::<Decimal128Type>().iter().collect();
        let expected: Vec<Option<i128>> = all
            .iter()
            .map(|own| (!own.is_empty()).then(|| own.iter().map(|v| i128::from(*v)).sum()))
            .collect();
        prop_assert_eq!(sums, expected);
        for function in [RunningFunction::Min, RunningFunction::Max] {
            let found = cast(&run(function), &DataType::Int64).unwrap();
            let found: Vec<Option<i64>> = found.as_primitive::<Int64Type>().iter().collect();
            let of = |own: &Vec<i64>| match function {
                RunningFunction::Min => own.iter().min().copied(),
                _ => own.iter().max().copied(),
            };
            let expected: Vec<Option<i64>> = all.iter().map(of).collect();
            prop_assert_eq!(found, expected);
        }
        let counts = run(RunningFunction::Count);
        let counts: Vec<i64> = counts.as_primitive::<Int64Type>().values().to_vec();
        prop_assert_eq!(counts, all.iter().map(|own| own.len() as i64).collect::<Vec<_>>());
    }

    #[test]
    fn states_continue_from_block_to_block(
        (shape, values) in block().prop_flat_map(|shape| {
            (Just(shape), doubles(shape.outer * shape.length * shape.inner))
        }),
        cuts in prop::collection::vec(0_usize..20, 0..4),
        backwards in any::<bool>(),
        nulls in any::<bool>(),
    ) {
        let values: Vec<Option<f64>> = values
            .into_iter()
            .map(|v| if nulls { v } else { Some(v.filter(|v| !v.is_nan()).unwrap_or(0.25)) })
            .collect();
        let BlockShape { outer, length, inner } = shape;
        let frame = |i: usize, from: usize, to: usize| if backwards { i - from..to - from } else { 0..i + 1 - from };
        let whole = Frames::new((0..length).map(|i| frame(i, 0, length)).collect()).unwrap();
        let array: ArrayRef = Arc::new(values.iter().copied().collect::<Float64Array>());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(length)).collect();
        cuts.extend([0, length]);
        cuts.sort_unstable();
        let mut parts: Vec<Range<usize>> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        if backwards {
            parts.reverse();
        }
        for function in FUNCTIONS {
            let expected = Running { function, nan_is_null: true, shape, frames: &whole, recycler: &Arc::default() };
            let expected = as_doubles(&expected.run(&array).unwrap());
            let mut state = RunningState::new();
            for part in &parts {
                let frames = part.clone().map(|i| frame(i, part.start, part.end)).collect();
                let frames = Frames::new(frames).unwrap();
                let rows = (0..outer).map(|o| array.slice((o * length + part.start) * inner, part.len() * inner));
                let rows: Vec<ArrayRef> = rows.collect();
                let block = concat(&rows.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
                let shape = BlockShape { length: part.len(), ..shape };
                let running = Running { function, nan_is_null: true, shape, frames: &frames, recycler: &Arc::default() };
                let actual = as_doubles(&running.advance(&block, &mut state).unwrap());
                for (at, actual) in actual.into_iter().enumerate() {
                    let (o, rest) = (at / (part.len() * inner), at % (part.len() * inner));
                    let wanted = expected[(o * length + part.start) * inner + rest];
                    prop_assert!(is_near(actual, wanted), "{:?}: {:?}, not {:?}", function, actual, wanted);
                }
            }
        }
    }
}

/// Sums over the frames of one line.
fn sums_along<'a>(length: usize, frames: &'a Frames, recycler: &'a Arc<Recycler>) -> Running<'a> {
    let shape = BlockShape { outer: 1, length, inner: 1 };
    Running { function: RunningFunction::Sum, nan_is_null: true, shape, frames, recycler }
}

#[test]
fn what_has_left_is_gone() {
    let values: ArrayRef =
        Arc::new(Float64Array::from(vec![1e17, 1.0, 2.0, f64::INFINITY, 3.0, 4.0, 5.0]));
    let frames = Frames::new((0..7_usize).map(|i| i.saturating_sub(1)..i + 1).collect()).unwrap();
    let recycler = Arc::default();
    let running = sums_along(7, &frames, &recycler);
    let sums = as_doubles(&running.run(&values).unwrap());
    let all = [1e17, 1e17, 3.0, f64::INFINITY, f64::INFINITY, 7.0, 9.0];
    assert_eq!(sums, all.map(Some));
}

#[test]
fn misfits_are_errors() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let frames = Frames::new(vec![0..1, 1..2]).unwrap();
    let recycler = Arc::default();
    let running = sums_along(3, &frames, &recycler);
    assert!(matches!(running.run(&values.slice(0, 2)), Err(RunningError::Shape { found: 2, .. })));
    let text = cast(&values, &DataType::Utf8).unwrap();
    assert!(matches!(running.run(&text), Err(RunningError::Type { .. })));
    let counted = Running { function: RunningFunction::Count, ..running }.run(&text).unwrap();
    assert_eq!(as_doubles(&counted), [Some(1.0), Some(1.0)]);
    assert!(matches!(
        running.advance(&values, &mut RunningState::new()),
        Err(RunningError::Frames)
    ));
    let frames = Frames::new(vec![0..1, 0..3]).unwrap();
    let running = Running { frames: &frames, ..running };
    let mut state = RunningState::new();
    running.advance(&values, &mut state).unwrap();
    let other = BlockShape { outer: 3, length: 1, inner: 1 };
    let other = Running { shape: other, ..running }.advance(&values, &mut state);
    assert_eq!(other.unwrap_err(), RunningError::State);
}
