//! Values that meet values: both zeros, labels of float32, and the first rows of a lateral subquery.

use std::{collections::BTreeMap, path::Path};

use arrow::array::{Array as _, ArrayRef, AsArray as _, Float64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use datafusion::prelude::SessionContext;
use lsio_synthetic::write::{Compression, Element, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::harness::{config, query, rows, session};

fn array<T: Element>(group: &GroupWriter, name: &str, data_type: &str, dim: &str, values: &[T]) {
    let spec = SyntheticArray {
        name,
        data_type,
        dims: &[(dim, values.len() as u64)],
        chunks: &[],
        shards: None,
        compression: Compression::None,
        fill_value: json!(0),
        attributes: json!({}),
    };
    group.whole_array(&spec, values).unwrap();
}

/// Stores and files by the names that the queries below have for them: `a` and `b` have the equator as 0.0 and as
/// -0.0, `f` and `g` a latitude of 50.1 as float32 and as float64.
struct Data {
    _directory: tempfile::TempDir,
    ctx: SessionContext,
    root: String,
}

impl Data {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let store = |name: &str| GroupWriter::create(&root.join(name), json!({})).unwrap();
        let a = store("a.zarr");
        array(&a, "lat", "float64", "lat", &[-10.0, 0.0, 10.0, 20.0, 30.0]);
        array(&a, "v", "float64", "lat", &[1.0, 2.0, 3.0, 4.0, 5.0]);
        array(&a, "d", "float64", "lat", &[-0.0, 7.0, 8.0, 0.0, f64::NAN]);
        let b = store("b.zarr");
        array(&b, "lat", "float64", "lat", &[-10.0, -0.0, 10.0, 20.0, 30.0]);
        array(&b, "w", "float64", "lat", &[10.0, 20.0, 30.0, 40.0, 50.0]);
        let f = store("f.zarr");
        array(&f, "lat", "float32", "lat", &[50.1_f32, 50.2]);
        array(&f, "v", "float64", "lat", &[1.0, 2.0]);
        array(&f, "t", "float32", "lat", &[0.1_f32, 0.25]);
        let g = store("g.zarr");
        array(&g, "lat", "float64", "lat", &[50.1, 50.3]);
        array(&g, "w", "float64", "lat", &[10.0, 30.0]);
        array(&g, "u", "float64", "lat", &[0.1, 0.25]);
        let file = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        file("s.csv", "name,lat\nx,50.1\ny,50.2\nz,50.3\n");
        file("z.csv", "name,lat\nx,0.0\ny,-0.0\nz,10.0\n");
        let root = root.to_string_lossy().into_owned();
        Self { _directory: directory, ctx: session(config()), root }
    }

    /// `{a}` stands for the path of the store `a`.
    fn sql(&self, sql: &str) -> String {
        let mut sql = sql.to_owned();
        for name in ["a.zarr", "b.zarr", "f.zarr", "g.zarr", "s.csv", "z.csv"] {
            let path = Path::new(&self.root).join(name).to_string_lossy().into_owned();
            sql = sql.replace(&format!("{{{}}}", &name[..1]), &format!("'{path}'"));
        }
        sql
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        rows(&self.ctx, &self.sql(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn check(&self, cases: &[(&str, Value)]) {
        for (sql, expected) in cases {
            assert_eq!(json!(self.rows(sql).await), *expected, "{sql}");
        }
    }
}

#[tokio::test]
async fn both_zeros_are_one_in_expressions() {
    let data = Data::new();
    data.check(&[
        ("SELECT count(*) FILTER (WHERE d IN (0.0, 7.0, 8.0, 9.0)) FROM {a}", json!([[4]])),
        ("SELECT count(*) FILTER (WHERE d IN (0, 7, 8, 9)) FROM {a}", json!([[4]])),
        ("SELECT count(*) FROM {a} WHERE d IN (-0.0, 7, 8, NULL, 9)", json!([[4]])),
        ("SELECT count(*) FROM {a} WHERE d NOT IN (-0.0, 7, 9, 10)", json!([[1]])),
        ("SELECT count(*) FROM {a} WHERE d = 0.0 OR d = 7 OR d = 8 OR d = 9", json!([[4]])),
        ("SELECT count(*) FROM {a} WHERE d IN (v - 4, 7.0)", json!([[2]])),
        ("SELECT count(*) FROM {a} WHERE -d IN (0.0, 1.0, 2.0, 3.0)", json!([[2]])),
        ("SELECT count(*) FROM {a} WHERE d = ANY (ARRAY[0.0, 7.0])", json!([[3]])),
        ("SELECT count(*) FROM {a} WHERE (d, v) IN ((0.0, 1.0), (0.0, 4.0))", json!([[2]])),
        ("SELECT count(*) FROM {a} WHERE (d, v) = (0.0, 1.0)", json!([[1]])),
        ("SELECT CASE d WHEN 0.0 THEN 'z' ELSE 'n' END FROM {a} ORDER BY v LIMIT 1", json!([["z"]])),
        ("SELECT count(nullif(d, 0.0)), count(nullif(v, d)) FROM {a}", json!([[2, 5]])),
        ("SELECT count(DISTINCT d), count(DISTINCT d + 0) FROM {a}", json!([[3, 3]])),
        ("SELECT count(*) FROM (SELECT d FROM {a} GROUP BY d)", json!([[4]])),
        ("SELECT count(*) FROM (SELECT DISTINCT d, lat > 100 FROM {a})", json!([[4]])),
        (
            "SELECT count(*) OVER (PARTITION BY d), rank() OVER (ORDER BY d), sum(v) OVER (ORDER BY d) \
             FROM {a} WHERE d < 8 ORDER BY v",
            json!([[2, 1, 5.0], [1, 3, 7.0], [2, 1, 5.0]]),
        ),
        (
            "SELECT n FROM (SELECT lat, count(*) OVER (PARTITION BY lat) AS n FROM \
             (SELECT lat FROM {a} UNION ALL SELECT lat FROM {b})) WHERE lat = 0 ORDER BY n",
            json!([[2], [2]]),
        ),
    ])
    .await;
    // What is printed is what is stored.
    let batches = query(&data.ctx, &data.sql("SELECT nullif(d, 1.0) FROM {a}")).await.unwrap();
    let values = batches[0].column(0).as_primitive::<Float64Type>();
    assert!(values.value(0).is_sign_negative() && values.value(3).is_sign_positive());
}

#[tokio::test]
async fn both_zeros_are_one_in_joins() {
    let data = Data::new();
    let cases = [
        (
            "SELECT lat, v, w FROM {a} a JOIN {b} b USING (lat) WHERE v < 4 ORDER BY v",
            json!([[-10.0, 1.0, 10.0], [0.0, 2.0, 20.0], [10.0, 3.0, 30.0]]),
        ),
        ("SELECT count(*) FROM {a} a JOIN {b} b ON a.lat = b.lat", json!([[5]])),
        ("SELECT count(*) FROM {a} a NATURAL JOIN {b} b", json!([[5]])),
        ("SELECT count(*) FROM {a} a, {b} b WHERE a.lat + 1 = b.lat + 1", json!([[5]])),
        ("SELECT count(*) FROM {a} a JOIN {b} b ON a.lat = b.lat AND a.v = b.w / 10", json!([[5]])),
        ("SELECT count(b.w) FROM {a} a LEFT JOIN {b} b USING (lat)", json!([[5]])),
        ("SELECT count(*) FROM {a} a FULL JOIN {b} b ON a.lat = b.lat", json!([[5]])),
        ("SELECT count(*) FROM {a} WHERE lat IN (SELECT lat FROM {b})", json!([[5]])),
        ("SELECT count(*) FROM {a} WHERE lat NOT IN (SELECT lat FROM {b})", json!([[0]])),
        (
            "SELECT count(*) FROM {a} a WHERE EXISTS (SELECT 1 FROM {b} b WHERE b.lat = a.lat)",
            json!([[5]]),
        ),
        ("SELECT count(*) FROM {a} WHERE lat = ANY (SELECT lat FROM {b})", json!([[5]])),
        ("SELECT count(*) FROM (SELECT lat FROM {a} UNION SELECT lat FROM {b})", json!([[5]])),
        ("SELECT count(*) FROM (SELECT lat FROM {a} INTERSECT SELECT lat FROM {b})", json!([[5]])),
        ("SELECT count(*) FROM (SELECT lat FROM {a} EXCEPT SELECT lat FROM {b})", json!([[0]])),
        (
            "SELECT name, v FROM {a} JOIN {z} USING (lat) ORDER BY name",
            json!([["x", 2.0], ["y", 2.0], ["z", 3.0]]),
        ),
        (
            "SELECT count(*) FROM {a} a JOIN (VALUES (0.0), (-0.0)) p(lat) ON a.d = p.lat",
            json!([[4]]),
        ),
        // NaN is a missing value, and meets nothing.
        ("SELECT count(*) FROM {a} a JOIN {a} b ON a.d = b.d", json!([[6]])),
    ];
    data.check(&cases).await;
    // By sorting in place of hashing, and with sets too large to be handed down.
    for setting in [
        "SET datafusion.optimizer.prefer_hash_join = false",
        "SET datafusion.optimizer.prefer_hash_join = true",
        "SET datafusion.optimizer.hash_join_inlist_pushdown_max_distinct_values = 0",
    ] {
        query(&data.ctx, setting).await.unwrap();
        data.check(&cases).await;
    }
}

#[tokio::test]
async fn narrow_labels_meet_doubles() {
    let data = Data::new();
    data.check(&[
        ("SELECT name, v FROM {f} f JOIN {s} s ON f.lat = s.lat ORDER BY v", json!([["x", 1.0], ["y", 2.0]])),
        ("SELECT name, v FROM {f} JOIN {s} USING (lat) ORDER BY v", json!([["x", 1.0], ["y", 2.0]])),
        ("SELECT name, v FROM {s} NATURAL JOIN {f} ORDER BY v", json!([["x", 1.0], ["y", 2.0]])),
        (
            "SELECT name, v, lat FROM {s} LEFT JOIN {f} USING (lat) ORDER BY name",
            json!([["x", 1.0, 50.1], ["y", 2.0, 50.2], ["z", null, 50.3]]),
        ),
        ("SELECT count(*), count(v), count(name) FROM {f} f FULL JOIN {s} s ON f.lat = s.lat", json!([[3, 2, 3]])),
        ("SELECT count(*) FROM {f} f, {s} s WHERE f.lat = s.lat", json!([[2]])),
        ("SELECT count(*) FROM {f} f JOIN {s} s ON f.lat >= s.lat", json!([[3]])),
        ("SELECT count(*) FROM {f} WHERE lat IN (SELECT 50.1)", json!([[1]])),
        ("SELECT count(*) FROM {f} WHERE lat NOT IN (SELECT lat FROM {s} WHERE name = 'x')", json!([[1]])),
        ("SELECT count(*) FROM {s} WHERE lat IN (SELECT lat FROM {f})", json!([[2]])),
        ("SELECT count(*) FROM {f} WHERE lat = ANY (SELECT lat FROM {s})", json!([[2]])),
        ("SELECT count(*) FROM {s} WHERE lat = ANY (SELECT lat FROM {f})", json!([[2]])),
        ("SELECT count(*) FROM {f} WHERE lat = ANY (ARRAY[50.1])", json!([[1]])),
        ("SELECT count(*) FROM {f} WHERE lat = (SELECT min(lat) FROM {s})", json!([[1]])),
        ("SELECT count(*) FROM {f} f WHERE EXISTS (SELECT 1 FROM {s} s WHERE s.lat = f.lat)", json!([[2]])),
        ("SELECT count(*) FROM {s} s WHERE NOT EXISTS (SELECT 1 FROM {f} f WHERE s.lat = f.lat)", json!([[1]])),
        ("SELECT count(*) FROM {f} f, (VALUES (50.1), (50.3)) p(lat) WHERE p.lat = f.lat", json!([[1]])),
        ("SELECT count(*) FROM {f} WHERE lat = '50.1'::decimal(5, 1)", json!([[1]])),
        ("SELECT count(*) FROM {f} f JOIN {s} s ON f.lat BETWEEN s.lat AND s.lat", json!([[2]])),
        ("SELECT count(*) FROM {f} f JOIN {s} s ON CASE f.lat WHEN s.lat THEN true ELSE false END", json!([[2]])),
        ("SELECT count(*) FROM {f} f JOIN {s} s ON f.lat IN (s.lat, 50.2)", json!([[4]])),
        ("SELECT count(*) FROM (SELECT lat FROM {f} INTERSECT SELECT lat FROM {s})", json!([[2]])),
        // Labels of two stores; the data of two stores are numbers.
        ("SELECT count(*) FROM {f} f JOIN {g} g ON f.lat = g.lat", json!([[1]])),
        ("SELECT count(*) FROM {f} f JOIN {g} g ON f.t = g.u", json!([[1]])),
        ("SELECT count(*) FROM {f} f JOIN {g} g ON f.t = g.u WHERE g.u < 0.2", json!([[0]])),
    ])
    .await;
}

/// What DuckDB gives.
#[tokio::test]
async fn laterals_with_a_limit() {
    let data = Data::new();
    let before = "LATERAL (SELECT b.w, 'p' AS p FROM {b} b WHERE b.lat < a.lat ORDER BY b.lat DESC";
    data.check(&[
        (
            &format!("SELECT v, w FROM {{a}} a, {before} LIMIT 1) n ORDER BY v"),
            json!([[2.0, 10.0], [3.0, 20.0], [4.0, 30.0], [5.0, 40.0]]),
        ),
        (
            &format!("SELECT v, n.* FROM {{a}} a LEFT JOIN {before} LIMIT 2) n ON true WHERE v < 4 ORDER BY v, w"),
            json!([[1.0, null, null], [2.0, 10.0, "p"], [3.0, 10.0, "p"], [3.0, 20.0, "p"]]),
        ),
        (
            &format!("SELECT v, w FROM {{a}} a CROSS JOIN {before} LIMIT 1 OFFSET 1) n ORDER BY v"),
            json!([[3.0, 10.0], [4.0, 20.0], [5.0, 30.0]]),
        ),
        (
            &format!("SELECT v, w FROM {{a}} a JOIN {before} LIMIT 1) n ON n.w > 20 ORDER BY v"),
            json!([[4.0, 30.0], [5.0, 40.0]]),
        ),
        // Both zeros are neighbours of nothing: the equator is on the equator.
        (
            "SELECT v, (SELECT w FROM {b} b WHERE b.lat <= a.lat ORDER BY b.lat DESC LIMIT 1) FROM {a} a ORDER BY v",
            json!([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0], [5.0, 50.0]]),
        ),
        (
            "SELECT name, (SELECT v FROM {f} f ORDER BY abs(f.lat - s.lat) LIMIT 1) AS near FROM {s} s ORDER BY name",
            json!([["x", 1.0], ["y", 2.0], ["z", 2.0]]),
        ),
        (
            "SELECT name FROM {s} s WHERE (SELECT v FROM {f} f ORDER BY abs(f.lat - s.lat) LIMIT 1) = 2 ORDER BY 1",
            json!([["y"], ["z"]]),
        ),
        // A table joined with itself.
        (
            "SELECT a.v, n.v FROM {a} a, LATERAL (SELECT v FROM {a} c WHERE c.v > a.v ORDER BY c.v LIMIT 1) n \
             ORDER BY 1",
            json!([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0]]),
        ),
    ])
    .await;
}

/// Comparisons of integers and floats at their extremes are DuckDB's.
#[tokio::test]
async fn integers_at_their_extremes() {
    let directory = tempfile::tempdir().unwrap();
    let store = GroupWriter::create(&directory.path().join("i.zarr"), json!({})).unwrap();
    array(&store, "u", "uint64", "x", &[1_u64, 1 << 63, u64::MAX]);
    array(&store, "i", "int64", "x", &[-1_i64, i64::MAX, i64::MIN]);
    array(&store, "b", "uint8", "x", &[200_u8, 255, 1]);
    array(&store, "c", "int8", "x", &[-56_i8, -1, 1]);
    let path = directory.path().join("i.zarr").to_string_lossy().into_owned();
    let sql = format!(
        "SELECT bool_and(u > i), bool_or(u = i), count(*) FILTER (WHERE b = c), \
         count(*) FILTER (WHERE b > c) FROM '{path}'"
    );
    let expected = [[json!(true), json!(false), json!(1), json!(2)]];
    assert_eq!(rows(&session(config()), &sql).await.unwrap(), expected);
    let sql = format!("SELECT count(*) FROM '{path}' a JOIN '{path}' b ON a.u = b.i");
    assert_eq!(rows(&session(config()), &sql).await.unwrap(), [[json!(0)]]);
}

/// A small generator, so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Few values, so that they meet: both zeros, NaN and small numbers.
    fn value(&mut self) -> f64 {
        match self.below(8) {
            0 => 0.0,
            1 => -0.0,
            2 => f64::NAN,
            other => other as f64 - 5.0,
        }
    }
}

/// Joins, lists and groups over random keys are those of loops over the values, where NaN is missing and where
/// it is a value like others.
#[tokio::test]
async fn random_keys() {
    let mut numbers = Numbers(7);
    for round in 0..12 {
        let nan_is_null = round % 2 == 0;
        let directory = tempfile::tempdir().unwrap();
        let mut sides: Vec<Vec<f64>> = Vec::new();
        for name in ["l", "r"] {
            let store = GroupWriter::create(&directory.path().join(name), json!({})).unwrap();
            let len = 1 + numbers.below(20);
            let values: Vec<f64> = (0..len).map(|_| numbers.value()).collect();
            array(&store, "k", "float64", "x", &values);
            sides.push(values);
        }
        let path = |name: &str| {
            let path = directory.path().join(name).to_string_lossy().into_owned();
            let options = if nan_is_null { "" } else { "?nan_as_null=false" };
            format!("'{path}{options}'")
        };
        let (l, r) = (path("l"), path("r"));
        let ctx = session(config());
        if round % 3 == 2 {
            query(&ctx, "SET datafusion.optimizer.prefer_hash_join = false").await.unwrap();
        }
        let equal =
            |one: f64, other: f64| one == other || (!nan_is_null && one.is_nan() && other.is_nan());
        let known = |value: f64| !(nan_is_null && value.is_nan());
        let (left, right) = (&sides[0], &sides[1]);
        let pairs =
            left.iter().map(|l| right.iter().filter(|r| equal(*l, **r)).count()).sum::<usize>();
        // What is computed of NaN is NULL.
        let numbers_met =
            left.iter().map(|l| right.iter().filter(|r| l == *r).count()).sum::<usize>();
        let met = left.iter().filter(|l| right.iter().any(|r| equal(**l, *r))).count();
        let not_in = if right.iter().all(|r| known(*r)) {
            left.iter().filter(|l| known(**l) && !right.iter().any(|r| equal(**l, *r))).count()
        } else {
            0
        };
        let listed = left.iter().filter(|l| [0.0, 1.0, 2.0, 9.0].contains(*l)).count();
        let single = left.iter().filter(|l| known(**l) && **l != 0.0).count();
        let mut groups: BTreeMap<String, i64> = BTreeMap::new();
        for value in left {
            *groups.entry(group_name(known(*value).then_some(*value))).or_default() += 1;
        }
        for (sql, expected) in [
            (format!("SELECT count(*) FROM {l} a JOIN {r} b ON a.k = b.k"), pairs),
            (
                format!("SELECT count(*) FROM {l} a JOIN {r} b ON a.k = b.k AND a.k + 1 = b.k + 1"),
                numbers_met,
            ),
            (
                format!("SELECT count(*) FROM {l} a LEFT JOIN {r} b ON a.k = b.k"),
                pairs + left.len() - met,
            ),
            (format!("SELECT count(*) FROM {l} WHERE k IN (SELECT k FROM {r})"), met),
            (format!("SELECT count(*) FROM {l} WHERE k NOT IN (SELECT k FROM {r})"), not_in),
            (
                format!(
                    "SELECT count(*) FROM {l} a WHERE EXISTS (SELECT 1 FROM {r} b WHERE b.k = a.k)"
                ),
                met,
            ),
            (format!("SELECT count(*) FROM {l} WHERE k IN (0, 1, 2, 9)"), listed),
            (format!("SELECT count(*) FILTER (WHERE k IN (-0.0, 1, 2, 9)) FROM {l}"), listed),
            (format!("SELECT count(*) FROM {l} WHERE k NOT IN (0)"), single),
            (format!("SELECT count(*) FROM (SELECT DISTINCT k FROM {l})"), groups.len()),
        ] {
            let actual = rows(&ctx, &sql).await.unwrap();
            assert_eq!(actual, [[json!(expected)]], "{sql}: {left:?} {right:?}");
        }
        for counted in [
            "count(*) AS n FROM {l} GROUP BY k",
            "max(n) AS n FROM (SELECT k, count(*) OVER (PARTITION BY k) AS n FROM {l}) GROUP BY k",
        ] {
            let sql = format!("SELECT k, {}", counted.replace("{l}", &l));
            let batches = query(&ctx, &sql).await.unwrap();
            assert_eq!(counts(&batches), groups, "{sql}: {left:?}");
        }
    }
}

fn group_name(value: Option<f64>) -> String {
    // -0.0 + 0.0 is 0.0.
    value.map_or_else(|| "NULL".to_owned(), |value| format!("{}", value + 0.0))
}

fn counts(batches: &[RecordBatch]) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for batch in batches {
        let keys: &ArrayRef = batch.column(0);
        let keys: &Float64Array = keys.as_primitive::<Float64Type>();
        for (row, count) in batch.column(1).as_primitive::<Int64Type>().values().iter().enumerate()
        {
            let key = (!keys.is_null(row)).then(|| keys.value(row));
            assert!(counts.insert(group_name(key), *count).is_none(), "a group twice");
        }
    }
    counts
}
