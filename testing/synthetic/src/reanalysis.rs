//! A synthetic dataset that looks like a weather reanalysis (ERA5): for the demo and for benchmarks.
//!
//! Three variables on time, latitude and longitude, with CF metadata. The values are made up, but have the properties
//! that matter to a reader: smooth fields with noise, rounded so that they compress like real ones (about 2.5:1 with
//! zstd). The same specification always gives the same bytes.

use std::{
    array,
    f64::consts::TAU,
    io,
    ops::Range,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::write::{ArrayWriter, Compression, Element, GroupWriter, SyntheticArray};

/// The variables: name, long name, units.
pub const VARIABLES: [(&str, &str, &str); 3] = [
    ("t2m", "2 metre temperature", "K"),
    ("u10", "10 metre U wind component", "m s**-1"),
    ("v10", "10 metre V wind component", "m s**-1"),
];

/// Scale factor of packed variables: steps of 0.01 around an offset.
const SCALE: f64 = 0.01;

/// Shape and encoding of a synthetic dataset.
#[derive(Clone, Debug)]
pub struct Specification {
    /// Number of hours from 2019-01-01 on.
    pub times: u64,
    /// Number of latitudes from 90° N to 90° S.
    pub latitudes: u64,
    /// Number of longitudes from 0° on.
    pub longitudes: u64,
    /// Shape of the chunks.
    pub chunks: [u64; 3],
    /// Shape of the shards; `None` for no shards.
    pub shards: Option<[u64; 3]>,
    /// Compression of the chunks.
    pub compression: Compression,
    /// Whether to store 16-bit integers with scale and offset, in place of 32-bit floats.
    pub packed: bool,
    /// Whether each variable has a single chunk, linked under the keys of all chunks: a large store that takes little
    /// space.
    pub one_chunk: bool,
}

impl Specification {
    /// Uncompressed bytes of the three variables, in their stored type.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let width = if self.packed { 2 } else { 4 };
        3 * width * self.times * self.latitudes * self.longitudes
    }
}

/// Writes the dataset to a new or empty directory.
///
/// # Errors
/// If the directory isn't empty or can't be written, or if a chunk has no cells.
pub fn write(directory: &Path, spec: &Specification) -> io::Result<()> {
    let group = GroupWriter::create(
        directory,
        json!({"Conventions": "CF-1.8", "title": "synthetic reanalysis of Light Speed IO"}),
    )?;
    let Specification { times, latitudes, longitudes, .. } = *spec;
    write_coordinate(
        &group,
        "time",
        "int64",
        json!({"standard_name": "time", "units": "hours since 2019-01-01 00:00:00", "calendar": "proleptic_gregorian"}),
        &(0..times.cast_signed()).collect::<Vec<i64>>(),
    )?;
    write_coordinate(
        &group,
        "latitude",
        "float64",
        json!({"standard_name": "latitude", "units": "degrees_north"}),
        &(0..latitudes).map(|i| latitude(spec, i)).collect::<Vec<f64>>(),
    )?;
    write_coordinate(
        &group,
        "longitude",
        "float64",
        json!({"standard_name": "longitude", "units": "degrees_east"}),
        &(0..longitudes).map(|i| 360.0 * i as f64 / longitudes as f64).collect::<Vec<f64>>(),
    )?;

    let dims = [("time", times), ("latitude", latitudes), ("longitude", longitudes)];
    let outer = spec.shards.unwrap_or(spec.chunks);
    let chunks = Chunks::new(dims.map(|(_, size)| size), outer).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "a chunk without cells, or too many chunks")
    })?;
    for (number, (name, long_name, units)) in VARIABLES.into_iter().enumerate() {
        let mut attributes = json!({"long_name": long_name, "units": units});
        if spec.packed {
            attributes["scale_factor"] = json!(SCALE);
            attributes["add_offset"] = json!(offset(number));
        }
        let array = group.array(&SyntheticArray {
            name,
            data_type: if spec.packed { "int16" } else { "float32" },
            dims: &dims,
            chunks: &spec.chunks,
            shards: spec.shards.as_ref().map(<[u64; 3]>::as_slice),
            compression: spec.compression.clone(),
            fill_value: if spec.packed { json!(-32768) } else { json!("NaN") },
            attributes,
        })?;
        write_chunks(spec, number, &chunks, &array)?;
    }
    group.consolidate()
}

fn write_coordinate<T: Element>(
    group: &GroupWriter,
    name: &str,
    data_type: &str,
    attributes: Value,
    values: &[T],
) -> io::Result<()> {
    let spec = SyntheticArray {
        name,
        data_type,
        dims: &[(name, values.len() as u64)],
        chunks: &[],
        shards: None,
        compression: Compression::Zstd(3),
        fill_value: json!(0),
        attributes,
    };
    group.whole_array(&spec, values)
}

