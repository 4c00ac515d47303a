//! Random stores that have dimensions in common: the same places of a few dimensions, in part, in another
//! order, of another type.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use lsio_synthetic::write::{Compression, Element, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::random_queries::{Kind, Random, text_coordinate, variable};

/// Names of the dimensions that stores may share.
const DIMS: [&str; 3] = ["t", "y", "x"];

/// A masked coordinate.
const MASKED: i64 = -99_999;

/// What a dimension is measured in. All stores of a world have the same.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// Numbers of any type: whole ones, or halves, which integers can't have.
    Number {
        whole: bool,
    },
    Time,
    Text,
}

/// What stores have in common.
#[derive(Debug)]
pub(super) struct World {
    measures: Vec<Measure>,
    /// Whether NaN is a value, and not NULL.
    pub nan: bool,
    /// Whether the second store has other names for its dimensions.
    renamed: bool,
    /// Whether the first store is of forecasts: start and lead in place of the time.
    forecasts: bool,
}

impl World {
    pub(super) fn new(random: &mut Random) -> Self {
        let rank = 1 + random.below(3).max(random.below(3)) as usize;
        let mut measures: Vec<Measure> = (0..rank)
            .map(|_| match random.below(8) {
                0 => Measure::Time,
                1 => Measure::Text,
                _ => Measure::Number { whole: random.one_in(2) },
            })
            .collect();
        let forecasts = random.one_in(6);
        if forecasts || !random.one_in(3) {
            measures[0] = Measure::Time;
        }
        Self { measures, nan: random.one_in(6), renamed: random.one_in(4), forecasts }
    }

    /// One whose windows have known answers: NaN stays in DataFusion's frames when it has left them, and a lead is no key
    /// of these queries.
    pub(super) fn of_windows(random: &mut Random) -> Self {
        Self { nan: false, forecasts: false, ..Self::new(random) }
    }
}

/// A column that queries may name.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Name, or an expression of names.
    pub sql: String,
    pub kind: Kind,
    /// The dimension that it is the coordinate of.
    pub dim: Option<usize>,
    /// Times in a calendar that timestamps can't hold.
    pub is_calendar: bool,
    /// Whether it is the coordinate of a dimension, and whether it tells all indices of it apart.
    pub is_axis: bool,
    pub is_unique: bool,
}

impl Column {
    pub(super) fn new(sql: &str, kind: Kind) -> Self {
        let (is_calendar, is_axis, is_unique) = (false, false, false);
        Self { sql: sql.to_owned(), kind, dim: None, is_calendar, is_axis, is_unique }
    }
}

/// A store, and what may be asked of it.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    options: &'static str,
    pub columns: Vec<Column>,
}

impl Store {
    /// As in a query.
    pub(super) fn table(&self) -> String {
        format!("'{}{}'", self.path.to_string_lossy(), self.options)
    }

    /// Writes the store with this number: the variables of the first are u0, u1, …, of the second w0, ….
    pub(super) fn write(random: &mut Random, world: &World, number: usize, path: &Path) -> Self {
        let group = GroupWriter::create(path, json!({})).unwrap();
        let suffix = if number == 1 && world.renamed { "2" } else { "" };
        let longest = [5, 4, 3][number];
        let mut writer = Writer { random, group: &group, path };
        let (mut names, mut sizes) = (Vec::new(), Vec::new());
        let mut columns = Vec::new();
        let rank = world.measures.len();
        let spared = writer.random.below(rank as u64) as usize;
        for (dim, measure) in world.measures.iter().enumerate() {
            if dim == 0 && number == 0 && world.forecasts {
                let counts = [1 + writer.random.below(4), 1 + writer.random.below(3)];
                writer.forecast(counts);
                names.extend(["start", "lead"].map(str::to_owned));
                sizes.extend(counts);
                columns.push(Column::new("start", Kind::Time));
                // The time that it is a forecast of.
                columns.push(Column { dim: Some(dim), ..Column::new("start + lead", Kind::Time) });
                continue;
            }
            if dim != spared && writer.random.one_in(6) {
                continue;
            }
            let name = format!("{}{suffix}", DIMS[dim]);
            let size = 1 + writer.random.below(longest);
            let column = writer.coordinate(&name, size, *measure);
            columns.push(Column { dim: Some(dim), ..column });
            names.push(name);
            sizes.push(size);
        }
        let mut auxiliary = Vec::new();
        for (name, &size) in names.iter().zip(&sizes) {
            if writer.random.one_in(4) {
                let groups: Vec<i64> = (0..size).map(|_| writer.random.between(0, 2)).collect();
                let auxiliary_name = format!("g{name}");
                writer.numbers(&auxiliary_name, name, "int32", &groups, &json!({}));
                columns.push(Column::new(&auxiliary_name, Kind::Integer));
                auxiliary.push(auxiliary_name);
            }
        }
        let letter = ["u", "w", "z"][number];
        for count in 0..1 + random.below(2) {
            let mut dims: Vec<usize> = (0..names.len()).collect();
            for i in (1..dims.len()).rev() {
                dims.swap(i, random.below(i as u64 + 1) as usize);
            }
            if count > 0 && random.one_in(2) {
                dims.truncate(random.below(dims.len() as u64) as usize);
            }
            let name = format!("{letter}{count}");
            let attributes = json!({"coordinates": auxiliary.join(" ")});
            let kind = variable(random, &group, &name, &names, &sizes, &dims, &attributes);
            columns.push(Column::new(&name, kind));
        }
        group.consolidate().unwrap();
        let options = if world.nan { "?nan_as_null=false" } else { "" };
        Self { path: path.to_owned(), options, columns }
    }
}

