//! Reads into the caller's memory, against arithmetic on the values that were written.

use std::{num::NonZero, path::Path};

use lsio_core::{
    Dataset, Error, Location, OpenOptions,
    grid::unravel,
    read::into::{Cells, Indices, Place, ReadInto, ValuesAs, Wanted},
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
    if next(4) == 0 {
        let count = next(30) as usize;
        return Cells::Points(
            shape.iter().map(|size| (0..count).map(|_| next(*size)).collect()).collect(),
        );
    }
    let indices = shape.iter().map(|&size| match next(4) {
        0 => Indices::all(size),
        1 => Indices::List((0..next(7)).map(|_| next(size)).collect()),
        _ => {
            let (start, step) = (next(size), next(4) + 1);
            let len = next((size - start).div_ceil(step) + 1);
            Indices::Range { start, step: NonZero::new(step).unwrap(), len }
        }
    });
    Cells::Outer(indices.collect())
}

/// Positions in the array of the cells of a result, in its order.
fn positions(cells: &Cells, shape: &[u64]) -> Vec<u64> {
    let along: Vec<Vec<u64>> = match cells {
        Cells::Points(points) => points.clone(),
        Cells::Outer(indices) => indices
            .iter()
            .map(|own| match own {
                Indices::Range { start, step, len } => {
                    (0..*len).map(|i| start + i * step.get()).collect()
                }
                Indices::List(list) => list.clone(),
            })
            .collect(),
    };
    let result = cells.shape();
    (0..result.iter().product())
        .map(|position| {
            let at = unravel(position, &result);
            along.iter().zip(shape).enumerate().fold(0, |cell, (dim, (own, size))| {
                let at = if matches!(cells, Cells::Points(_)) { at[0] } else { at[dim] };
                cell * size + own[at as usize]
            })
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
        let how = ReadInto { runtime: runtime.handle().clone(), page_cache: None, values: as_ };
        variable.read_into(wanted.collect(), &how).unwrap();
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
        let how = ReadInto { runtime: runtime.handle().clone(), page_cache: None, values };
        variable.read_into(vec![Wanted { cells, place }], &how).map(|_| ())
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
    let points = Cells::Points(vec![vec![0, 1], vec![0]]);
    read(points, &[2], 2, ValuesAs::Stored).unwrap_err();
    let rank = Cells::Outer(vec![Indices::all(4)]);
    read(rank, &[4], 2, ValuesAs::Stored).unwrap_err();

    // A chunk that is cut off is an error that names it, on whichever thread it is met.
    let chunk = path.join("v/c/1/1");
    std::fs::write(&chunk, [1, 2, 3]).unwrap();
    let broken = read(all(), &[4, 5], 2, ValuesAs::Stored).unwrap_err();
    assert!(matches!(&broken, Error::Chunk { chunk, .. } if *chunk == [1, 1]), "{broken}");
}
