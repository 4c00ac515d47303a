//! Columns that are looked up through index maps, and computed from others, beside plain loops over all values.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float32Array},
    datatypes::{DataType, Float32Type},
};
use lsio_core::{
    Column, Dataset, IndexMap, Location, OpenOptions, Result, Selection, Table,
    dataset::{Carried, Continues, Derive, Inputs, Lookup, Values},
    grid::{strides, unravel},
    read::{DimOrder, Scan, ScanOptions, Tile},
};
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use proptest::prelude::*;
use serde_json::json;

/// A dataset with one variable, whose values are the numbers of its cells; every seventh is missing.
async fn dataset(path: &Path, dims: &[(&str, u64)], chunks: &[u64], shards: bool) -> Dataset {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let doubled: Vec<u64> = chunks.iter().map(|size| size * 2).collect();
    let array = group
        .array(&SyntheticArray {
            name: "v",
            data_type: "float32",
            dims,
            chunks,
            shards: shards.then_some(doubled.as_slice()),
            compression: Compression::Zstd(1),
            fill_value: json!("NaN"),
            attributes: json!({}),
        })
        .unwrap();
    let shape: Vec<u64> = dims.iter().map(|(_, size)| *size).collect();
    let objects = if shards { doubled.as_slice() } else { chunks };
    let counts: Vec<u64> = shape.iter().zip(objects).map(|(s, o)| s.div_ceil(*o)).collect();
    for number in 0..counts.iter().product::<u64>() {
        let at = unravel(number, &counts);
        let cells: u64 = objects.iter().product();
        let values: Vec<f32> = (0..cells)
            .map(|cell| {
                let own = unravel(cell, objects);
                let index: Vec<u64> =
                    own.iter().zip(&at).zip(objects).map(|((i, c), o)| c * o + i).collect();
                let inside = index.iter().zip(&shape).all(|(i, size)| i < size);
                let cell: u64 = index.iter().zip(strides(&shape)).map(|(i, s)| i * s).sum();
                if inside { value(cell).unwrap_or(f32::NAN) } else { 0.0 }
            })
            .collect();
        array.write(&at, &values).unwrap();
    }
    let location = Location::parse(&path.to_string_lossy()).unwrap();
    Dataset::open(&location, &OpenOptions::default()).await.unwrap()
}

fn value(cell: u64) -> Option<f32> {
    (cell % 7 != 3).then_some(cell as f32)
}

/// Values of all columns, tile by tile, at their places. Computed columns come in strips of so many bytes, if they are
/// given.
async fn read(
    table: &Table,
    selection: Vec<Selection>,
    order: &[DimOrder],
    strip_bytes: Option<u64>,
) -> Vec<Vec<Cell>> {
    let tile_bytes = strip_bytes.unwrap_or(64);
    let options = ScanOptions { held_bytes: 0, tile_bytes, ..ScanOptions::default() };
    let positions: Vec<usize> = (0..table.columns.len()).collect();
    let scan = Scan::new(table, &positions, selection, &options).unwrap().with_order(order);
    let scan = Arc::new(scan);
    scan.load().await.unwrap();
    scan.share_memory(1 << 20);
    let shape: Vec<u64> = table.dims.iter().map(|dim| dim.size).collect();
    let cells = usize::try_from(shape.iter().product::<u64>()).unwrap();
    let mut all = vec![vec![Cell::Unread; cells]; positions.len()];
    for number in 0..scan.tiles().len() {
        let block = scan.tiles().block(number);
        let fetched = scan.fetch(&positions, &block, None).join().await.unwrap();
        let mut tile = scan.local(&positions, block).unwrap();
        if strip_bytes.is_none() || !fetched.has_derived() {
            scan.decode(fetched, &mut tile).await.unwrap();
            place(&tile, &shape, &mut all);
            continue;
        }
        let (mut strips, _) = scan.strips(fetched, &tile).await.unwrap();
        while let Some(strip) = scan.next_strip(&mut strips, &tile, &positions).await.unwrap() {
            place(&strip, &shape, &mut all);
        }
    }
    all
}

/// Puts the values of a tile at their places.
fn place(tile: &Tile, shape: &[u64], all: &mut [Vec<Cell>]) {
    let (dims, columns): (Vec<usize>, Vec<usize>) =
        ((0..shape.len()).collect(), (0..all.len()).collect());
    let rows = tile.rows(&dims, &columns).unwrap();
    let columns = rows.slice(0, rows.len()).unwrap();
    for row in 0..rows.len() {
        let at = unravel(row as u64, &tile.block().shape());
        let index = at.iter().zip(tile.block().selections()).map(|(at, s)| s.nth(*at).unwrap());
        let cell: u64 = index.zip(strides(shape)).map(|(i, s)| i * s).sum();
        for (all, column) in all.iter_mut().zip(&columns) {
            let place = &mut all[usize::try_from(cell).unwrap()];
            assert_eq!(*place, Cell::Unread);
            *place = cell_of(column, row);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Unread,
    Missing,
    Value(f32),
}

fn cell_of(column: &ArrayRef, row: usize) -> Cell {
    if column.is_null(row) {
        return Cell::Missing;
    }
    Cell::Value(match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row),
        DataType::Boolean => f32::from(u8::from(column.as_boolean().value(row))),
        other => panic!("{other}"),
    })
}

