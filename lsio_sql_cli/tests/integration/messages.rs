//! What the binary says of typos, and where other programs behave differently.

use std::{fs, path::Path, process::Command};

use crate::cli::{failed, lsio, piped, stderr, store, succeeded};

/// The error of one statement, in a directory.
fn error(directory: &Path, sql: &str) -> String {
    let text = failed(&lsio(&["-p", &directory.to_string_lossy(), "-c", sql]));
    assert!(!text.contains("file a bug") && !text.contains("bug report"), "{sql}: {text}");
    assert!(!text.contains("Internal error"), "{sql}: {text}");
    text.strip_prefix("Error: ").unwrap_or_else(|| panic!("{sql}: {text}")).trim_end().to_owned()
}

/// The result of statements, as CSV.
fn csv(directory: &Path, statements: &[&str]) -> String {
    let directory = directory.to_string_lossy();
    let mut args = vec!["-p", &directory, "--format", "csv"];
    args.extend(statements.iter().flat_map(|sql| ["-c", sql]));
    succeeded(&lsio(&args))
}

#[test]
fn names_of_stores() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path());
    let error = |sql: &str| error(directory.path(), sql);
    for path in ["'store.zar'", "'sotre.zarr'", "'./stor.zarr'", "'store.zarr/'"] {
        let sql = format!("SELECT t2m FROM {path}");
        if path == "'store.zarr/'" {
            assert_eq!(csv(directory.path(), &[&format!("{sql} LIMIT 1")]).lines().count(), 2);
            continue;
        }
        let text = error(&sql);
        assert!(text.contains("store.zarr'?") && text.contains("did you mean"), "{sql}: {text}");
        assert!(!text.contains("datafusion."), "{sql}: {text}");
    }
    assert_eq!(
        error("SELECT t2m FROM store.zarr"),
        "there is no table store.zarr; a path goes in quotes: 'store.zarr'"
    );
    assert_eq!(
        error("SELECT t2m FROM ./store.zarr"),
        "a path goes in single quotes: './store.zarr'"
    );
    assert_eq!(
        error("SELECT * FROM nothing"),
        "there is no table 'nothing'; a store is a table by its path: FROM 'store.zarr'"
    );
    for pattern in ["*.zarr", "s*.zarr", "*"] {
        assert_eq!(
            error(&format!("SELECT * FROM '{pattern}'")),
            format!(
                "'{pattern}' is a pattern, which Zarr stores aren't found by: write SELECT * FROM 'store.zarr'"
            )
        );
    }
}

#[test]
fn the_home_directory() {
    let home = tempfile::tempdir().unwrap();
    store(home.path());
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_lsio"))
            .env("HOME", home.path())
            .args(args)
            .output()
            .unwrap()
    };
    let sql = "SELECT count(*) AS n FROM '~/store.zarr'";
    assert_eq!(succeeded(&run(&["--format", "csv", "-c", sql])), "n\n1200\n");
    assert!(succeeded(&run(&["info", "~/store.zarr"])).contains("1200 rows"));
    let text = failed(&run(&["-c", "SELECT * FROM '~/store.zar'"]));
    let expected = home.path().join("store.zarr");
    assert!(text.contains(&format!("did you mean '{}'?", expected.display())), "{text}");
    succeeded(&run(&["-c", "COPY (SELECT 1 AS x) TO '~/x.csv'"]));
    assert_eq!(fs::read_to_string(home.path().join("x.csv")).unwrap(), "x\n1\n");
}