/// Writes the chunks, on all cores.
fn write_chunks(
    spec: &Specification,
    variable: usize,
    chunks: &Chunks,
    array: &ArrayWriter,
) -> io::Result<()> {
    let next = AtomicU64::new(0);
    let end = if spec.one_chunk { chunks.len.min(1) } else { chunks.len };
    let work = || -> io::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return Ok(());
            }
            let indices = chunks.indices(number);
            let values = field(spec, variable, &chunks.cells(indices));
            if spec.packed {
                #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
                let packed: Vec<i16> = values
                    .iter()
                    .map(|v| ((f64::from(*v) - offset(variable)) / SCALE).round() as i16)
                    .collect();
                array.write(&indices, &packed)?;
            } else {
                array.write(&indices, &values)?;
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| io::Error::other("a writer gave up"))?
        })
    })?;
    (end..chunks.len).try_for_each(|number| array.link(&chunks.indices(0), &chunks.indices(number)))
}

/// Chunks of a variable.
struct Chunks {
    shape: [u64; 3],
    /// Number of chunks along each dimension, and in all.
    counts: [u64; 3],
    len: u64,
}

impl Chunks {
    /// `None` if a chunk has no cells, or if there are too many chunks.
    fn new(sizes: [u64; 3], shape: [u64; 3]) -> Option<Self> {
        let product = |factors: [u64; 3]| factors.iter().try_fold(1_u64, |n, &f| n.checked_mul(f));
        let whole = sizes.iter().zip(shape).all(|(size, chunk)| size.checked_add(chunk).is_some());
        if !whole || product(shape)? == 0 {
            return None;
        }
        let counts: [u64; 3] = array::from_fn(|d| sizes[d].div_ceil(shape[d]));
        let len = product(counts)?;
        Some(Self { shape, counts, len })
    }

    /// Indices of a chunk, from its number in C order.
    fn indices(&self, number: u64) -> [u64; 3] {
        let [_, y, x] = self.counts;
        [number / x / y, number / x % y, number % x]
    }

    /// Cells of a chunk, including those beyond the array's edges: chunks at the edges are stored whole.
    fn cells(&self, indices: [u64; 3]) -> [Range<u64>; 3] {
        array::from_fn(|d| {
            let start = indices[d] * self.shape[d];
            start..start + self.shape[d]
        })
    }
}

fn latitude(spec: &Specification, index: u64) -> f64 {
    90.0 - 180.0 * index as f64 / (spec.latitudes.max(2) - 1) as f64
}

fn offset(variable: usize) -> f64 {
    if variable == 0 { 273.15 } else { 0.0 }
}

/// Values of these cells: a mean that depends on the latitude, a wave that travels westwards once a day, and noise.
#[expect(clippy::cast_possible_truncation, reason = "f32 is what is stored")]
fn field(spec: &Specification, variable: usize, cells: &[Range<u64>; 3]) -> Vec<f32> {
    let count: u64 = cells.iter().map(|range| range.end - range.start).product();
    let mut values = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    let [times, latitudes, longitudes] = cells.clone();
    for t in times {
        for y in latitudes.clone() {
            let phi = latitude(spec, y).to_radians();
            let hour = t as f64 / 24.0 * TAU;
            let (mean, amplitude, noise) = match variable {
                0 => (300.0 - 45.0 * phi.sin().powi(2) + (hour / 30.0).sin(), 6.0 * phi.cos(), 1.0),
                1 => (8.0 * (2.0 * phi).sin().abs(), 5.0 * phi.cos(), 2.0),
                _ => (0.5 * (3.0 * phi).sin(), 4.0 * phi.cos(), 2.0),
            };
            // sin(a + x) by the angle sum along the row: a multiplication in place of a sine.
            let step = TAU / spec.longitudes as f64;
            let (mut sin, mut cos) = (hour + step * longitudes.start as f64).sin_cos();
            let (step_sin, step_cos) = step.sin_cos();
            let mut random = seed(variable as u64, t, y, longitudes.start);
            for _ in longitudes.clone() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let uniform = (random >> 40) as f64 / (1_u64 << 24) as f64 - 0.5;
                values.push(round((mean + amplitude * sin + noise * uniform) as f32));
                (sin, cos) = (sin * step_cos + cos * step_sin, cos * step_cos - sin * step_sin);
            }
        }
    }
    values
}

fn seed(variable: u64, t: u64, y: u64, x: u64) -> u64 {
    let mixed = [variable, t, y, x].into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, part| {
        (hash ^ part).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
    });
    mixed | 1
}

/// Rounds to steps of 2⁻⁷: real data are rounded to their precision before compression.
fn round(value: f32) -> f32 {
    const STEPS: f32 = 128.0;
    (value * STEPS).round() / STEPS
}
