//! Rows come in the grid's order, whoever reads them: always the same.

use std::{fs, path::Path};

use datafusion::prelude::{SessionConfig, SessionContext};
use futures::FutureExt as _;
use lsio_datafusion::LsioConfig;

use crate::{
    harness::{config, in_parallel, reanalysis_store, rows, session},
    random_queries::Random,
};

/// A session of this many partitions, whose tiles are small and whose batches are smaller.
fn partitioned(partitions: usize, random: &mut Random) -> SessionContext {
    let batch_size = *random.choose(&[7, 64, 8192]);
    let mut config = config().with_target_partitions(partitions).with_batch_size(batch_size);
    config.options_mut().optimizer.repartition_file_min_size = 0;
    let tile_bytes = *random.choose(&[0, 4096]);
    config.options_mut().extensions.insert(LsioConfig { tile_bytes, ..LsioConfig::default() });
    session(config)
}

/// The same from one partition without workers: one tile after the other.
fn plain(tile_bytes: usize) -> SessionContext {
    let mut config = config().with_target_partitions(1);
    config.options_mut().extensions.insert(LsioConfig { tile_bytes, ..LsioConfig::default() });
    session(config)
}

fn random_shape(random: &mut Random) -> ([u64; 3], [u64; 3]) {
    let shape = [1 + random.below(30), 2 + random.below(12), 2 + random.below(20)];
    let chunks = [1 + random.below(6), 1 + random.below(6), 1 + random.below(9)];
    (shape, chunks)
}

#[test]
fn the_order_of_rows_does_not_depend_on_partitions() {
    in_parallel(0..10, |seed| {
        async move {
            let random = &mut Random(seed);
            let directory = tempfile::tempdir().unwrap();
            let (shape, chunks) = random_shape(random);
            let store = reanalysis_store(directory.path(), shape, chunks);
            for select in [
                "SELECT * FROM '{}'",
                "SELECT time, t2m - 273.15 AS c FROM '{}' WHERE latitude < 40",
                "SELECT t2m, longitude, t2m FROM '{}' WHERE t2m > 270",
                "SELECT u10 + v10 AS s, latitude FROM '{}' WHERE u10 > v10 OR longitude < 90",
                "SELECT v10 FROM '{}' WHERE t2m > 280 LIMIT 17",
                "SELECT * FROM '{}' LIMIT 101",
            ] {
                let sql = select.replace("{}", &store);
                let tile_bytes = *random.choose(&[0, 4096]);
                let expected = rows(&plain(tile_bytes), &sql).await.unwrap();
                for partitions in [2, 3, 8] {
                    let mut config =
                        config().with_target_partitions(partitions).with_batch_size(16);
                    config.options_mut().optimizer.repartition_file_min_size = 0;
                    let own = LsioConfig { tile_bytes, ..LsioConfig::default() };
                    config.options_mut().extensions.insert(own);
                    let ctx = session(config);
                    let actual = rows(&ctx, &sql).await.unwrap();
                    assert!(actual == expected, "{seed} {shape:?} {chunks:?} {partitions} {sql}");
                }
            }
        }
        .boxed()
    });
}

#[test]
fn asked_orders_are_those_of_a_sort() {
    in_parallel(0..12, |seed| {
        async move {
            let random = &mut Random(seed);
            let directory = tempfile::tempdir().unwrap();
            let (shape, chunks) = random_shape(random);
            let store = reanalysis_store(directory.path(), shape, chunks);
            let filters = ["true", "t2m > 275", "latitude > 0", "longitude < 200 AND t2m < 290"];
            let orders = [
                "time, latitude DESC, longitude",
                "time DESC, latitude DESC, longitude",
                "time, latitude, longitude DESC",
            ];
            for _ in 0..6 {
                let (filter, order) = (*random.choose(&filters), *random.choose(&orders));
                let sql = format!(
                    "SELECT time, latitude, longitude, t2m FROM '{store}' WHERE {filter} ORDER BY {order}"
                );
                let actual = rows(&partitioned(3, random), &sql).await.unwrap();
                // A subquery's rows are sorted as they come: the scan knows nothing of the order.
                let sorted = format!(
                    "SELECT time, latitude, longitude, t2m FROM (SELECT *, random() AS r FROM '{store}') \
                     WHERE r >= 0 AND {filter} ORDER BY {order}"
                );
                let expected = rows(&plain(0), &sorted).await.unwrap();
                assert!(actual == expected, "{seed} {shape:?} {chunks:?} {sql}");
                let limit = 1 + random.below(40) as usize;
                let first = rows(&partitioned(3, random), &format!("{sql} LIMIT {limit}")).await;
                let expected = &expected[..limit.min(expected.len())];
                assert!(first.unwrap() == expected, "{seed} {shape:?} {chunks:?} {sql} {limit}");
            }
        }
        .boxed()
    });
}

async fn copied(ctx: &SessionContext, store: &str, to: &Path) -> String {
    let copy = format!("COPY (SELECT * FROM '{store}' WHERE t2m > 260) TO '{}'", to.display());
    rows(ctx, &copy).await.unwrap();
    fs::read_to_string(to).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_written_twice_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = reanalysis_store(directory.path(), [60, 13, 20], [3, 5, 7]);
    let mut config = SessionConfig::new().with_target_partitions(8);
    config.options_mut().optimizer.repartition_file_min_size = 0;
    config.options_mut().extensions.insert(LsioConfig { tile_bytes: 0, ..LsioConfig::default() });
    let ctx = session(config);
    let first = copied(&ctx, &store, &directory.path().join("first.csv")).await;
    assert!(first.lines().count() > 1000);
    for number in 0..5 {
        let other = directory.path().join(format!("{number}.csv"));
        assert_eq!(copied(&ctx, &store, &other).await, first);
    }
}