#[test]
fn names_of_columns_and_functions() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path());
    let error = |sql: &str| error(directory.path(), sql);
    let columns = "(the columns are: time, latitude, longitude, t2m, u10, v10)";
    for (sql, expected) in [
        (
            "SELECT t2 FROM 'store.zarr'",
            format!("there is no column 't2' in 'store.zarr'; did you mean 't2m'? {columns}"),
        ),
        (
            "SELECT T2M FROM 'store.zarr'",
            format!("there is no column 'T2M' in 'store.zarr'; did you mean 't2m'? {columns}"),
        ),
        ("SELECT s.pressure FROM 'store.zarr' s", format!("there is no column 'pressure' in 's' {columns}")),
        (
            "SELECT time FROM 'store.zarr' WHERE latitude = \"north\"",
            format!("there is no column 'north' in 'store.zarr'; a text goes in single quotes: 'north' {columns}"),
        ),
        (
            "SELECT r.t2m FROM 'store.zarr' s",
            "there is no table 'r' in this query for the column 't2m'; there are: s".to_owned(),
        ),
        (
            "SELECT avgg(t2m) FROM 'store.zarr'",
            "there is no function 'avgg'; did you mean 'avg'? (SHOW FUNCTIONS lists those that there are)"
                .to_owned(),
        ),
        (
            "SELECT frobnicate(t2m) FROM 'store.zarr'",
            "there is no function 'frobnicate' (SHOW FUNCTIONS lists those that there are)".to_owned(),
        ),
        (
            "SELECT * FROM zarr_variable('store.zarr')",
            "there is no table function 'zarr_variable'; did you mean 'zarr_variables'? \
             (SHOW FUNCTIONS lists those that there are)"
                .to_owned(),
        ),
        ("SELEC 1", "'SELEC' begins no statement; did you mean SELECT?".to_owned()),
    ] {
        assert_eq!(error(sql), expected, "{sql}");
    }
}

#[test]
fn a_select_needs_a_list() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path());
    assert_eq!(
        error(directory.path(), "SELECT FROM 'store.zarr'"),
        "the SELECT has no list: name columns, or * for all of them"
    );
    // Without the SELECT it means all columns.
    let rows = csv(directory.path(), &["FROM 'store.zarr' LIMIT 2"]);
    assert!(rows.starts_with("time,latitude,longitude,t2m,u10,v10\n"), "{rows}");
    assert_eq!(rows.lines().count(), 3);
}

#[test]
fn settings() {
    let directory = tempfile::tempdir().unwrap();
    let rows = csv(directory.path(), &["SHOW lsio.tile_bytes"]);
    assert_eq!(rows, "name,value\nlsio.tile_bytes,2097152\n");
    let rows = csv(directory.path(), &["SET lsio.tile_bytes = 65536", "SHOW lsio.tile_bytes"]);
    assert_eq!(rows, "name,value\nlsio.tile_bytes,65536\n");
    let error = |sql: &str| error(directory.path(), sql);
    for (sql, expected) in [
        (
            "SET lsio.tile_byte = 1",
            "there is no setting lsio.tile_byte; did you mean lsio.tile_bytes?",
        ),
        (
            "SHOW lsio.tile_byte",
            "there is no setting 'lsio.tile_byte'; did you mean 'lsio.tile_bytes'?",
        ),
        (
            "SET lsi.tile_bytes = 1",
            "there is no setting 'lsi.tile_bytes'; did you mean 'lsio.tile_bytes'?",
        ),
        ("SET nonsense = 1", "there is no setting 'nonsense' (SHOW ALL"),
        ("SHOW tabels", "there is no setting 'tabels'; did you mean 'TABLES'? (SHOW ALL"),
        ("SHOW nonsense", "there is no setting 'nonsense' (SHOW ALL"),
        ("RESET nonsense", "there is no setting 'nonsense' (SHOW ALL"),
        (
            "SET datafusion.execution.batch_sizes = 1",
            "there is no setting 'datafusion.execution.batch_sizes'; did you mean 'datafusion.execution.batch_size'?",
        ),
        ("SET lsio.tile_bytes = 'many'", "lsio.tile_bytes can't be 'many': invalid digit"),
        (
            "SET datafusion.execution.batch_size = 'many'",
            "datafusion.execution.batch_size can't be 'many': invalid digit",
        ),
    ] {
        let text = error(sql);
        assert!(text.starts_with(expected), "{sql}: {text}");
    }
}

