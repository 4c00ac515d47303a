//! What is written comes back, however it is cut into boxes, cells, chunks and shards.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, UInt64Array},
    compute::{cast, take},
    datatypes::DataType,
};
use object_store::memory::InMemory;
use proptest::prelude::*;

use super::*;
use crate::{
    Dataset, Error, Location, OpenOptions, Result,
    dataset::Attribute,
    grid::{Region, unravel},
};

/// An array, and how it is written.
#[derive(Clone, Debug)]
struct Case {
    data_type: DataType,
    shape: Vec<u64>,
    chunks: Vec<u64>,
    /// Chunks along each dimension of a shard.
    shards: Option<Vec<u64>>,
    format: ZarrFormat,
    compression: &'static str,
    /// Where each dimension is cut into boxes.
    cuts: Vec<u64>,
    /// Cells that aren't written, out of 8; in cells that are, as many are NULL.
    lacking: u64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let types = prop::sample::select(vec![
        DataType::Boolean,
        DataType::Int16,
        DataType::UInt8,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8View,
        DataType::BinaryView,
    ]);
    let compression =
        prop::sample::select(vec!["none", "zstd:1", "gzip", "blosc-lz4", "blosc-zstd"]);
    (1..4_usize)
        .prop_flat_map(move |rank| {
            let sizes = |most: u64| prop::collection::vec(1..most, rank);
            (sizes(9), sizes(5), prop::option::of(sizes(4)), sizes(9), 0..rank + 1)
        })
        .prop_flat_map(move |(shape, chunks, shards, cuts, empty)| {
            let (types, compression) = (types.clone(), compression.clone());
            (types, any::<bool>(), compression, prop::sample::select(vec![0, 2, 8]), any::<u64>())
                .prop_map(move |(data_type, is_v2, compression, lacking, seed)| {
                    let mut shape = shape.clone();
                    // Now and then a dimension has no index.
                    if seed.is_multiple_of(20)
                        && let Some(size) = shape.get_mut(empty)
                    {
                        *size = 0;
                    }
                    let format = if is_v2 { ZarrFormat::V2 } else { ZarrFormat::V3 };
                    let shards = shards.clone().filter(|_| !is_v2);
                    let (chunks, cuts) = (chunks.clone(), cuts.clone());
                    Case {
                        data_type,
                        shape,
                        chunks,
                        shards,
                        format,
                        compression,
                        cuts,
                        lacking,
                        seed,
                    }
                })
        })
}

impl Case {
    fn array(&self) -> NewArray {
        let names = ["a", "b", "c"];
        let dims: Vec<(&str, u64)> = names.into_iter().zip(self.shape.iter().copied()).collect();
        let array = NewArray::new("t", &self.data_type, &dims).unwrap();
        // A number that marks missing values.
        let array = match &self.data_type {
            DataType::Int16 | DataType::Int64 | DataType::UInt8 => {
                let attributes = [("_FillValue".to_owned(), Attribute::Int(77))];
                array
                    .with_fill_value(Attribute::Int(77))
                    .with_attributes(attributes.into_iter().collect())
            }
            _ => array,
        };
        let array = array.with_compression(self.compression.parse().unwrap());
        let array = array.with_chunks(self.chunks.clone()).unwrap();
        match &self.shards {
            Some(counts) => {
                let shards = counts.iter().zip(&self.chunks).map(|(count, size)| count * size);
                array.with_shards(shards.collect()).unwrap()
            }
            None => array,
        }
    }

    fn cells(&self) -> u64 {
        self.shape.iter().product()
    }

