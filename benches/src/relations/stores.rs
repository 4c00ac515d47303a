//! The stores of `relations`: an analysis, a model on the same grid, and forecasts of every day.

use std::{
    f64::consts::TAU,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use lsio_core::grid::ChunkGrid;
use lsio_synthetic::write::{ArrayWriter, Compression, Element, GroupWriter, SyntheticArray};

use crate::Error;

const LATITUDES: u64 = 181;
const LONGITUDES: u64 = 360;

/// Number of leads: every 6 hours for 5 days.
const LEADS: u64 = 21;

/// A set of stores.
pub(super) struct Stores {
    directory: PathBuf,
}

/// Shape and encoding of the stores.
pub(super) struct Specification {
    /// Number of days of hourly fields.
    pub days: u64,
    /// Chunks of the analysis and of the model: times, latitudes, longitudes.
    pub chunks: [[u64; 3]; 2],
    pub compression: Compression,
}

impl Stores {
    /// Stores that are in a directory.
    pub(super) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Stores that are in a directory, or are written there if it doesn't exist.
    pub(super) fn in_directory(directory: &Path, spec: &Specification) -> Result<Self, Error> {
        if !directory.exists() {
            // Not under its name before it is complete.
            let partial = directory.with_extension("partial");
            Self::at(&partial).write(spec)?;
            std::fs::rename(partial, directory)?;
        }
        Ok(Self::at(directory))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Each store by the name of its table.
    pub(super) fn tables(&self) -> [(&'static str, String); 3] {
        ["analysis", "model", "forecast"]
            .map(|table| (table, self.path(table).to_string_lossy().into_owned()))
    }

    pub(super) fn path(&self, table: &str) -> PathBuf {
        self.directory.join(format!("{table}.zarr"))
    }

    fn write(&self, spec: &Specification) -> Result<(), Error> {
        let times = 24 * spec.days;
        for (number, table) in ["analysis", "model"].into_iter().enumerate() {
            let group = self.group(table)?;
            hours(&group, "time", (0..times.cast_signed()).collect(), Hours::Since)?;
            let variables: &[&str] = if number == 0 { &["t2m", "u10"] } else { &["t2m"] };
            for (seed, name) in variables.iter().enumerate() {
                let dims = [("time", times), ("latitude", LATITUDES), ("longitude", LONGITUDES)];
                let array =
                    Array { group: &group, name, dims: &dims, chunks: &spec.chunks[number] };
                let salt = (10 * number + seed) as u64;
                array.write(&spec.compression, &|at| (at[0], salt))?;
            }
            group.consolidate()?;
        }
        let group = self.group("forecast")?;
        let days = spec.days.cast_signed();
        hours(&group, "init", (0..days).map(|day| 24 * day).collect(), Hours::Since)?;
        hours(&group, "lead", (0..LEADS.cast_signed()).map(|n| 6 * n).collect(), Hours::Length)?;
        let dims = [
            ("init", spec.days),
            ("lead", LEADS),
            ("latitude", LATITUDES),
            ("longitude", LONGITUDES),
        ];
        let [_, latitudes, longitudes] = spec.chunks[0];
        let chunks = [1, LEADS, latitudes, longitudes];
        let array = Array { group: &group, name: "t2m", dims: &dims, chunks: &chunks };
        array.write(&spec.compression, &|at| (24 * at[0] + 6 * at[1], 100 + at[1]))?;
        Ok(group.consolidate()?)
    }

    fn group(&self, table: &str) -> Result<GroupWriter, Error> {
        let group = GroupWriter::create(&self.path(table), serde_json::json!({}))?;
        let latitudes: Vec<f32> = (0..LATITUDES).map(|i| 90.0 - i as f32).collect();
        let longitudes: Vec<f32> = (0..LONGITUDES).map(|i| i as f32).collect();
        coordinate(&group, "latitude", "float32", &latitudes, serde_json::json!({}))?;
        coordinate(&group, "longitude", "float32", &longitudes, serde_json::json!({}))?;
        Ok(group)
    }
}

/// What a number of hours means.
#[derive(Clone, Copy)]
enum Hours {
    Since,
    Length,
}

fn hours(group: &GroupWriter, name: &str, values: Vec<i64>, meaning: Hours) -> io::Result<()> {
    let attributes = match meaning {
        Hours::Since => serde_json::json!({"units": "hours since 2019-01-01"}),
        Hours::Length => serde_json::json!({"units": "hours", "dtype": "timedelta64[ns]"}),
    };
    coordinate(group, name, "int64", &values, attributes)
}

fn coordinate<T: Element>(
    group: &GroupWriter,
    name: &str,
    data_type: &str,
    values: &[T],
    attributes: serde_json::Value,
) -> io::Result<()> {
    let spec = SyntheticArray {
        name,
        data_type,
        dims: &[(name, values.len() as u64)],
        chunks: &[],
        shards: None,
        compression: Compression::Zstd(3),
        fill_value: serde_json::json!(0),
        attributes,
    };
    group.whole_array(&spec, values)
}

/// An array whose last two dimensions are latitude and longitude.
struct Array<'a> {
    group: &'a GroupWriter,
    name: &'a str,
    dims: &'a [(&'a str, u64)],
    chunks: &'a [u64],
}

