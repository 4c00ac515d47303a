//! `lsio demo`: a small store and four queries on it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use lsio_core::Resources;
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};

use crate::{
    Error,
    execute::Shell,
    output::{MaxRows, Output, OutputFormat, say},
    session,
};

/// Ten days of hourly values on a grid of 2.5°.
const SPECIFICATION: Specification = Specification {
    times: 240,
    latitudes: 73,
    longitudes: 144,
    chunks: [24, 73, 144],
    shards: None,
    compression: Compression::Zstd(3),
    packed: false,
    one_chunk: false,
};

/// File that marks a finished demo store, so that the next demo reuses it and touches nothing else.
const MARK: &str = "lsio-demo.json";

const QUERIES: [(&str, &str); 4] = [
    (
        "The global mean temperature (each cell weighted by its area)",
        "SELECT weighted_avg(t2m, cos(radians(latitude))) AS t2m\nFROM '{store}'",
    ),
    (
        "The zonal mean: the mean along each circle of latitude, from north to south",
        "SELECT latitude, avg(t2m) AS t2m, avg(sqrt(u10 * u10 + v10 * v10)) AS wind_speed\nFROM '{store}'\nGROUP BY latitude ORDER BY latitude DESC LIMIT 5",
    ),
    (
        "The daily maximum at a place",
        "SELECT date_trunc('day', time) AS day, max(t2m) AS t2m\nFROM '{store}'\nWHERE latitude = 52.5 AND longitude = 0\nGROUP BY day ORDER BY day LIMIT 5",
    ),
    (
        "The hottest cells",
        "SELECT time, latitude, longitude, t2m\nFROM '{store}'\nORDER BY t2m DESC LIMIT 5",
    ),
];

/// Writes the store, if it isn't there from before, and runs the queries.
pub(crate) async fn run(directory: Option<&Path>, resources: &Resources) -> Result<(), Error> {
    let directory = match directory {
        // Removes a slash at the end, which would put the partial directory inside.
        Some(directory) => directory.components().collect(),
        None => env::temp_dir().join("lsio-demo.zarr"),
    };
    prepare(&directory)?;
    let store = directory.to_string_lossy().into_owned();
    say!("The store is {store}; 'lsio info {store}' shows what is in it.");

    let output = Output {
        format: OutputFormat::Table,
        maxrows: MaxRows::Unlimited,
        quiet: true,
        progress: false,
    };
    let runner = Shell::new(session(None, resources)?, output);
    for (title, sql) in QUERIES {
        let sql = sql.replace("{store}", &store.replace('\'', "''"));
        say!("\n{title}:\n\n{sql};\n");
        let start = Instant::now();
        runner.run_statement(&sql).await?;
        say!("{:.3} seconds", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn prepare(directory: &Path) -> Result<(), Error> {
    let mark = format!("{SPECIFICATION:?}");
    if fs::read_to_string(directory.join(MARK)).is_ok_and(|found| found == mark) {
        return Ok(());
    }
    let is_ours = directory.join(MARK).is_file();
    let is_empty = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => return Err(format!("'{}': {e}", directory.display()).into()),
    };
    if !is_empty && !is_ours {
        return Err(format!(
            "'{}' is not empty and no finished demo store: give another directory, or remove it",
            directory.display()
        )
        .into());
    }
    let start = Instant::now();
    // Writes to another directory and renames it, so that a half-written store is never used.
    let partial = partial_directory(directory);
    let written = (|| {
        reanalysis::write(&partial, &SPECIFICATION)?;
        fs::write(partial.join(MARK), mark)?;
        if is_ours {
            fs::remove_dir_all(directory)?;
        } else if directory.exists() {
            fs::remove_dir(directory)?;
        }
        fs::rename(&partial, directory)
    })();
    if let Err(error) = written {
        // The directory is this process's alone: its name has the process number.
        let _ = fs::remove_dir_all(&partial);
        return Err(format!("writing '{}' failed: {error}", directory.display()).into());
    }
    say!(
        "Wrote {} MB in {:.1} seconds.",
        SPECIFICATION.bytes() / 1_000_000,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn partial_directory(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    PathBuf::from(name)
}
