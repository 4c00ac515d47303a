//! What `EXPLAIN` says, as snapshots. `INSTA_UPDATE=always cargo test … explains` writes them anew.

use std::path::Path;

use datafusion::physical_plan::displayable;

use crate::harness::{config, frame, reanalysis_store, session};

/// The name of the snapshot, and the query.
const QUERIES: [(&str, &str); 22] = [
    ("all_rows", "SELECT * FROM '{store}'"),
    ("coordinates_alone", "SELECT latitude, longitude FROM '{store}'"),
    ("selection", "SELECT t2m FROM '{store}' WHERE latitude > 0 AND time < '2019-01-01T06:00:00'"),
    ("selection_that_is_empty", "SELECT t2m FROM '{store}' WHERE latitude > 100"),
    ("filter_on_values", "SELECT time, u10 FROM '{store}' WHERE t2m > 290"),
    ("filter_on_two_dimensions", "SELECT u10 FROM '{store}' WHERE latitude > longitude"),
    ("filter_that_is_not_pushed", "SELECT t2m FROM '{store}' WHERE random() < 0.5"),
    ("limit", "SELECT time, t2m FROM '{store}' LIMIT 3"),
    ("order_of_a_dimension", "SELECT t2m FROM '{store}' ORDER BY time DESC LIMIT 3"),
    ("order_of_values", "SELECT t2m FROM '{store}' ORDER BY t2m LIMIT 3"),
    ("counts_from_the_metadata", "SELECT count(*), min(latitude) FROM '{store}'"),
    ("groups_in_runs", "SELECT latitude, avg(t2m) FROM '{store}' GROUP BY latitude"),
    ("groups_that_ascend", "SELECT longitude, max(u10) FROM '{store}' GROUP BY longitude"),
    (
        "groups_that_scatter",
        "SELECT round(latitude + longitude) AS k, sum(v10) FROM '{store}' GROUP BY k",
    ),
    (
        "join_of_grids",
        "SELECT avg(a.t2m - b.t2m) FROM '{store}' a JOIN '{store}' b USING (time, latitude, longitude)",
    ),
    (
        "join_with_a_shift",
        "SELECT a.time, a.t2m - b.t2m FROM '{store}' a LEFT JOIN '{store}' b ON a.time = b.time + \
         INTERVAL '1 hour' AND a.latitude = b.latitude AND a.longitude = b.longitude WHERE b.t2m > 280",
    ),
    (
        "join_with_an_aggregate",
        "SELECT avg(abs(a.t2m - c.mean)) FROM '{store}' a JOIN (SELECT latitude, longitude, avg(t2m) \
         AS mean FROM '{store}' GROUP BY 1, 2) c ON a.latitude = c.latitude AND a.longitude = c.longitude",
    ),
    (
        "join_with_values",
        "SELECT name, avg(t2m) FROM '{store}' JOIN (VALUES (10.0, 'a'), (20.0, 'b')) AS p(lon, name) \
         ON longitude = lon GROUP BY name",
    ),
    (
        "join_that_leaves_a_dimension_free",
        "SELECT count(*) FROM '{store}' a JOIN '{store}' b ON a.time = b.time AND a.latitude = b.latitude",
    ),
    (
        "window_that_lags",
        "SELECT t2m - lag(t2m, 3) OVER (PARTITION BY latitude, longitude ORDER BY time) FROM '{store}'",
    ),
    (
        "window_over_whole_partitions",
        "SELECT t2m - avg(t2m) OVER (PARTITION BY latitude, longitude) AS anomaly FROM '{store}'",
    ),
    ("aggregate_that_is_not_pushed", "SELECT count(DISTINCT t2m + random()) FROM '{store}'"),
];

/// Seven chunks along time, 2 × 2 on the map, in rows that are long enough for every layout of groups.
fn store(directory: &Path) -> String {
    reanalysis_store(directory, [20, 7, 144], [3, 4, 72])
}

#[tokio::test]
async fn explains_are_the_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (name, sql) in QUERIES {
        let ctx = session(config().with_target_partitions(4));
        let query = sql.replace("{store}", &store);
        let plan = frame(&ctx, &query).await.unwrap().create_physical_plan().await.unwrap();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        let text = text.replace(&store, "{store}");
        settings.set_description(sql);
        settings.bind(|| insta::assert_snapshot!(format!("explain_{name}"), text));
    }
}
