//! Random stores against what a plain loop over the written values gives.

use std::path::Path;

use lsio_core::grid::{ChunkGrid, unravel};
use lsio_datafusion::ZarrSession as _;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    harness::{config, rows, session},
    storage::{consolidate_if_unlisted, share},
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A variable: the dimensions it has, in its own order, and its chunks, shards and encoding.
#[derive(Clone, Debug)]
struct Plan {
    dims: Vec<usize>,
    chunks: Vec<u64>,
    inner: Option<Vec<u64>>,
    compression: u8,
    kind: u8,
}

/// The value of the cell at these indices of the grid's dimensions: different for each.
fn value(plan: &Plan, at: &[u64]) -> i64 {
    plan.dims.iter().fold(7, |value, &d| value * 6 + at[d].cast_signed())
}

/// Values that one kind masks.
fn is_masked(plan: &Plan, value: i64) -> bool {
    plan.kind == 2 && value % 5 == 0
}

fn variable() -> impl Strategy<Value = Plan> {
    let dims = Just((0..NAMES.len()).collect::<Vec<usize>>()).prop_shuffle();
    (dims, prop::collection::vec((1_u64..4, 1_u64..3), 4), any::<bool>(), 0_u8..3, 0_u8..3)
        .prop_map(|(dims, sizes, sharded, compression, kind)| Plan {
            dims,
            // Shards are whole multiples of the chunks in them.
            chunks: sizes.iter().map(|(c, times)| if sharded { c * times } else { *c }).collect(),
            inner: sharded.then(|| sizes.iter().map(|(c, _)| *c).collect()),
            compression,
            kind,
        })
}

fn write(path: &Path, shape: &[u64], variables: &[Plan]) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    for (number, plan) in variables.iter().enumerate() {
        let rank = plan.dims.len();
        let dims: Vec<(&str, u64)> = plan.dims.iter().map(|&d| (NAMES[d], shape[d])).collect();
        let outer = &plan.chunks[..rank];
        let inner = plan.inner.as_ref().map_or(outer, |inner| &inner[..rank]);
        let (data_type, attributes) = match plan.kind {
            0 => ("float64", json!({})),
            1 => ("int32", json!({"scale_factor": 0.5, "add_offset": 1.0})),
            _ => ("int64", json!({"missing_value": [-1]})),
        };
        let array = group
            .array(&SyntheticArray {
                name: &format!("v{number}"),
                data_type,
                dims: &dims,
                chunks: inner,
                shards: plan.inner.as_ref().map(|_| outer),
                compression: match plan.compression {
                    0 => Compression::None,
                    1 => Compression::Zstd(1),
                    _ => Compression::BloscLz4(1),
                },
                fill_value: json!(0),
                attributes,
            })
            .unwrap();
        let own: Vec<u64> = dims.iter().map(|d| d.1).collect();
        let grid = ChunkGrid::new(own, outer.to_vec()).unwrap();
        for chunk in 0..grid.len() {
            let start = grid.region(chunk).start;
            let cells: u64 = outer.iter().product();
            let values: Vec<i64> = (0..cells)
                .map(|cell| {
                    let mut at = vec![0; NAMES.len()];
                    let inside = unravel(cell, outer);
                    for ((&d, start), inside) in plan.dims.iter().zip(&start).zip(inside) {
                        at[d] = start + inside;
                    }
                    let value = value(plan, &at);
                    if is_masked(plan, value) { -1 } else { value }
                })
                .collect();
            let indices = grid.indices(chunk);
            match plan.kind {
                0 => array.write(&indices, &values.iter().map(|&v| v as f64).collect::<Vec<_>>()),
                1 => array.write(
                    &indices,
                    &values.iter().map(|&v| i32::try_from(v).unwrap()).collect::<Vec<_>>(),
                ),
                _ => array.write(&indices, &values),
            }
            .unwrap();
        }
    }
    group.consolidate().unwrap();
}

fn expected(plan: &Plan, at: &[u64]) -> Value {
    let value = value(plan, at);
    match plan.kind {
        0 => json!(value as f64),
        1 => json!(value as f64 * 0.5 + 1.0),
        _ if is_masked(plan, value) => Value::Null,
        _ => json!(value),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(share(48) as u32))]

    #[test]
    fn rows_are_the_cells(
        shape in prop::collection::vec(1_u64..6, 4),
        full in variable(),
        others in prop::collection::vec((variable(), 0_usize..5), 0..3),
        partitions in 1_usize..4,
        batch_size in 1_usize..50,
        held in any::<bool>(),
    ) {
        let mut variables = vec![full];
        for (mut plan, rank) in others {
            plan.dims.truncate(rank);
            variables.push(plan);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.zarr");
        write(&path, &shape, &variables);

        let order: Vec<String> = variables[0].dims.iter().map(|&d| NAMES[d].to_owned()).collect();
        let columns: Vec<String> = (0..variables.len()).map(|n| format!("v{n}")).collect();
        let sql = format!(
            "SELECT a, b, c, d, {} FROM '{}' ORDER BY a, b, c, d",
            columns.join(", "),
            path.to_string_lossy(),
        );
        let mut config =
            config().with_target_partitions(partitions).with_batch_size(batch_size);
        config.options_mut().optimizer.repartition_file_min_size = 0;
        let actual = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let ctx = session(config);
            // Variables of lower rank are held in memory, or streamed beside the others.
            let memory = if held { 1 << 20 } else { 0 };
            ctx.query(&format!("SET lsio.coordinate_memory = {memory}")).await.unwrap();
            rows(&ctx, &sql).await.unwrap()
        });
        let cells: u64 = shape.iter().product();
        let wanted: Vec<Vec<Value>> = (0..cells)
            .map(|cell| {
                let at = unravel(cell, &shape);
                let indices = at.iter().map(|i| json!(i));
                indices.chain(variables.iter().map(|plan| expected(plan, &at))).collect()
            })
            .collect();
        prop_assert_eq!(actual, wanted, "{:?}", order);
    }
}

/// Two variables, of which one lacks the dimension `y`.
pub(crate) fn write_lower_rank(path: &Path) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let spec = SyntheticArray {
        name: "full",
        data_type: "float64",
        dims: &[("y", 2), ("x", 3)],
        chunks: &[],
        shards: None,
        compression: Compression::None,
        fill_value: json!(0),
        attributes: json!({}),
    };
    group.whole_array(&spec, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let spec = SyntheticArray { name: "low", dims: &[("x", 3)], ..spec };
    group.whole_array(&spec, &[1.0, 2.0, 3.0]).unwrap();
    consolidate_if_unlisted(path);
}