fn selection(size: u64, mask: &[bool]) -> Selection {
    (0..size).filter(|&i| mask[usize::try_from(i).unwrap()]).map(|i| i..i + 1).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

const SIZES: [u64; 3] = [5, 6, 4];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The axes of a partner, each looked up along one or two dimensions of a grid, or at one index.
    #[test]
    fn looked_up_columns_are_those_of_a_loop(
        chunks in prop::collection::vec(1_u64..4, 3),
        partner in prop::collection::vec((1_u64..7, 1_u64..4), 1..4),
        dims in prop::collection::vec(prop::collection::btree_set(0_usize..3, 0..3), 3),
        seeds in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.8, 0_u64..7), 30), 3),
        masks in prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.8), 6), 3),
        shards: bool,
        plain: bool,
    ) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let own = ["a", "b", "c"].iter().zip(SIZES).map(|(n, s)| (*n, s)).collect::<Vec<_>>();
            let anchor = dataset(&directory.path().join("anchor"), &own, &chunks, false).await;
            let names = ["p", "q", "r"];
            let shape: Vec<u64> = partner.iter().map(|(size, _)| *size).collect();
            let named: Vec<(&str, u64)> = names.iter().zip(&shape).map(|(n, s)| (*n, *s)).collect();
            let sizes: Vec<u64> = partner.iter().map(|(_, chunk)| *chunk).collect();
            let other = dataset(&directory.path().join("partner"), &named, &sizes, shards).await;
            let mut table = anchor.table().unwrap();
            let looked_up = other.table().unwrap();
            let maps: Vec<IndexMap> = shape
                .iter()
                .zip(&dims)
                .zip(&seeds)
                .map(|((size, dims), seeds)| {
                    let dims: Vec<usize> = dims.iter().copied().collect();
                    let sizes: Vec<u64> = dims.iter().map(|&d| SIZES[d]).collect();
                    let cells = usize::try_from(sizes.iter().product::<u64>()).unwrap();
                    let partner = |cell: usize| match plain {
                        true => Some(cell as u64).filter(|index| index < size),
                        false => seeds[cell].map(|index| index % size),
                    };
                    IndexMap::new(dims, sizes, (0..cells).map(partner).collect())
                })
                .collect();
            let lookup = Lookup { dims: &looked_up.dims, maps: &maps };
            let column = looked_up.columns.iter().find(|c| c.name == "v").unwrap();
            let anchors = table.columns.iter().position(|c| c.name == "v").unwrap();
            table.columns = vec![
                table.columns[anchors].clone(),
                lookup.column(column, "looked_up".to_owned()).unwrap(),
                lookup.present("present".to_owned()),
            ];
            let selected: Vec<Selection> =
                SIZES.iter().zip(&masks).map(|(size, mask)| selection(*size, mask)).collect();
            let read = read(&table, selected.clone(), &[], None).await;
            for cell in 0..SIZES.iter().product::<u64>() {
                let at = unravel(cell, &SIZES);
                let place = usize::try_from(cell).unwrap();
                let is_selected = at.iter().zip(&selected).all(|(i, s)| s.within(&(*i..*i + 1)).len() == 1);
                if !is_selected {
                    assert!(read.iter().all(|column| column[place] == Cell::Unread));
                    continue;
                }
                let partners: Option<Vec<u64>> = maps
                    .iter()
                    .map(|map| map.get(&map.dims().iter().map(|&d| at[d]).collect::<Vec<_>>()))
                    .collect();
                let cell_of = |value: Option<f32>| value.map_or(Cell::Missing, Cell::Value);
                assert_eq!(read[0][place], cell_of(value(cell)));
                let own = partners.as_ref().and_then(|partners| {
                    value(partners.iter().zip(strides(&shape)).map(|(i, s)| i * s).sum())
                });
                assert_eq!(read[1][place], cell_of(own), "{at:?} {maps:?}");
                assert_eq!(read[2][place], Cell::Value(f32::from(u8::from(partners.is_some()))));
            }
        });
    }

    /// Sums of neighbours, and sums that continue from tile to tile.
    #[test]
    fn derived_columns_are_those_of_a_loop(
        chunks in prop::collection::vec(1_u64..4, 3),
        dim in 0_usize..3,
        reach in 0_u64..4,
        reversed: bool,
        first in prop::option::of(0_usize..3),
        strip_bytes in prop::option::of(1_u64..500),
        masks in prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.8), 6), 3),
    ) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let own = ["a", "b", "c"].iter().zip(SIZES).map(|(n, s)| (*n, s)).collect::<Vec<_>>();
            let anchor = dataset(&directory.path().join("anchor"), &own, &chunks, false).await;
            let mut table = anchor.table().unwrap();
            let column = table.columns.iter().find(|c| c.name == "v").unwrap().clone();
            let selected: Vec<Selection> =
                SIZES.iter().zip(&masks).map(|(size, mask)| selection(*size, mask)).collect();
            let near = Sums { inputs: vec![column.clone()], dim, reach: Some(reach), reversed };
            let all = Sums { inputs: vec![column.clone()], dim, reach: None, reversed };
            let derived = |name: &str, sums: Sums| {
                Column::derived(name.to_owned(), vec![0, 1, 2], Arc::new(sums))
            };
            table.columns = vec![column, derived("near", near), derived("all", all)];
            let order: Vec<DimOrder> = first.map(DimOrder::forward).into_iter().collect();
            let read = read(&table, selected.clone(), &order, strip_bytes).await;
            for cell in 0..SIZES.iter().product::<u64>() {
                let at = unravel(cell, &SIZES);
                let place = usize::try_from(cell).unwrap();
                if !at.iter().zip(&selected).all(|(i, s)| s.within(&(*i..*i + 1)).len() == 1) {
                    continue;
                }
                assert_eq!(read[0][place], value(cell).map_or(Cell::Missing, Cell::Value));
                let stride = strides(&SIZES)[dim];
                let of = |index: u64| value(cell - at[dim] * stride + index * stride).unwrap_or(0.0);
                let near: f32 = (at[dim].saturating_sub(reach)..=at[dim]).map(of).sum();
                assert_eq!(read[1][place], Cell::Value(near));
                let before = |index: &u64| if reversed { *index >= at[dim] } else { *index <= at[dim] };
                let all: f32 = selected[dim].iter().filter(before).map(of).sum();
                assert_eq!(read[2][place], Cell::Value(all), "{at:?}");
            }
        });
    }
}

