//! Rows of files that scans look up: with unique keys, with keys that repeat, and too many.

use std::fs;

use datafusion::physical_plan::displayable;

use crate::harness::{config, frame, reanalysis_store, rows, session};

const QUERIES: [&str; 5] = [
    "SELECT name, avg(t2m) AS mean, count(*) AS n FROM '{store}' JOIN '{file}' ON latitude = lat \
     AND longitude = lon GROUP BY name ORDER BY name",
    "SELECT time, name, t2m FROM '{store}' JOIN '{file}' ON latitude = lat AND longitude = lon \
     ORDER BY time, name",
    "SELECT count(*) AS n, count(name) AS m FROM '{store}' LEFT JOIN '{file}' ON latitude = lat \
     AND longitude = lon",
    "SELECT count(*) AS n FROM '{store}' WHERE latitude NOT IN (SELECT lat FROM '{file}' WHERE lat > 0)",
    "SELECT count(*) AS n, max(t2m) AS warmest FROM '{store}' WHERE EXISTS (SELECT 1 FROM '{file}' \
     WHERE lat = latitude AND lon = longitude)",
];

#[tokio::test]
async fn rows_of_files_are_looked_up_if_their_keys_are_unique() {
    let directory = tempfile::tempdir().unwrap();
    let store = reanalysis_store(directory.path(), [20, 7, 12], [3, 4, 5]);
    let unique = "name,lat,lon\na,90.0,0.0\nb,30.0,60.0\nc,31.0,60.0\nd,,60.0\ne,-90.0,330.0\n";
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let files = [
        file("unique.csv", unique.to_owned()),
        file("repeated.csv", format!("{unique}f,30.0,60.0\n")),
        file("empty.csv", "name,lat,lon\n".to_owned()),
    ];
    for partitions in [1, 4] {
        for file in &files {
            for sql in QUERIES {
                let sql = sql.replace("{store}", &store).replace("{file}", file);
                let ctx = session(config().with_target_partitions(partitions));
                let plan = frame(&ctx, &sql).await.unwrap().create_physical_plan().await.unwrap();
                let plan = displayable(plan.as_ref()).indent(false).to_string();
                let looked_up = rows(&ctx, &sql).await.unwrap();
                // The second run reads the file again.
                assert_eq!(looked_up, rows(&ctx, &sql).await.unwrap(), "{sql}");
                rows(&ctx, "SET lsio.join_pushdown = false").await.unwrap();
                let plain = rows(&ctx, &sql).await.unwrap();
                assert_eq!(looked_up, plain, "{partitions}: {sql}\n{plan}");
                if !sql.contains("NOT IN") && !file.contains("empty") {
                    assert!(plan.contains("looked up"), "{plan}");
                }
            }
        }
    }
}
