//! Reads into the caller's memory, against arithmetic on the values that were written.

use std::{num::NonZero, path::Path};

use arrow::{array::AsArray as _, datatypes::Float64Type};
use lsio_core::{
    Dataset, Error, Location, OpenOptions,
    grid::unravel,
    read::into::{Along, Cells, Indices, Place, ReadInto, Stop, ValuesAs, Wanted},
    uring::{Engine, PageCache},
};
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use proptest::prelude::*;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

/// The value that is stored where values are missing.
const MISSING: i16 = -99;

/// The shape of an array, with its chunks.
#[derive(Clone, Debug)]
struct Store {
    shape: Vec<u64>,
    chunks: Vec<u64>,
    shards: bool,
    compression: Compression,
    /// Every how many-th chunk isn't stored; 0 for none.
    unstored: u64,
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The stored number of a cell; some are missing.
fn number(cell: u64) -> i16 {
    if cell % 11 == 5 { MISSING } else { (cell % 3000) as i16 }
}

/// Writes the array, and gives the stored numbers in C order.
fn write(path: &Path, store: &Store) -> Vec<i16> {
    let Store { shape, chunks, shards, compression, unstored } = store;
    let names = ["a", "b", "c"];
    let dims: Vec<(&str, u64)> = names.iter().copied().zip(shape.iter().copied()).collect();
    let doubled: Vec<u64> = chunks.iter().map(|size| size * 2).collect();
    let group = GroupWriter::create(path, json!({})).unwrap();
    let array = group
        .array(&SyntheticArray {
            name: "v",
            data_type: "int16",
            dims: &dims,
            chunks,
            shards: shards.then_some(doubled.as_slice()),
            compression: compression.clone(),
            fill_value: json!(7),
            attributes: json!({"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": MISSING}),
        })
        .unwrap();
    let objects = if *shards { &doubled } else { chunks };
    let counts: Vec<u64> = shape.iter().zip(objects).map(|(s, o)| s.div_ceil(*o)).collect();
    let cells: u64 = shape.iter().product();
    let mut values = vec![7; cells as usize];
    let at =
        |position: &[u64]| position.iter().zip(shape).fold(0, |cell, (at, size)| cell * size + at);
    for object in 0..counts.iter().product::<u64>() {
        if *unstored > 0 && object % unstored == unstored - 1 {
            continue;
        }
        let first: Vec<u64> =
            unravel(object, &counts).iter().zip(objects).map(|(at, size)| at * size).collect();
        let own: Vec<i16> = (0..objects.iter().product::<u64>())
            .map(|inside| {
                let inside = unravel(inside, objects);
                let position: Vec<u64> = first.iter().zip(&inside).map(|(f, i)| f + i).collect();
                if position.iter().zip(shape).any(|(at, size)| at >= size) {
                    return 0;
                }
                let cell = at(&position);
                values[cell as usize] = number(cell);
                number(cell)
            })
            .collect();
        array.write(&unravel(object, &counts), &own).unwrap();
    }
    values
}

fn store() -> impl Strategy<Value = Store> {
    let dim = (1_u64..14, 1_u64..6);
    let compression = prop::sample::select(vec![
        Compression::None,
        Compression::Zstd(1),
        Compression::BloscLz4(5),
    ]);
    (prop::collection::vec(dim, 0..=3), any::<bool>(), compression, 0_u64..4).prop_map(
        |(dims, shards, compression, unstored)| Store {
            shape: dims.iter().map(|dim| dim.0).collect(),
            chunks: dims.iter().map(|dim| dim.1).collect(),
            shards: shards && !dims.is_empty(),
            compression,
            unstored,
        },
    )
}

/// Cells of an array of this shape, chosen by these numbers.
fn cells(shape: &[u64], seed: &[u64]) -> Cells {
    let mut seed = seed.iter().copied().cycle();
    let mut next = |most: u64| seed.next().unwrap_or(0) % most.max(1);
    let kind = next(4);
    let count = next(30) as usize;
    if kind == 0 {
        let mut point = |size: &u64| (0..count).map(|_| next(*size)).collect();
        return Cells::points(shape.iter().map(&mut point).collect());
    }
    let mut along = Vec::new();
    for &size in shape {
        along.push(match next(5) {
            0 => Along::Each(Indices::all(size)),
            1 => Along::Each(Indices::List((0..next(7)).map(|_| next(size)).collect())),
            2 if kind == 1 => Along::Points((0..count).map(|_| next(size)).collect()),
            _ => {
                let (start, step) = (next(size), next(4) + 1);
                let len = next((size - start).div_ceil(step) + 1);
                Along::Each(Indices::Range { start, step: NonZero::new(step).unwrap(), len })
            }
        });
    }
    if kind == 1 {
        return Cells::Points(along);
    }
    let indices = along.into_iter().filter_map(|own| match own {
        Along::Each(indices) => Some(indices),
        Along::Points(_) => None,
    });
    Cells::Outer(indices.collect())
}

/// Positions in the array of the cells of a result, in its order.
fn positions(cells: &Cells, shape: &[u64]) -> Vec<u64> {
    let listed = |own: &Indices| -> Vec<u64> {
        match own {
            Indices::Range { start, step, len } => {
                (0..*len).map(|i| start + i * step.get()).collect()
            }
            Indices::List(list) => list.clone(),
        }
    };
    // Of each dimension of the array: its dimension of the result, and the index of each position there.
    let mut next = 0;
    let along: Vec<(usize, Vec<u64>)> = match cells {
        Cells::Outer(indices) => indices.iter().map(listed).enumerate().collect(),
        Cells::Points(along) => {
            let dims = along.iter().map(|own| match own {
                Along::Points(points) => (0, points.clone()),
                Along::Each(indices) => {
                    next += 1;
                    (next, listed(indices))
                }
            });
            dims.collect()
        }
    };
    let result = cells.shape();
    (0..result.iter().product())
        .map(|position| {
            let at = unravel(position, &result);
            along
                .iter()
                .zip(shape)
                .fold(0, |cell, ((dim, own), size)| cell * size + own[at[*dim] as usize])
        })
        .collect()
}

/// Memory with gaps between the cells, and its strides in bytes: dimensions in reverse order if `reversed`.
fn strides(shape: &[u64], width: usize, gap: usize, reversed: bool) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    if !reversed {
        order.reverse();
    }
    let mut strides = vec![0; shape.len()];
    let mut stride = width * (1 + gap);
    for dim in order {
        strides[dim] = stride;
        stride = stride * shape[dim].max(1) as usize + gap * width;
    }
    (strides, stride)
}

