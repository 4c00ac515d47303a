//! The binary, as a user runs it.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};

pub(crate) fn lsio(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lsio")).args(args).output().unwrap()
}

/// Runs a script on standard input.
pub(crate) fn piped(args: &[&str], script: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lsio"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

pub(crate) fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stdout(output));
    stderr(output)
}

pub(crate) fn store(directory: &Path) -> String {
    let store = directory.join("store.zarr");
    let spec = Specification {
        times: 30,
        latitudes: 5,
        longitudes: 8,
        chunks: [10, 5, 4],
        shards: None,
        compression: Compression::Zstd(3),
        packed: false,
        one_chunk: false,
    };
    reanalysis::write(&store, &spec).unwrap();
    store.to_string_lossy().into_owned()
}

#[test]
fn formats() {
    let sql = "SELECT 1 AS a, 'x,y' AS b, NULL AS c UNION ALL SELECT 2, 'z', 3 ORDER BY a";
    for (format, expected) in [
        ("csv", "a,b,c\n1,\"x,y\",\n2,z,3\n"),
        ("tsv", "a\tb\tc\n1\tx,y\t\n2\tz\t3\n"),
        ("json", "[{\"a\":1,\"b\":\"x,y\",\"c\":null},{\"a\":2,\"b\":\"z\",\"c\":3}]\n"),
        ("nd-json", "{\"a\":1,\"b\":\"x,y\",\"c\":null}\n{\"a\":2,\"b\":\"z\",\"c\":3}\n"),
        (
            "table",
            "+---+-----+---+\n| a | b   | c |\n+---+-----+---+\n| 1 | x,y |   |\n| 2 | z   | 3 |\n+---+-----+---+\n",
        ),
        (
            "automatic",
            "+---+-----+---+\n| a | b   | c |\n+---+-----+---+\n| 1 | x,y |   |\n| 2 | z   | 3 |\n+---+-----+---+\n",
        ),
    ] {
        let output = lsio(&["--format", format, "-c", sql]);
        assert_eq!(succeeded(&output), expected);
        assert_eq!(stderr(&output), "");
    }
    // Lists are texts where the format has none.
    let output = lsio(&["--format", "csv", "-c", "SELECT [1, 2] AS l"]);
    assert_eq!(succeeded(&output), "l\n\"[1, 2]\"\n");
    // Results without rows.
    let sql = "SELECT 1 AS a WHERE false";
    for (format, expected) in [
        ("csv", "a\n"),
        ("json", "[]\n"),
        ("nd-json", ""),
        ("table", "+---+\n| a |\n+---+\n+---+\n"),
    ] {
        assert_eq!(succeeded(&lsio(&["--format", format, "-c", sql])), expected);
    }
}

#[test]
fn only_tables_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let sql = format!("SELECT time, t2m FROM '{}'", store(directory.path()));
    let lines = |args: &[&str]| succeeded(&lsio(args)).lines().count();
    assert_eq!(lines(&["--format", "csv", "-c", &sql]), 1201);
    assert_eq!(lines(&["--format", "nd-json", "--maxrows", "3", "-c", &sql]), 1200);
    assert_eq!(lines(&["-c", &sql]), 44);
    assert_eq!(lines(&["--maxrows", "7", "-c", &sql]), 11);
    assert_eq!(lines(&["--maxrows", "unlimited", "-c", &sql]), 1204);
    assert!(stderr(&lsio(&["-c", &sql])).contains("--maxrows"));
    assert_eq!(
        lines(&["--maxrows", "3", "-c", "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3"]),
        7
    );
}

#[test]
fn scripts() {
    let directory = tempfile::tempdir().unwrap();
    let script = "-- a script\nCREATE TABLE t AS SELECT 1 AS one;\nSELECT one + 1 AS two\nFROM t;\nSELECT ';' AS semicolon";
    let expected = "two\n2\nsemicolon\n;\n";
    assert_eq!(succeeded(&piped(&["--format", "csv"], script)), expected);
    let file = directory.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    let file = file.to_string_lossy();
    assert_eq!(succeeded(&lsio(&["--format", "csv", "-f", &file])), expected);
    // Several commands share a session.
    let output = lsio(&[
        "--format",
        "csv",
        "-c",
        "CREATE TABLE t AS SELECT 3 AS x",
        "-c",
        "SELECT x FROM t",
    ]);
    assert_eq!(succeeded(&output), "x\n3\n");
    assert_eq!(succeeded(&piped(&["--format", "csv", "-f", "-"], "SELECT 5 AS y")), "y\n5\n");
    let output = piped(&[], &format!("\\pset format csv\n\\i {file}\n\\q\nSELECT nonsense"));
    assert_eq!(succeeded(&output), expected);
}