#[test]
fn copying_replaces_nothing_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let error = |sql: &str| error(directory.path(), sql);
    let csv = |sql: &[&str]| csv(directory.path(), sql);
    let content = || fs::read_to_string(directory.path().join("x.csv")).unwrap();
    csv(&["COPY (SELECT 1 AS x) TO 'x.csv'"]);
    for sql in [
        "COPY (SELECT 2 AS x) TO 'x.csv'",
        "COPY (SELECT 2 AS x) TO './x.csv'",
        "COPY (SELECT 2 AS x) TO 'x.csv' STORED AS PARQUET",
        "COPY (SELECT 2 AS x) TO 'x.csv' OPTIONS (overwrite false)",
        "EXPLAIN ANALYZE COPY (SELECT 2 AS x) TO 'x.csv'",
    ] {
        let text = error(sql);
        let expected =
            "x.csv' exists: COPY replaces it with OPTIONS (overwrite true), or choose another name";
        assert!(text.ends_with(expected), "{sql}: {text}");
        assert_eq!(content(), "x\n1\n", "{sql}");
    }
    csv(&["EXPLAIN COPY (SELECT 2 AS x) TO 'y.csv'"]);
    csv(&["COPY (SELECT 3 AS x) TO 'x.csv' OPTIONS (overwrite true)"]);
    assert_eq!(content(), "x\n3\n");
    csv(&["SET lsio.overwrite = true", "COPY (SELECT 4 AS x) TO 'x.csv'"]);
    assert_eq!(content(), "x\n4\n");
    assert_eq!(
        error("COPY (SELECT 1 AS x) TO 'x.csv' OPTIONS (overwrite maybe)"),
        "the option overwrite is true or false, not 'maybe'"
    );
    // Nor does it put its files among those of a store.
    let before = fs::read_dir(&store).unwrap().count();
    for option in ["", " OPTIONS (overwrite true)"] {
        let text = error(&format!("COPY (SELECT 1 AS x) TO 'store.zarr' STORED AS CSV{option}"));
        assert!(text.starts_with("the directory 'store.zarr' isn't empty"), "{text}");
        assert_eq!(fs::read_dir(&store).unwrap().count(), before);
    }
}

#[test]
fn a_store_alone_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    assert_eq!(succeeded(&lsio(&[&store])), succeeded(&lsio(&["info", &store])));
    assert_eq!(
        succeeded(&lsio(&[&store, "--json"])),
        succeeded(&lsio(&["info", "--json", &store]))
    );
    let text = failed(&lsio(&[&store.replace("store.zarr", "stroe.zarr")]));
    assert!(
        text.contains("does not exist; did you mean") && text.contains("store.zarr'?"),
        "{text}"
    );
    // A word that is neither a path nor a command stays an error of the command line.
    assert_eq!(lsio(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn info_counts_the_rows_that_a_query_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for (options, rows, dims) in [
        ("", 1200, "time, latitude, longitude"),
        ("?dims=time", 30, "time"),
        ("?dims=longitude,time", 240, "longitude, time"),
        ("?dims=latitude&decode_cf=false", 5, "latitude"),
    ] {
        let text = succeeded(&lsio(&["info", &format!("{store}{options}")]));
        let expected = format!("Tables:\n    '{store}{options}'  {rows} rows on ({dims})\n");
        assert!(text.ends_with(&expected), "{text}");
        let sql = format!("SELECT count(*) AS n FROM '{store}{options}'");
        assert_eq!(csv(directory.path(), &[&sql]), format!("n\n{rows}\n"));
    }
    let text = failed(&lsio(&["info", &format!("{store}?dims=level")]));
    let query = error(directory.path(), &format!("SELECT * FROM '{store}?dims=level'"));
    assert_eq!(text.trim_end(), format!("Error: {query}"));
}

#[test]
fn a_cut_table_tells_how_many_rows_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for sql in [
        format!("SELECT * FROM '{store}'"),
        format!("SELECT * FROM '{store}' WHERE t2m > 0"),
        format!("SELECT DISTINCT time, latitude, longitude FROM '{store}' ORDER BY time"),
    ] {
        let output = lsio(&["--maxrows", "3", "-c", &sql]);
        assert_eq!(
            stderr(&output),
            "3 of 1,200 rows are shown; --maxrows shows more, --format csv all.\n",
            "{sql}"
        );
        assert_eq!(succeeded(&output).lines().count(), 7, "{sql}");
    }
    // What would take long to count isn't counted.
    let sql = "SELECT a.x FROM generate_series(1, 100000) a(x), generate_series(1, 100000) b(y) WHERE a.x < b.y";
    let text = stderr(&lsio(&["--maxrows", "3", "-c", sql]));
    assert!(text.starts_with("Only the first 3 rows are shown; "), "{text}");
}

