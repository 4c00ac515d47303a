//! What DuckDB's users write from day to day.

use std::fs;

use datafusion::prelude::SessionContext;
use lsio_datafusion::{clarify, prelude::*};
use serde_json::{Value, json};

use crate::harness::{config, rows, session, workspace};

fn store(group: &str) -> String {
    let path = workspace().join("lsio_datafusion/tests/fixtures/semantics.zarr").join(group);
    format!("'{}'", path.display())
}

async fn ask(sql: &str) -> Vec<Vec<Value>> {
    let sql = sql.replace("{line}", &store("line")).replace("{times}", &store("times"));
    match rows(&session(config()), &sql).await {
        Ok(rows) => rows,
        Err(error) => panic!("{sql}: {error}"),
    }
}

async fn refusal(ctx: &SessionContext, sql: &str) -> String {
    let sql = sql.replace("{line}", &store("line")).replace("{times}", &store("times"));
    match ctx.query(&sql).await {
        Ok(_) => panic!("{sql} is planned"),
        Err(error) => clarify(error, &sql, &ctx.state()).to_string(),
    }
}

#[tokio::test]
async fn signs() {
    let list = "SELECT -uint8, -uint64, -int8, -float64, - (uint8 + 1) FROM {line} WHERE i = 4";
    assert_eq!(ask(list).await, [vec![json!(-5), json!(-5), json!(-5), json!(-0.5), json!(-6)]]);
    // Where one sign is planned by other means, all are, with the same results.
    let least = "SELECT -uint8, -int8 FROM {line} WHERE int8 = -128 ORDER BY uint8 LIMIT 1";
    assert_eq!(ask(least).await[0][1], json!(128));
    assert_eq!(ask("SELECT min(-uint16) FROM {line}").await, [[json!(-65535)]]);
    let within = "SELECT count(*) FROM (SELECT i FROM {line} WHERE -uint8 < -100)";
    assert!(ask(within).await[0][0].as_i64() > Some(0));
}

#[tokio::test]
async fn durations_and_numbers() {
    let of = |list: &str| format!("SELECT {list} FROM {{times}} WHERE i = 3");
    for (list, expected) in [
        ("step_s * 2 = INTERVAL '2 days'", json!(true)),
        ("2 * step_ms = INTERVAL '2 days'", json!(true)),
        ("step_us / 2 = INTERVAL '12 hours'", json!(true)),
        ("step_s / 7 < INTERVAL '3 hours 26 minutes'", json!(true)),
        ("step_s * 0.5 = INTERVAL '12 hours'", json!(true)),
        ("step_ns / INTERVAL '1 hour'", json!(24.0)),
        ("step_s / step_ms", json!(1.0)),
        ("step_s / 0", Value::Null),
        ("-step_s = INTERVAL '-1 day'", json!(true)),
        ("step_s + step_ns = INTERVAL '2 days'", json!(true)),
        ("step_s - INTERVAL '1 hour' = INTERVAL '23 hours'", json!(true)),
        ("INTERVAL '1 hour' + step_ms > step_us", json!(true)),
    ] {
        assert_eq!(ask(&of(list)).await, [[expected]], "{list}");
    }
    // A fraction of a second stays.
    let half = "SELECT step_s / 2 = INTERVAL '0.5 seconds' FROM {times} WHERE i = 1";
    assert_eq!(ask(half).await, [[json!(true)]]);
    let mean =
        "SELECT avg(step_s) / INTERVAL '1 second', max(step_s / INTERVAL '1 day') FROM {times}";
    assert_eq!(ask(mean).await, [[json!(290_260.0), json!(31.0)]]);
}

#[tokio::test]
async fn aliases_of_the_list() {
    for (sql, expected) in [
        ("SELECT int8 AS x, x + 1 AS y, y * 2 FROM {line} WHERE i = 4", vec![5, 6, 12]),
        ("SELECT int8 AS x FROM {line} WHERE x > 100 ORDER BY x LIMIT 1", vec![126]),
        (
            "SELECT k FROM (SELECT int8 AS k, k > 3 AS big FROM {line} WHERE big) ORDER BY k LIMIT 1",
            vec![5],
        ),
        // A column of that name counts more.
        ("SELECT int8 + 1 AS int16, int16 * 10 FROM {line} WHERE i = 4", vec![6, 50]),
    ] {
        let expected: Vec<Value> = expected.into_iter().map(Value::from).collect();
        assert_eq!(ask(sql).await, [expected], "{sql}");
    }
}