impl Array<'_> {
    /// Writes all chunks, on all cores. `field` gives the hour of a field and the seed of its noise.
    fn write(
        &self,
        compression: &Compression,
        field: &(dyn Fn(&[u64]) -> (u64, u64) + Sync),
    ) -> Result<(), Error> {
        let array = self.group.array(&SyntheticArray {
            name: self.name,
            data_type: "float32",
            dims: self.dims,
            chunks: self.chunks,
            shards: None,
            compression: compression.clone(),
            fill_value: serde_json::json!("NaN"),
            attributes: serde_json::json!({}),
        })?;
        let sizes = self.dims.iter().map(|dim| dim.1).collect();
        let grid = ChunkGrid::new(sizes, self.chunks.to_vec()).ok_or("a chunk has no cells")?;
        let next = AtomicU64::new(0);
        let work = || loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= grid.len() {
                return Ok(());
            }
            self.write_chunk(&array, &grid, number, field)?;
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| -> io::Result<()> {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().map_err(|_| io::Error::other("a writer gave up"))?
            })
        })?;
        Ok(())
    }

    fn write_chunk(
        &self,
        array: &ArrayWriter,
        grid: &ChunkGrid,
        number: u64,
        field: &(dyn Fn(&[u64]) -> (u64, u64) + Sync),
    ) -> io::Result<()> {
        let outer = self.chunks.len() - 2;
        let start = grid.region(number).start;
        let fields: u64 = self.chunks[..outer].iter().product();
        let mut values = Vec::new();
        for mut position in 0..fields {
            let mut at = start[..outer].to_vec();
            for d in (0..outer).rev() {
                at[d] += position % self.chunks[d];
                position /= self.chunks[d];
            }
            let (hour, salt) = field(&at);
            for y in 0..self.chunks[outer] {
                let row = Row { hour, salt, latitude: start[outer] + y, first: start[outer + 1] };
                row.append(self.chunks[outer + 1], &mut values);
            }
        }
        array.write(&grid.indices(number), &values)
    }
}

/// Values of one latitude at one time.
struct Row {
    hour: u64,
    salt: u64,
    latitude: u64,
    /// Index of the first longitude.
    first: u64,
}

impl Row {
    /// A mean that depends on the latitude, a wave that travels around once a day, and noise: rounded, as real data are.
    #[expect(clippy::cast_possible_truncation, reason = "f32 is what is stored")]
    fn append(&self, count: u64, values: &mut Vec<f32>) {
        let phi = (90.0 - self.latitude as f64).to_radians();
        let day = self.hour as f64 / 24.0 * TAU;
        let mean = 300.0 - 45.0 * phi.sin().powi(2) + (day / 30.0).sin();
        let amplitude = 6.0 * phi.cos();
        let step = TAU / LONGITUDES as f64;
        let (mut sin, mut cos) = (day + step * self.first as f64).sin_cos();
        let (step_sin, step_cos) = step.sin_cos();
        let parts = [self.salt, self.hour, self.latitude, self.first];
        let mut random = parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, part| {
            (hash ^ part).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
        }) | 1;
        for _ in 0..count {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let noise = (random >> 40) as f64 / (1_u64 << 24) as f64 - 0.5;
            let value = mean + amplitude * sin + noise;
            values.push(((value * 128.0).round() / 128.0) as f32);
            (sin, cos) = (sin * step_cos + cos * step_sin, cos * step_cos - sin * step_sin);
        }
    }
}