proptest! {
    #[test]
    fn cells_come_to_their_places(
        store in store(),
        reads in prop::collection::vec((prop::collection::vec(any::<u64>(), 40), 0_usize..3, any::<bool>()), 1..4),
        decoded in any::<bool>(),
        is_cached in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.zarr");
        let values = write(&path, &store);
        let runtime = runtime();
        let location = Location::parse(&path.to_string_lossy()).unwrap();
        let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default())).unwrap();
        let variable = dataset.variable("v").unwrap();
        let (as_, width) = if decoded { (ValuesAs::Float64 { missing: -1.0 }, 8) } else { (ValuesAs::Stored, 2) };
        let mut memories = Vec::new();
        for (seed, gap, reversed) in &reads {
            let cells = cells(&store.shape, seed);
            let (strides, len) = strides(&cells.shape(), width, *gap, *reversed);
            memories.push((cells, strides, vec![0xee_u8; len]));
        }
        let wanted = memories.iter_mut().map(|(cells, strides, memory)| Wanted {
            place: Place::new(memory, &cells.shape(), strides, width).unwrap(),
            cells: cells.clone(),
        });
        let page_cache = is_cached.then(|| PageCache::new(Engine::Auto).unwrap()).flatten();
        let how = ReadInto { runtime: runtime.handle().clone(), page_cache, stop: Stop::default() };
        variable.read_into(wanted.collect(), as_, &how).unwrap();
        for (cells, strides, memory) in &memories {
            let shape = cells.shape();
            let mut expected = vec![0xee_u8; memory.len()];
            for (position, cell) in positions(cells, &store.shape).into_iter().enumerate() {
                let at: usize =
                    unravel(position as u64, &shape).iter().zip(strides).map(|(i, s)| *i as usize * s).sum();
                let stored = values[cell as usize];
                if decoded {
                    let value = if stored == MISSING { -1.0 } else { f64::from(stored) * 0.5 + 10.0 };
                    expected[at..at + 8].copy_from_slice(&value.to_ne_bytes());
                } else {
                    expected[at..at + 2].copy_from_slice(&stored.to_ne_bytes());
                }
            }
            prop_assert_eq!(memory, &expected, "{:?}", cells);
            // As an array of Arrow: decoded, and NULL where a value is missing.
            let read = variable.read_cells(cells.clone(), &how).unwrap();
            let read: Vec<Option<f64>> = read.as_primitive::<Float64Type>().iter().collect();
            let value = |cell: u64| {
                let stored = values[cell as usize];
                (stored != MISSING).then(|| f64::from(stored) * 0.5 + 10.0)
            };
            let expected: Vec<_> =
                positions(cells, &store.shape).into_iter().map(value).collect();
            prop_assert_eq!(read, expected, "{:?}", cells);
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let store = Store {
        shape: vec![4, 5],
        chunks: vec![2, 2],
        shards: false,
        compression: Compression::Zstd(1),
        unstored: 0,
    };
    write(&path, &store);
    let runtime = runtime();
    let location = Location::parse(&path.to_string_lossy()).unwrap();
    let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default())).unwrap();
    let variable = dataset.variable("v").unwrap();
    let read = |cells: Cells, shape: &[u64], width: usize, values| {
        let mut memory = vec![0; 4096];
        let place = Place::contiguous(&mut memory, shape, width).unwrap();
        let how =
            ReadInto { runtime: runtime.handle().clone(), page_cache: None, stop: Stop::default() };
        variable.read_into(vec![Wanted { cells, place }], values, &how).map(|_| ())
    };
    let all = || Cells::all(&store.shape);
    read(all(), &[4, 5], 2, ValuesAs::Stored).unwrap();
    let refused = read(all(), &[5, 4], 2, ValuesAs::Stored).unwrap_err();
    assert!(matches!(&refused, Error::Place { .. }) && refused.to_string().contains("[5, 4]"));
    let refused = read(all(), &[4, 5], 2, ValuesAs::Float64 { missing: 0.0 }).unwrap_err();
    assert!(refused.to_string().contains("8 bytes"), "{refused}");
    let outside = Cells::Outer(vec![Indices::all(4), Indices::List(vec![5])]);
    let refused = read(outside, &[4, 1], 2, ValuesAs::Stored).unwrap_err();
    assert!(matches!(&refused, Error::OutOfBounds { .. }), "{refused}");
    assert!(refused.to_string().contains("index 5 in dimension 1"), "{refused}");
    let points = Cells::points(vec![vec![0, 1], vec![0]]);
    read(points, &[2], 2, ValuesAs::Stored).unwrap_err();
    let rank = Cells::Outer(vec![Indices::all(4)]);
    read(rank, &[4], 2, ValuesAs::Stored).unwrap_err();

    // A chunk that is cut off is an error that names it, on whichever thread it is met.
    let chunk = path.join("v/c/1/1");
    std::fs::write(&chunk, [1, 2, 3]).unwrap();
    let broken = read(all(), &[4, 5], 2, ValuesAs::Stored).unwrap_err();
    assert!(matches!(&broken, Error::Chunk { chunk, .. } if *chunk == [1, 1]), "{broken}");
}