#[tokio::test]
async fn times_beside_texts() {
    for (column, known) in
        [("time_s", "time_s"), ("time_ns", "time_ns"), ("cf_standard", "cf_standard")]
    {
        let sql = format!(
            "SELECT count(*), count(DISTINCT coalesce({column}, '1999-01-01')) \
             FROM {{times}} WHERE coalesce({column}, '1999-01-01') = coalesce({known}, TIMESTAMP '1999-01-01')"
        );
        assert_eq!(ask(&sql).await[0][0], json!(13), "{column}");
    }
    let year =
        "SELECT min(year(coalesce(time_us, '0999-01-01'))) FROM {times} WHERE time_us IS NULL";
    assert_eq!(ask(year).await, [[json!(999)]]);
}

#[tokio::test]
async fn both_zeros_are_one_in_orders() {
    // Both zeros come before the second key.
    let sql = "SELECT k FROM (SELECT float64 AS v, -i AS k FROM {line}) WHERE v = 0 ORDER BY v, k";
    let sorted = |rows: Vec<Vec<Value>>| {
        rows.iter().map(|row| row[0].as_i64().unwrap()).collect::<Vec<_>>().is_sorted()
    };
    assert!(sorted(ask(sql).await));
    let union = "SELECT k FROM (SELECT 0.0 AS v, 3 AS k UNION ALL SELECT -0.0, 4 \
                 UNION ALL SELECT float64, i FROM {line} WHERE float64 = 0) ORDER BY v, k LIMIT 3";
    assert!(sorted(ask(union).await));
    let by_first = "SELECT first_value(i) OVER (ORDER BY float64, i) FROM {line} WHERE float64 = 0";
    let least = ask("SELECT min(i) FROM {line} WHERE float64 = 0").await;
    assert_eq!(ask(by_first).await[0], least[0]);
}

#[tokio::test]
async fn windows_of_any_order() {
    for key in [
        "CAST(time_us AS TIME)",
        "arrow_cast(cf_360_day, 'Binary')",
        "named_struct('a', i)",
        "step_s",
        "(time_us - time_us + INTERVAL '1 month')",
    ] {
        let sql = format!("SELECT sum(i) OVER (ORDER BY {key}) FROM {{times}}");
        assert_eq!(ask(&sql).await.len(), 13, "{key}");
    }
    let times = "SELECT count(*) OVER (ORDER BY CAST(time_us AS TIME) \
                 RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) FROM {times}";
    assert_eq!(ask(times).await.len(), 13);
}

#[tokio::test]
async fn names_and_joins_of_duckdb() {
    for (sql, expected) in [
        (
            "SELECT mod(int8, 3), mod(float64, 0.2) FROM {line} WHERE i = 4",
            json!([2, 0.09999999999999998]),
        ),
        (
            "SELECT count_if(int8 > 100), countif(flag IS NULL) FROM {line} WHERE kind = 0",
            json!([0, 0]),
        ),
        ("SELECT isinf(float64), isfinite(float64) FROM {line} WHERE i = 4", json!([false, true])),
        ("SELECT count(*) FROM {line} SEMI JOIN (SELECT 3 AS i) b USING (i)", json!([1])),
        ("SELECT count(*) FROM {line} a ANTI JOIN (SELECT 3 AS i) b ON a.i = b.i", json!([24])),
        (
            "SELECT count(int8 ORDER BY int8), bit_or(uint8 ORDER BY i) FROM {line} WHERE i < 3",
            json!([3, 7]),
        ),
    ] {
        let rows = ask(sql).await;
        assert_eq!(json!(rows[0]), expected, "{sql}");
    }
}

#[tokio::test]
async fn natural_joins_and_subqueries_without_names() {
    for (sql, expected) in [
        (
            "SELECT count(*) FROM {line} a NATURAL JOIN (SELECT i, kind + 1 AS k FROM {line}) b WHERE i < 3",
            json!([3]),
        ),
        (
            "SELECT count(*) FROM {line} a NATURAL LEFT JOIN (SELECT i, 1 AS k FROM {line}) b WHERE i < 3 AND k = 1",
            json!([3]),
        ),
        (
            "SELECT count(*) FROM {line} NATURAL JOIN (SELECT i, int16 FROM {line} WHERE int16 IS NOT NULL) WHERE i < 3",
            json!([3]),
        ),
        (
            "SELECT i FROM (SELECT i, int16 FROM {line}) JOIN (SELECT i, int8 FROM {line}) USING (i) WHERE i = 2",
            json!([2]),
        ),
        (
            "SELECT count(*) FROM (SELECT i, int16 FROM {line}), (SELECT int8 FROM {line})",
            json!([625]),
        ),
    ] {
        assert_eq!(json!(ask(sql).await[0]), expected, "{sql}");
    }
}