#[test]
fn failures() {
    // The first error ends a script; what came before is out.
    let output = piped(&["--format", "csv"], "SELECT 1 AS a; SELECT nonsense; SELECT 2");
    assert!(failed(&output).starts_with("Error: "));
    assert_eq!(stdout(&output), "a\n1\n");
    assert!(failed(&lsio(&["-c", "SELEC 1"])).contains("SELEC"));
    assert!(
        failed(&lsio(&["-c", "SELECT * FROM 'no/such.zarr'"]))
            .contains("'no/such.zarr' does not exist")
    );
    assert!(failed(&lsio(&["-f", "no-such-file.sql"])).contains("no-such-file.sql"));
    assert!(
        failed(&lsio(&["-p", "no-such-directory", "-c", "SELECT 1"])).contains("no-such-directory")
    );
    assert!(failed(&lsio(&["info", "no-such.zarr"])).contains("no-such.zarr"));
    assert!(failed(&piped(&[], "\\nonsense")).contains("\\nonsense"));
    // An error in the middle of a result.
    let output = lsio(&["--format", "csv", "-c", "SELECT 1 / (2 - x) FROM (VALUES (1), (2)) t(x)"]);
    assert!(failed(&output).contains("ivide by zero"));
    // Bad arguments are the parser's business, with its own status.
    assert_eq!(lsio(&["--maxrows", "many"]).status.code(), Some(2));
    assert_eq!(lsio(&["--memory-limit", "much", "-c", "SELECT 1"]).status.code(), Some(2));
}

#[test]
fn options() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path());
    let base = directory.path().to_string_lossy();
    let output =
        lsio(&["-p", &base, "--format", "csv", "-c", "SELECT count(*) AS n FROM 'store.zarr'"]);
    assert_eq!(succeeded(&output), "n\n1200\n");
    let sql = "SELECT count(*) AS n FROM (SELECT DISTINCT time, latitude, longitude, t2m FROM 'store.zarr')";
    let output = lsio(&["-p", &base, "-m", "20k", "-c", sql]);
    assert!(failed(&output).contains("Resources exhausted"), "{}", stderr(&output));
    assert!(
        succeeded(&lsio(&["-p", &base, "-m", "1g", "--format", "csv", "-c", sql])).contains("1200")
    );
}

#[test]
fn readers_that_have_had_enough() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for args in [
        vec!["--format", "csv", "-c", "SELECT a.t2m FROM 's' a, 's' b"],
        vec!["--format", "nd-json", "-c", "SELECT a.t2m FROM 's' a, 's' b"],
        vec!["info", "s"],
    ] {
        let args: Vec<String> =
            args.iter().map(|a| a.replace("'s'", &format!("'{store}'"))).collect();
        let args = args.iter().map(|a| if a == "s" { store.clone() } else { a.clone() });
        let mut child = Command::new(env!("CARGO_BIN_EXE_lsio"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn notes_go_to_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("low.zarr");
    let group = lsio_synthetic::write::GroupWriter::create(&path, serde_json::json!({})).unwrap();
    let spec = lsio_synthetic::write::SyntheticArray {
        name: "full",
        data_type: "float64",
        dims: &[("y", 2), ("x", 3)],
        chunks: &[],
        shards: None,
        compression: Compression::None,
        fill_value: 0.into(),
        attributes: serde_json::json!({}),
    };
    group.whole_array(&spec, &[0.0; 6]).unwrap();
    let spec = lsio_synthetic::write::SyntheticArray { name: "low", dims: &[("x", 3)], ..spec };
    group.whole_array(&spec, &[1.0, 2.0, 3.0]).unwrap();
    let path = path.to_string_lossy();
    let output = lsio(&["--format", "csv", "-c", &format!("SELECT sum(low) AS s FROM '{path}'")]);
    assert_eq!(succeeded(&output), "s\n12.0\n");
    assert_eq!(
        stderr(&output),
        format!("Note: low doesn't vary along y: each value counts 2 times; use '{path}/low'\n")
    );
}

#[test]
fn levels_of_an_image_are_tables() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../lsio_core/tests/fixtures");
    let store = format!("{fixtures}/matrix.zip/stores/ome2");
    let text = succeeded(&lsio(&["info", &store]));
    for expected in [format!("'{store}/0'  48 rows on (c, y, x)"), format!("'{store}/1'  12 rows")]
    {
        assert!(text.contains(&expected), "'{expected}' is not in:\n{text}");
    }
    assert!(!text.contains("can't be read"), "{text}");
    let output = lsio(&["-c", &format!("SELECT * FROM '{store}'")]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&format!("'{store}/1'")), "{error}");
}