struct Writer<'a> {
    random: &'a mut Random,
    group: &'a GroupWriter,
    path: &'a Path,
}

impl Writer<'_> {
    /// Places on a line that all stores share: with gaps, in any order, now and then one of them twice.
    fn places(&mut self, size: u64) -> Vec<i64> {
        let (start, step) = (self.random.between(-1, 1), *self.random.choose(&[1, 1, 1, 2]));
        let mut places: Vec<i64> = (0..size.cast_signed()).map(|i| start + i * step).collect();
        match self.random.below(6) {
            0 => places.reverse(),
            1 => {
                for i in (1..places.len()).rev() {
                    places.swap(i, self.random.below(i as u64 + 1) as usize);
                }
            }
            _ => {}
        }
        if self.random.one_in(7) {
            let from = places[self.random.below(size) as usize];
            places[self.random.below(size) as usize] = from;
        }
        places
    }

    fn coordinate(&mut self, name: &str, size: u64, measure: Measure) -> Column {
        let mut places = self.places(size);
        let distinct = places.iter().collect::<BTreeSet<_>>().len();
        let is_unique = distinct == places.len();
        let column = |kind| Column { is_axis: true, is_unique, ..Column::new(name, kind) };
        // Which of them has no value.
        let missing = self.random.one_in(6).then(|| self.random.below(size) as usize);
        let masked = json!({"_FillValue": MASKED});
        match measure {
            Measure::Number { whole } if whole && self.random.one_in(3) => {
                let data_type = *self.random.choose(&["int16", "int32", "int64"]);
                let attributes = if data_type == "int16" { json!({}) } else { masked };
                if let Some(at) = missing.filter(|_| data_type != "int16") {
                    places[at] = MASKED;
                }
                self.numbers(name, name, data_type, &places, &attributes);
                column(Kind::Integer)
            }
            Measure::Number { whole } => {
                let zero = if self.random.one_in(3) { -0.0 } else { 0.0 };
                let mut values: Vec<f64> = places
                    .iter()
                    .map(|&place| match place {
                        0 => zero,
                        _ => place as f64 * if whole { 1.0 } else { 0.5 },
                    })
                    .collect();
                if let Some(at) = missing {
                    values[at] = f64::NAN;
                }
                if self.random.one_in(2) {
                    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
                    self.array(name, name, "float32", &values, &json!({}));
                } else {
                    self.array(name, name, "float64", &values, &json!({}));
                }
                column(Kind::Float)
            }
            Measure::Text => {
                let texts: Vec<String> = places.iter().map(|place| format!("s{place}")).collect();
                text_coordinate(self.path, name, name, &texts);
                column(Kind::Text)
            }
            Measure::Time => {
                let calendar = match self.random.below(10) {
                    0 => "360_day",
                    1 => "noleap",
                    _ => "proleptic_gregorian",
                };
                let (unit, factor) = *self.random.choose(&[("days", 20), ("hours", 480)]);
                let mut attributes = masked;
                attributes["units"] = json!(format!("{unit} since 2019-01-01"));
                attributes["calendar"] = json!(calendar);
                for (at, place) in places.iter_mut().enumerate() {
                    *place = if missing == Some(at) { MASKED } else { *place * factor };
                }
                self.numbers(name, name, "int64", &places, &attributes);
                let is_calendar = calendar != "proleptic_gregorian";
                let kind = if is_calendar { Kind::Text } else { Kind::Time };
                Column { is_calendar, ..column(kind) }
            }
        }
    }

    /// Start and lead of forecasts, with as many places.
    fn forecast(&mut self, sizes: [u64; 2]) {
        let starts: Vec<i64> = self.places(sizes[0]).iter().map(|place| place * 20).collect();
        let units = json!({"units": "days since 2019-01-01", "calendar": "standard"});
        self.numbers("start", "start", "int64", &starts, &units);
        let leads: Vec<i64> = (0..sizes[1].cast_signed()).map(|i| i * 20).collect();
        let units = json!({"units": "days", "dtype": "timedelta64[ns]"});
        self.numbers("lead", "lead", "int64", &leads, &units);
    }

    fn numbers(&self, name: &str, dim: &str, data_type: &str, values: &[i64], attributes: &Value) {
        macro_rules! array {
            ($t:ty) => {{
                let values: Vec<$t> = values.iter().map(|&v| v as $t).collect();
                self.array(name, dim, data_type, &values, attributes);
            }};
        }
        match data_type {
            "int16" => array!(i16),
            "int32" => array!(i32),
            _ => array!(i64),
        }
    }

    fn array<T: Element>(
        &self,
        name: &str,
        dim: &str,
        data_type: &str,
        values: &[T],
        attributes: &Value,
    ) {
        let spec = SyntheticArray {
            name,
            data_type,
            dims: &[(dim, values.len() as u64)],
            chunks: &[],
            shards: None,
            compression: Compression::Zstd(1),
            fill_value: json!(0),
            attributes: attributes.clone(),
        };
        self.group.whole_array(&spec, values).unwrap();
    }
}