    fn hash(&self, cell: u64) -> u64 {
        (cell ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
    }

    /// Whether a cell has a value.
    fn has(&self, cell: u64) -> bool {
        self.hash(cell) % 8 >= self.lacking
    }

    /// The values of cells, NULL where there is none.
    fn values(&self, cells: &[u64]) -> ArrayRef {
        let numbers = cells.iter().map(|cell| self.has(*cell).then(|| self.hash(*cell) % 50));
        let numbers: ArrayRef = Arc::new(numbers.collect::<UInt64Array>());
        let texts = |to: &DataType| cast(&cast(&numbers, &DataType::Utf8).unwrap(), to).unwrap();
        match &self.data_type {
            DataType::Utf8View => texts(&DataType::Utf8View),
            DataType::BinaryView => {
                let bytes = cast(&texts(&DataType::Utf8), &DataType::Binary).unwrap();
                cast(&bytes, &DataType::BinaryView).unwrap()
            }
            other => cast(&numbers, other).unwrap(),
        }
    }

    /// What is read: cells without a value have the fill value, which may be one.
    fn expected(&self) -> ArrayRef {
        let all: Vec<u64> = (0..self.cells()).collect();
        let values = self.values(&all);
        let fill: ArrayRef = match &self.data_type {
            DataType::Boolean => Arc::new(arrow::array::BooleanArray::from(vec![false])),
            DataType::Utf8View => Arc::new(arrow::array::StringViewArray::from(vec![""])),
            DataType::BinaryView => Arc::new(arrow::array::BinaryViewArray::from(vec![&b""[..]])),
            _ => return values,
        };
        // Zarr v2's fill value masks, as xarray has it, where it is a boolean.
        if self.format == ZarrFormat::V2 && self.data_type == DataType::Boolean {
            let bits = arrow::array::AsArray::as_boolean(&values);
            return Arc::new(
                bits.iter()
                    .map(|bit| bit.filter(|bit| *bit))
                    .collect::<arrow::array::BooleanArray>(),
            );
        }
        let pick = all.iter().map(|cell| if self.has(*cell) { cell + 1 } else { 0 });
        let both = arrow::compute::concat(&[&fill, &values]).unwrap();
        take(&both, &UInt64Array::from_iter_values(pick), None).unwrap()
    }

    /// Boxes that cover the array.
    fn boxes(&self) -> Vec<Region> {
        let counts: Vec<u64> =
            self.shape.iter().zip(&self.cuts).map(|(size, cut)| size.div_ceil(*cut)).collect();
        let numbers = 0..counts.iter().product();
        let region = |number: u64| {
            let dims = unravel(number, &counts).into_iter().zip(&self.cuts).zip(&self.shape);
            let (start, shape) = dims
                .map(|((index, cut), size)| (index * cut, (size - index * cut).min(*cut)))
                .unzip();
            Region { start, shape }
        };
        let mut boxes: Vec<Region> = numbers.map(region).collect();
        boxes.sort_by_key(|own| self.hash(own.start.iter().sum::<u64>() * 31 + own.start[0]));
        boxes
    }

    fn cells_of(&self, region: &Region) -> Vec<u64> {
        let cells = 0..region.cells();
        let place = |cell: u64| {
            let at = unravel(cell, &region.shape).into_iter().zip(&region.start).zip(&self.shape);
            at.fold(0, |place, ((index, start), size)| place * size + start + index)
        };
        cells.map(place).collect()
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn writer(location: &Location, case: &Case) -> Result<StoreWriter> {
    let group = NewGroup { format: case.format, ..NewGroup::of(vec![case.array()]) };
    StoreWriter::create(location, group).await
}

async fn read(location: &Location) -> ArrayRef {
    let dataset = Dataset::open(location, &OpenOptions::default()).await.unwrap();
    dataset.variable("t").unwrap().read_all().await.unwrap()
}

fn remote() -> Location {
    Location::new(Arc::new(InMemory::new()), "x.zarr".into(), "memory:///x.zarr")
}

fn local(directory: &Path) -> Location {
    Location::parse(directory.join("x.zarr").to_str().unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn boxes_come_back(case in case(), is_local: bool) {
        let directory = tempfile::tempdir().unwrap();
        let location = if is_local { local(directory.path()) } else { remote() };
        let (read, written) = run(async {
            let writer = writer(&location, &case).await.unwrap();
            for region in case.boxes() {
                let values = case.values(&case.cells_of(&region));
                writer.arrays()[0].write(&region, &values).await.unwrap();
            }
            let written = writer.commit().await.unwrap();
            (read(&location).await, written)
        });
        prop_assert_eq!(&read, &case.expected());
        prop_assert!(case.lacking < 8 || written.chunks == 0);
    }

    #[test]
    fn cells_come_back_in_any_order(case in case()) {
        let location = remote();
        let mut cells: Vec<u64> = (0..case.cells()).filter(|cell| case.has(*cell)).collect();
        cells.sort_by_key(|cell| case.hash(cell / 3));
        let read = run(async {
            let writer = writer(&location, &case).await.unwrap();
            for some in cells.chunks(7) {
                writer.arrays()[0].write_cells(some, &case.values(some)).await.unwrap();
            }
            // A second value is refused, whether the cell's chunk is complete or not.
            if let Some(cell) = cells.first() {
                let again = writer.arrays()[0].write_cells(&[*cell], &case.values(&[*cell])).await;
                assert!(matches!(again, Err(Error::WrittenTwice { .. })), "{again:?}");
            }
            writer.commit().await.unwrap();
            read(&location).await
        });
        prop_assert_eq!(&read, &case.expected());
    }
}

fn numbers(shape: &[(&str, u64)]) -> NewArray {
    NewArray::new("t", &DataType::Float32, shape).unwrap()
}

#[test]
fn existing_stores_stay_unless_they_may_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    for location in [local(directory.path()), remote()] {
        run(async {
            let write = |value: f32, existing| {
                let location = location.clone();
                async move {
                    let group = NewGroup { existing, ..NewGroup::of(vec![numbers(&[("x", 2)])]) };
                    let writer = StoreWriter::create(&location, group).await?;
                    let values: ArrayRef =
                        Arc::new(arrow::array::Float32Array::from(vec![value; 2]));
                    let all = Region { start: vec![0], shape: vec![2] };
                    writer.arrays()[0].write(&all, &values).await?;
                    writer.commit().await
                }
            };
            write(1.0, Existing::Refuse).await.unwrap();
            let before = read(&location).await;
            let error = write(2.0, Existing::Refuse).await.unwrap_err().to_string();
            assert!(error.contains(location.name()) && error.contains("overwrite"), "{error}");
            assert_eq!(&read(&location).await, &before);
            write(3.0, Existing::Replace).await.unwrap();
            assert_ne!(&read(&location).await, &before);

            // One that is given up.
            let group = NewGroup {
                existing: Existing::Replace,
                ..NewGroup::of(vec![numbers(&[("x", 2)])])
            };
            let before = read(&location).await;
            drop(StoreWriter::create(&location, group).await.unwrap());
            if location.local_path().is_some() {
                assert_eq!(&read(&location).await, &before);
            } else {
                let error = Dataset::open(&location, &OpenOptions::default()).await.unwrap_err();
                assert!(matches!(error, Error::NotFound { .. }), "{error}");
            }
        });
    }
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn only_zarr_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("x.zarr")).unwrap();
    std::fs::write(directory.path().join("x.zarr/notes.txt"), "mine").unwrap();
    let bucket = remote();
    run(async {
        let path = bucket.path().clone().join("notes.txt");
        bucket.store().put_opts(&path, "mine".into(), Default::default()).await.unwrap();
        for location in [local(directory.path()), bucket] {
            let group = NewGroup {
                existing: Existing::Replace,
                ..NewGroup::of(vec![numbers(&[("x", 2)])])
            };
            let error = StoreWriter::create(&location, group).await.unwrap_err().to_string();
            assert!(error.contains("no Zarr group"), "{error}");
        }
    });
    assert!(directory.path().join("x.zarr/notes.txt").exists());
}

#[test]
fn names_are_those_of_nodes() {
    for name in ["", "..", "a/b", "../x", "zarr.json", "__x", "a\0"] {
        let array = NewArray::new(name, &DataType::Float32, &[("x", 2)]).unwrap();
        let error = run(StoreWriter::create(&remote(), NewGroup::of(vec![array]))).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
    }
    let twice = vec![numbers(&[("x", 2)]), numbers(&[("x", 2)])];
    let error = run(StoreWriter::create(&remote(), NewGroup::of(twice))).unwrap_err();
    assert!(error.to_string().contains("two arrays"), "{error}");
}

#[test]
fn two_writers_of_one_place() {
    let directory = tempfile::tempdir().unwrap();
    for location in [local(directory.path()), remote()] {
        run(async {
            let create =
                || StoreWriter::create(&location, NewGroup::of(vec![numbers(&[("x", 2)])]));
            let (one, other) = (create().await.unwrap(), create().await.unwrap());
            one.commit().await.unwrap();
            let error = other.commit().await.unwrap_err().to_string();
            assert!(error.contains("something is there"), "{error}");
        });
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    run(async {
        let location = remote();
        let array = numbers(&[("y", 4), ("x", 6)]).with_chunks(vec![2, 3]).unwrap();
        let writer = StoreWriter::create(&location, NewGroup::of(vec![array])).await.unwrap();
        let array = &writer.arrays()[0];
        let values =
            |len: usize| -> ArrayRef { Arc::new(arrow::array::Float32Array::from(vec![1.0; len])) };
        let at =
            |start: [u64; 2], shape: [u64; 2]| Region { start: start.into(), shape: shape.into() };
        for (region, values) in [
            (at([3, 0], [2, 1]), values(2)),
            (at([0, 0], [2, 1]), values(3)),
            (at([u64::MAX, 0], [2, 1]), values(2)),
            (Region { start: vec![0], shape: vec![1] }, values(1)),
            (at([0, 0], [1, 2]), Arc::new(arrow::array::Float64Array::from(vec![1.0, 2.0]))),
        ] {
            let error = array.write(&region, &values).await.unwrap_err().to_string();
            assert!(error.contains("'t'"), "{error}");
        }
        assert!(array.write_cells(&[24], &values(1)).await.is_err());
        assert!(array.write_elements(&at([0, 0], [1, 1]), &[0; 3]).await.is_err());
        // A box over a chunk that is done.
        array.write(&at([0, 0], [2, 3]), &values(6)).await.unwrap();
        let again = array.write(&at([1, 1], [1, 1]), &values(1)).await;
        assert!(matches!(again, Err(Error::WrittenTwice { .. })), "{again:?}");
    });
    let huge = numbers(&[("x", 1 << 40)]).with_chunks(vec![1]).unwrap();
    let large = numbers(&[("x", 1 << 40)]);
    for array in [huge, large] {
        let error = run(StoreWriter::create(&remote(), NewGroup::of(vec![array]))).unwrap_err();
        assert!(error.to_string().contains("choose"), "{error}");
    }
}

/// An account with an end.
#[derive(Debug)]
struct Few(std::sync::atomic::AtomicUsize);

impl WriteMemory for Few {
    fn grow(&self, bytes: usize) -> Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        match self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Memory {
                what: "a chunk".to_owned(),
                bytes: bytes as u64,
                source: "no memory".into(),
            }),
        }
    }