#[test]
fn commands_of_other_programs() {
    let tables = "table_catalog,table_schema,table_name,table_type";
    let script = "CREATE TABLE t AS SELECT 1 AS x;\n.tables\n\\dt\n.mode nd-json\nSELECT x\nFROM t;\n.quit\nSELEC";
    assert_eq!(
        succeeded(&piped(&["--format", "csv"], script)),
        format!(
            "{tables}\ndatafusion,public,t,BASE TABLE\n{tables}\ndatafusion,public,t,BASE TABLE\n{{\"x\":1}}\n"
        )
    );
    assert!(succeeded(&piped(&[], ".help")).contains("\\q                     quit"));
    let text = failed(&piped(&[], ".tabels"));
    assert_eq!(text, "Error: unknown command .tabels; did you mean .tables? \\? lists them\n");
    let text = failed(&piped(&[], ".open store.zarr"));
    assert!(text.contains("SELECT * FROM 'store.zarr'"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn at_the_prompt() {
    let home = tempfile::tempdir().unwrap();
    let mut prompt = crate::prompt::Prompt::start(home.path(), "auto");
    assert!(prompt.ask("CREATE TABLE t AS SELECT 1 AS x").error().is_none());
    let answer = prompt.ask(".tables");
    assert!(
        answer.rows.len() == 1 && answer.rows[0].contains("\"table_name\":\"t\""),
        "{answer:?}"
    );
    // A statement over several lines, with a command in between.
    prompt.send("SELECT x\n.maxrows\n");
    let answer = prompt.ask("FROM t");
    assert_eq!(answer.rows, ["{\"x\":1}"], "{answer:?}");
    assert!(answer.messages.iter().any(|line| line.ends_with("maxrows is 40")), "{answer:?}");
    // What looks like the end of a statement, and isn't.
    prompt.send("SELECT 'a;\n");
    let answer = prompt.ask("b' AS x");
    assert_eq!(answer.rows, ["{\"x\":\"a;\\nb\"}"], "{answer:?}");
    assert!(
        answer.messages.iter().any(|line| line.contains("(a ' is open: close it")),
        "{answer:?}"
    );
    let answer = prompt.ask(".tabels");
    assert_eq!(
        answer.error(),
        Some("unknown command .tabels; did you mean .tables? \\? lists them"),
        "{answer:?}"
    );
    assert!(prompt.quit().success());
}

#[test]
fn durations_and_empty_texts() {
    let sql = "SELECT arrow_cast(21600, 'Duration(Second)') AS d, '' AS e, NULL AS n \
               UNION ALL SELECT arrow_cast(-90001, 'Duration(Second)'), 'x', NULL ORDER BY e";
    for (format, expected) in [
        ("csv", "d,e,n\n06:00:00,\"\",\n-1 day 01:00:01,x,\n"),
        ("tsv", "d\te\tn\n06:00:00\t\"\"\t\n-1 day 01:00:01\tx\t\n"),
        (
            "nd-json",
            "{\"d\":\"06:00:00\",\"e\":\"\",\"n\":null}\n{\"d\":\"-1 day 01:00:01\",\"e\":\"x\",\"n\":null}\n",
        ),
        (
            "table",
            "+-----------------+---+---+\n| d               | e | n |\n+-----------------+---+---+\n\
             | 06:00:00        |   |   |\n| -1 day 01:00:01 | x |   |\n+-----------------+---+---+\n",
        ),
    ] {
        assert_eq!(succeeded(&lsio(&["--format", format, "-c", sql])), expected);
    }
}

/// The most memory of a process that writes a table of a million rows.
#[cfg(target_os = "linux")]
#[test]
fn a_long_table_takes_little_memory() {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };

    let sql = "SELECT value, 'row number ' || value AS text FROM generate_series(1, 1000000)";
    let mut child = Command::new(env!("CARGO_BIN_EXE_lsio"))
        .args(["--maxrows", "unlimited", "-c", sql])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = 0;
    let mut peak = 0_u64;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        line.unwrap();
        lines += 1;
        if lines % 50_000 == 0 {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let kib = status.lines().find_map(|line| {
                line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            });
            peak = peak.max(kib.unwrap_or_default() / 1024);
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(lines, 1_000_004);
    assert!((1..512).contains(&peak), "{peak} MiB");
}