/// Sums along a dimension: of the `reach` indices before, or of all selected ones from one end on.
#[derive(Debug)]
struct Sums {
    inputs: Vec<Column>,
    dim: usize,
    reach: Option<u64>,
    reversed: bool,
}

impl Derive for Sums {
    fn data_type(&self) -> DataType {
        DataType::Float32
    }

    fn inputs(&self) -> &[Column] {
        &self.inputs
    }

    fn needs(&self, dim: usize, wanted: &Selection) -> Selection {
        match self.reach {
            Some(reach) if dim == self.dim => {
                wanted.ranges().map(|r| r.start.saturating_sub(reach)..r.end).collect()
            }
            _ => wanted.clone(),
        }
    }

    fn runs_along(&self, dim: usize) -> bool {
        dim == self.dim
    }

    fn continues(&self) -> Option<Continues> {
        let own = Continues { dim: self.dim, reversed: self.reversed };
        self.reach.is_none().then_some(own)
    }

    fn derive(&self, inputs: Inputs<'_>) -> Result<Values> {
        let (values, nan_is_null) = &inputs.values[0];
        let values = values.as_primitive::<Float32Type>();
        let of = |index: &[u64]| {
            let needs = inputs.needs.iter();
            let shape: Vec<u64> = needs.clone().map(Selection::len).collect();
            let place = needs.zip(index).map(|(s, i)| s.rank(*i)).zip(strides(&shape));
            let place = usize::try_from(place.map(|(i, s)| i * s).sum::<u64>()).unwrap();
            let missing = values.is_null(place) || (*nan_is_null && values.value(place).is_nan());
            if missing { 0.0 } else { values.value(place) }
        };
        let shape: Vec<u64> = inputs.wanted.iter().map(Selection::len).collect();
        let carried =
            inputs.carried.as_ref().map(|c| c.downcast_ref::<Vec<f32>>().unwrap().clone());
        let mut line = shape.clone();
        line[self.dim] = 1;
        let lines = usize::try_from(line.iter().product::<u64>()).unwrap();
        let mut sums = carried.unwrap_or_else(|| vec![0.0; lines]);
        let mut out = vec![0.0; usize::try_from(shape.iter().product::<u64>()).unwrap()];
        let mut along: Vec<u64> = (0..shape[self.dim]).collect();
        if self.reversed {
            along.reverse();
        }
        for (number, sum) in sums.iter_mut().enumerate() {
            let mut at = unravel(number as u64, &line);
            for &position in &along {
                at[self.dim] = position;
                let index = at.iter().zip(inputs.wanted).map(|(at, s)| s.nth(*at).unwrap());
                let mut index: Vec<u64> = index.collect();
                let place: u64 = at.iter().zip(strides(&shape)).map(|(i, s)| i * s).sum();
                out[usize::try_from(place).unwrap()] = match self.reach {
                    None => {
                        *sum += of(&index);
                        *sum
                    }
                    Some(reach) => {
                        let end = index[self.dim];
                        let own = end.saturating_sub(reach)..=end;
                        own.map(|i| {
                            index[self.dim] = i;
                            of(&index)
                        })
                        .sum()
                    }
                };
            }
        }
        let carried: Carried = Arc::new(sums);
        let values: ArrayRef = Arc::new(Float32Array::from(out));
        Ok(Values { values, nan_is_null: false, carried: Some(carried) })
    }
}