    fn shrink(&self, bytes: usize) {
        self.0.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn chunks_are_written_as_their_cells_come() {
    run(async {
        let array = numbers(&[("x", 1000)]).with_chunks(vec![10]).unwrap();
        let array = array.with_compression(Compression::NONE);
        let writer = StoreWriter::create(&remote(), NewGroup::of(vec![array])).await.unwrap();
        let cells: Vec<u64> = (0..1000).collect();
        let values: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![1.0; 1000]));
        writer.arrays()[0].write_cells(&cells, &values).await.unwrap();
        let written = writer.commit().await.unwrap();
        // One chunk of 40 bytes, and its encoded bytes.
        assert_eq!((written.chunks, written.peak_bytes), (100, 80));
    });
}

#[test]
fn memory_is_reserved_and_given_back() {
    run(async {
        let few = Arc::new(Few(100.into()));
        let array = numbers(&[("y", 4), ("x", 20)]).with_chunks(vec![1, 20]).unwrap();
        let group = NewGroup { memory: Some(few.clone()), ..NewGroup::of(vec![array]) };
        let writer = StoreWriter::create(&remote(), group).await.unwrap();
        let array = &writer.arrays()[0];
        let one: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![1.0]));
        array.write_cells(&[0], &one).await.unwrap();
        let error = array.write_cells(&[20], &one).await.unwrap_err();
        assert!(error.to_string().contains("0.0 MB of memory"), "{error}");
        array.finish().await.unwrap_err();
        drop(writer);
        assert_eq!(few.0.load(std::sync::atomic::Ordering::Relaxed), 100);
    });
}