/// Chunks that are large enough to be copied in pieces: each way of having parts of a chunk, in memory and in the page
/// cache, whole and in part.
#[test]
fn large_chunks_are_copied_in_pieces() {
    let runtime = runtime();
    let small = vec![5, 90, 500];
    for (compression, shape, chunks) in [
        (Compression::None, small.clone(), vec![4, 90, 450]),
        (Compression::None, small.clone(), vec![1, 90, 500]),
        (Compression::BloscLz4(5), small.clone(), vec![4, 90, 450]),
        (Compression::BloscLz4(5), small.clone(), vec![1, 90, 500]),
        (Compression::Zstd(1), small, vec![1, 90, 500]),
        // Frames of more than 4 MiB are decompressed block by block.
        (Compression::Zstd(1), vec![5, 1100, 500], vec![5, 1100, 450]),
    ] {
        let store = Store {
            shape: shape.clone(),
            chunks,
            shards: false,
            compression: compression.clone(),
            unstored: 0,
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.zarr");
        let values = write(&path, &store);
        let location = Location::parse(&path.to_string_lossy()).unwrap();
        let opened = runtime.block_on(Dataset::open(&location, &OpenOptions::default()));
        let dataset = opened.unwrap();
        let variable = dataset.variable("v").unwrap();
        let range =
            |start, step, len| Indices::Range { start, step: NonZero::new(step).unwrap(), len };
        let selections = [
            Cells::all(&store.shape),
            Cells::Outer(vec![range(1, 1, 4), range(7, 1, 70), range(100, 1, 355)]),
            Cells::Outer(vec![range(1, 2, 2), range(5, 1, 80), range(0, 2, 250)]),
            Cells::Outer(vec![
                Indices::List(vec![4, 3, 3, 0, 1]),
                range(0, 1, 90),
                Indices::all(500),
            ]),
            Cells::Points(vec![
                Along::Each(Indices::all(5)),
                Along::Points(vec![89, 0, 50, 0]),
                Along::Points(vec![1, 499, 2, 499]),
            ]),
        ];
        for cells in &selections {
            let expected = positions(cells, &store.shape).into_iter();
            let expected: Vec<i16> = expected.map(|cell| values[cell as usize]).collect();
            for page_cache in [None, PageCache::new(Engine::Auto).unwrap()] {
                let how = ReadInto {
                    runtime: runtime.handle().clone(),
                    page_cache,
                    stop: Stop::default(),
                };
                let mut memory = vec![0; cells.shape().iter().product::<u64>() as usize * 2];
                let place = Place::contiguous(&mut memory, &cells.shape(), 2).unwrap();
                let wanted = vec![Wanted { cells: cells.clone(), place }];
                variable.read_into(wanted, ValuesAs::Stored, &how).unwrap();
                let read = memory.as_chunks::<2>().0.iter().map(|own| i16::from_ne_bytes(*own));
                assert!(read.eq(expected.iter().copied()), "{store:?} {cells:?}");
            }
        }
    }
}