#[tokio::test]
async fn what_is_refused_says_what_to_write() {
    let ctx = session(config());
    for (sql, words) in [
        ("DROP TABLE {line}", "removes no files"),
        ("PIVOT {line} ON kind USING sum(int8)", "FILTER (WHERE"),
        ("SELECT * FROM {line} PIVOT (sum(int8) FOR kind IN (1, 2))", "FILTER (WHERE"),
        ("UNPIVOT {line} ON int8 INTO NAME n VALUE v", "UNION ALL"),
        ("SELECT i FROM {line} LIMIT 10%", "random()"),
        ("SELECT i FROM {line} USING SAMPLE 10%", "random()"),
        ("SELECT COLUMNS('int.*') FROM {line}", "EXCLUDE"),
        ("SELECT * RENAME (int8 AS b) FROM {line}", "EXCLUDE"),
        ("SELECT * FROM (SUMMARIZE {line})", "run it alone"),
        ("SELECT text GLOB 'a*' FROM {line}", "LIKE"),
        ("SELECT i FROM {line} a ASOF JOIN {line} b USING (i)", "LATERAL"),
        ("SELECT first_value() OVER (ORDER BY i) FROM {line}", "lacks its argument"),
        ("COPY {line} TO 'x.csv' (FORMAT csv)", "STORED AS CSV"),
        ("SELECT lpad(text, 3, 'a', 'b') FROM {line}", "No function matches"),
    ] {
        let said = match sql.contains("first_value") {
            true => {
                let sql = sql.replace("{line}", &store("line"));
                rows(&ctx, &sql).await.unwrap_err().to_string()
            }
            false => refusal(&ctx, sql).await,
        };
        assert!(said.contains(words), "{sql}: {said}");
        assert!(!said.contains("Internal error") && !said.contains("Ident {"), "{said}");
    }
}

#[tokio::test]
async fn summaries_are_explained() {
    let plan = ask("EXPLAIN SUMMARIZE {line}").await;
    assert!(plan[0][1].as_str().unwrap().contains("null_percentage"));
}

/// Runs COPY and gives the file.
async fn copied(sql: &str, name: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(name);
    ask(&sql.replace("{file}", &format!("'{}'", file.display()))).await;
    fs::read(file).unwrap()
}

#[tokio::test]
async fn csv_tells_null_from_the_empty_text() {
    let rows = "(SELECT column1 AS a, column2 AS \"b, c\" FROM (VALUES ('', 1), (NULL, NULL), ('x \"y\"', 2)) \
                WHERE EXISTS (SELECT i FROM {line}))";
    let file = copied(&format!("COPY {rows} TO {{file}} STORED AS CSV"), "a.csv").await;
    assert_eq!(String::from_utf8(file).unwrap(), "a,\"b, c\"\n\"\",1\n,\n\"x \"\"y\"\"\",2\n");
    let options = "STORED AS CSV OPTIONS ('format.has_header' 'false', 'format.delimiter' ';')";
    let file = copied(&format!("COPY {rows} TO {{file}} {options}"), "a.csv").await;
    assert_eq!(String::from_utf8(file).unwrap(), "\"\";1\n;\n\"x \"\"y\"\"\";2\n");
    // What a statement sets is followed.
    let options = "STORED AS CSV OPTIONS ('format.null_value' 'NA')";
    let file = copied(&format!("COPY {rows} TO {{file}} {options}"), "a.csv").await;
    assert!(String::from_utf8(file).unwrap().contains("NA,NA\n"));
    let file = copied(
        "COPY (SELECT step_s, time_s FROM {times} WHERE i IN (3, 7) ORDER BY i) TO {file} STORED AS CSV",
        "a.csv",
    )
    .await;
    let text = String::from_utf8(file).unwrap();
    assert!(text.starts_with("step_s,time_s\n1 day 00:00:00,\n06:00:00,"), "{text}");
    let json = "COPY (SELECT step_s FROM {times} WHERE i = 3) TO {file} STORED AS JSON";
    let text = String::from_utf8(copied(json, "a.json").await).unwrap();
    assert_eq!(text.trim_end(), "{\"step_s\":\"1 day 00:00:00\"}");
}