#[test]
fn info() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let text = succeeded(&lsio(&["info", &store]));
    for expected in [
        "Dimensions:  (time: 30, latitude: 5, longitude: 8)",
        "* latitude   (latitude)   float64  90.0 … -90.0  [degrees_north]",
        "2019-01-01T00:00:00 … 2019-01-02T05:00:00",
        "[30, 5, 8], chunks [10, 5, 4], bytes+zstd, 4.8 kB, stored",
        "in 6 objects  [K]",
        "1200 rows on (time, latitude, longitude)",
    ] {
        assert!(text.contains(expected), "'{expected}' is not in:\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&succeeded(&lsio(&["info", "--json", &store]))).unwrap();
    assert_eq!(json["dimensions"]["time"], 30);
    assert_eq!(json["data_variables"][0]["name"], "t2m");
    assert_eq!(json["data_variables"][0]["logical_bytes"], 4800);
    assert_eq!(json["coordinates"][0]["first"], "2019-01-01T00:00:00");
    assert_eq!(json["coordinates"][1]["last"], "-90.0");
    assert_eq!(json["tables"][0]["rows"], 1200);
}

#[test]
fn demo() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("demo.zarr");
    let store = store.to_string_lossy();
    let first = succeeded(&lsio(&["demo", &store]));
    assert!(first.contains("Wrote"));
    assert_eq!(first.matches(" seconds\n").count(), 4);
    // The second time the store is there.
    let second = succeeded(&lsio(&["demo", &format!("{store}/")]));
    assert!(!second.contains("Wrote"));
    // An empty directory will do, also with a slash behind its name.
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(
        succeeded(&lsio(&["demo", &format!("{}/", empty.to_string_lossy())])).contains("Wrote")
    );
    assert!(empty.join("zarr.json").is_file());
    // A directory with something else in it stays as it is.
    let base = directory.path().to_string_lossy();
    assert!(failed(&lsio(&["demo", &base])).contains("not empty"));
}

#[test]
fn the_environment_names_the_engine_for_local_files() {
    let directory = tempfile::tempdir().unwrap();
    let csv = directory.path().join("numbers.csv");
    std::fs::write(&csv, "n\n1\n2\n").unwrap();
    let sql = format!("SELECT sum(n) AS total FROM '{}'", csv.display());
    let run = |engine: &str| {
        let mut lsio = Command::new(env!("CARGO_BIN_EXE_lsio"));
        lsio.env("LSIO_IO_ENGINE", engine).args(["-q", "--format", "csv", "-c", &sql]);
        lsio.output().unwrap()
    };
    for engine in ["", "auto", "pread", "object_store"] {
        assert_eq!(succeeded(&run(engine)), "total\n3\n");
    }
    let error = failed(&run("fast"));
    assert!(error.contains("LSIO_IO_ENGINE") && error.contains("'fast'"), "{error}");
}

#[test]
fn the_cache_is_shown_and_cleared() {
    let directory = tempfile::tempdir().unwrap();
    let run = |bytes: &str, arguments: &[&str]| {
        let mut lsio = Command::new(env!("CARGO_BIN_EXE_lsio"));
        lsio.env("LSIO_CACHE_BYTES", bytes).env("LSIO_CACHE_DIR", directory.path().join("cache"));
        lsio.arg("cache").args(arguments).output().unwrap()
    };
    let off = succeeded(&run("", &[]));
    assert!(off.contains("set LSIO_CACHE_BYTES") && off.contains("entries    0"), "{off}");
    let on = succeeded(&run("1m", &[]));
    assert!(on.contains("limit      1.0 MB"), "{on}");
    assert!(succeeded(&run("1m", &["--clear"])).contains("Removed 0 entries"));
    let error = failed(&run("much", &[]));
    assert!(error.contains("LSIO_CACHE_BYTES") && error.contains("'much'"), "{error}");
    // What isn't a cache isn't cleared.
    std::fs::create_dir_all(directory.path().join("cache/content-v2")).unwrap();
    assert!(failed(&run("", &["--clear"])).contains("nothing was removed"));
    assert!(directory.path().join("cache/content-v2").exists());
}
