//! `lsio info`: a dataset in the form of xarray.

use std::fmt::Write as _;

use arrow::array::Array as _;
use datafusion::{config::ConfigOptions, execution::runtime_env::RuntimeEnv};
use futures::{
    TryStreamExt as _,
    future::{try_join, try_join_all},
};
use lsio_core::{
    Dataset, OpenOptions, Resources, Role, Variable,
    cloud::public_text,
    dataset::{Attribute, Attributes, ZarrFormat},
    grid::Region,
};
use lsio_datafusion::{LsioConfig, open_dataset, text};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, output::say};

/// Upper bound on the objects counted of an array: listing all of a huge one would take minutes.
const MAX_OBJECTS: usize = 100_000;

/// Upper bound over a network: the objects of one list request.
const MAX_REMOTE_OBJECTS: usize = 1_000;

#[derive(Serialize)]
struct Info {
    store: String,
    zarr_format: u8,
    dimensions: Map<String, Value>,
    coordinates: Vec<VariableInfo>,
    data_variables: Vec<VariableInfo>,
    /// Bounds and grid mappings, which are in no table but their own.
    other_variables: Vec<VariableInfo>,
    attributes: Attributes,
    groups: Vec<String>,
    tables: Vec<TableInfo>,
}

#[derive(Serialize)]
struct VariableInfo {
    name: String,
    role: &'static str,
    dimensions: Vec<String>,
    shape: Vec<u64>,
    dtype: String,
    /// Type of the column, `null` if the variable can't be read.
    data_type: Option<String>,
    unreadable: Option<String>,
    chunks: Vec<u64>,
    shards: Option<Vec<u64>>,
    codecs: Vec<String>,
    /// Bytes of all cells, uncompressed.
    logical_bytes: u64,
    /// Bytes of the stored chunks, `null` where the store can't list its objects, such as a web server.
    stored_bytes: Option<u64>,
    stored_objects: Option<usize>,
    /// Whether there are more objects than were counted.
    more_objects: bool,
    /// First value, for coordinates only.
    first: Option<String>,
    last: Option<String>,
    attributes: Attributes,
}

#[derive(Serialize)]
struct TableInfo {
    path: String,
    dimensions: Vec<String>,
    rows: u64,
    columns: Vec<String>,
}

pub(crate) async fn print(store: &str, json: bool, resources: Resources) -> Result<(), Error> {
    let (options, mut config) = (OpenOptions::default(), ConfigOptions::default());
    config.extensions.insert(LsioConfig { resources: resources.into(), ..LsioConfig::default() });
    let dataset = open_dataset(store, options, &config, &RuntimeEnv::default()).await?;
    let info = collect(&public_text(store), &dataset).await?;
    if json {
        say!("{}", serde_json::to_string_pretty(&info)?);
    } else {
        say!("{}", text(&info).trim_end());
    }
    Ok(())
}

async fn collect(store: &str, dataset: &Dataset) -> Result<Info, Error> {
    if let Some(dims) = &dataset.options().dims {
        // Unknown dimensions are an error here as in a query.
        dataset.table_on(dims)?;
    }
    let mut dimensions = Map::new();
    let (mut coordinates, mut data_variables, mut other_variables) = (vec![], vec![], vec![]);
    // Data variables have the usual order of dimensions.
    let data = dataset.variables().iter().filter(|(_, role)| *role == Role::Data);
    let rest = dataset.variables().iter().filter(|(_, role)| role.is_coordinate());
    for (variable, _) in data.chain(rest) {
        for (dim, size) in variable.dims().iter().zip(variable.shape()) {
            dimensions.entry(dim.clone()).or_insert_with(|| (*size).into());
        }
    }
    let infos = dataset.variables().iter().map(|(v, role)| variable_info(v, *role));
    for (info, (_, role)) in try_join_all(infos).await?.into_iter().zip(dataset.variables()) {
        match role {
            Role::DimensionCoordinate | Role::AuxiliaryCoordinate => coordinates.push(info),
            Role::Data => data_variables.push(info),
            Role::Bounds | Role::GridMapping => other_variables.push(info),
        }
    }
    // A dimension has the size of its coordinate; a variable with another size isn't in its table.
    for (name, size) in &mut dimensions {
        let coordinate = coordinates.iter().find(|c| c.name == *name && c.shape.len() == 1);
        if let Some(coordinate) = coordinate {
            *size = coordinate.shape[0].into();
        }
    }
    for variable in coordinates.iter_mut().chain(&mut data_variables) {
        if dataset.levels().contains(&variable.name) {
            continue;
        }
        let sizes = variable.dimensions.iter().zip(&variable.shape);
        let conflict = sizes.into_iter().find(|(dim, size)| {
            dimensions.get(*dim).and_then(Value::as_u64).is_some_and(|known| known != **size)
        });
        if let Some((dim, size)) = conflict {
            variable.unreadable.get_or_insert(format!(
                "it has {size} indices along {dim}, where the dimension has {}; '{}/{}' is its own table",
                dimensions[dim],
                store.split('?').next().unwrap_or(store).trim_end_matches('/'),
                variable.name
            ));
        }
    }
    // Dimension coordinates come first, as in xarray, in the order of the dimensions.
    let order: Vec<String> = dimensions.keys().cloned().collect();
    coordinates.sort_by_key(|info| {
        let position = order.iter().position(|dim| *dim == info.name);
        (info.role != Role::DimensionCoordinate.name(), position)
    });
    Ok(Info {
        store: store.to_owned(),
        zarr_format: match dataset.format() {
            ZarrFormat::V2 => 2,
            ZarrFormat::V3 => 3,
        },
        dimensions,
        coordinates,
        data_variables,
        other_variables,
        attributes: dataset.attributes().clone(),
        groups: dataset.children().to_vec(),
        tables: tables(store, dataset),
    })
}

/// Tables of the store: itself, if it has one grid, or one for each grid.
fn tables(store: &str, dataset: &Dataset) -> Vec<TableInfo> {
    // The option `dims` selects one table.
    let grids = match &dataset.options().dims {
        Some(dims) => vec![dims.clone()],
        None => dataset.grids().into_iter().map(|(dims, _)| dims).collect(),
    };
    let only = grids.len() == 1;
    let base = store.split('?').next().unwrap_or(store);
    let mut tables = Vec::new();
    // Each level of an image is a table.
    let levels = dataset
        .variables()
        .iter()
        .filter(|(v, _)| dataset.levels().iter().any(|level| level == v.name()));
    for (level, _) in levels {
        let rows = level.shape().iter().fold(1, |rows: u64, size| rows.saturating_mul(*size));
        let columns = level.dims().iter().cloned().chain([level.name().to_owned()]);
        tables.push(TableInfo {
            path: format!("{}/{}", base.trim_end_matches('/'), level.name()),
            dimensions: level.dims().to_vec(),
            rows,
            columns: columns.collect(),
        });
    }
    for dims in grids {
        let rest = store.split_once('?').map_or(String::new(), |(_, query)| format!("&{query}"));
        let path =
            if only { store.to_owned() } else { format!("{base}?dims={}{rest}", dims.join(",")) };
        if let Ok(table) = dataset.table_on(&dims) {
            tables.push(TableInfo {
                path,
                dimensions: dims,
                rows: table.rows,
                columns: table.columns.into_iter().map(|column| column.name).collect(),
            });
        }
    }
    tables
}

async fn variable_info(variable: &Variable, role: Role) -> Result<VariableInfo, Error> {
    let layout = variable.layout();
    variable.log_warnings();
    let mut unreadable = variable.unreadable().map(str::to_owned);
    let mut own_ends = Ends::default();
    if role.is_coordinate() && unreadable.is_none() {
        // A broken chunk doesn't hide the rest.
        match ends(variable).await {
            Ok(ends) => own_ends = ends,
            Err(error) => unreadable = Some(error.to_string()),
        }
    }
    let stored = stored(variable).await.ok();
    Ok(VariableInfo {
        name: variable.name().to_owned(),
        role: role.name(),
        dimensions: variable.dims().to_vec(),
        shape: variable.shape().to_vec(),
        dtype: layout.dtype.clone(),
        data_type: unreadable.is_none().then(|| variable.data_type().to_string()),
        unreadable,
        chunks: layout.inner_chunks.clone().unwrap_or_else(|| layout.chunks.clone()),
        shards: layout.inner_chunks.is_some().then(|| layout.chunks.clone()),
        codecs: layout.codecs.clone(),
        logical_bytes: variable.stored_width().map_or(0, |width| {
            variable.shape().iter().fold(width, |bytes, &size| bytes.saturating_mul(size))
        }),
        stored_bytes: stored.as_ref().map(|stored| stored.bytes),
        stored_objects: stored.as_ref().map(|stored| stored.count),
        more_objects: stored.is_some_and(|stored| stored.more),
        first: own_ends.first,
        last: own_ends.last,
        attributes: variable.attributes().clone(),
    })
}

/// Objects of an array, as far as counted.
#[derive(Default)]
struct StoredObjects {
    bytes: u64,
    count: usize,
    /// Whether there are more.
    more: bool,
}

/// Counts the objects that hold an array's chunks.
async fn stored(variable: &Variable) -> Result<StoredObjects, Error> {
    let mut stored = StoredObjects::default();
    let location = variable.location();
    let mut objects = location.store().list(Some(location.path()));
    let most = if location.link().is_remote() { MAX_REMOTE_OBJECTS } else { MAX_OBJECTS };
    while let Some(object) = objects.try_next().await? {
        let name = object.location.filename().unwrap_or_default();
        if name == "zarr.json" || name.starts_with(".z") {
            continue;
        }
        if stored.count == most {
            stored.more = true;
            break;
        }
        stored.count += 1;
        stored.bytes += object.size;
    }
    Ok(stored)
}

/// First and last value of a coordinate, as text.
#[derive(Default)]
struct Ends {
    first: Option<String>,
    last: Option<String>,
}

async fn ends(variable: &Variable) -> Result<Ends, Error> {
    let shape = variable.shape();
    // Two corners of a coordinate on several dimensions are no range.
    if shape.contains(&0) || shape.len() > 1 {
        return Ok(Ends::default());
    }
    let value = async |start| {
        let array = variable.read(&Region { start, shape: vec![1; shape.len()] }).await?;
        let text = match array.is_null(0) {
            true => "NULL".to_owned(),
            false => text::formatter(&array)?.value(0).to_string(),
        };
        Ok::<_, Error>(text)
    };
    let ends = (vec![0; shape.len()], shape.iter().map(|size| size - 1).collect());
    let (first, last) = try_join(value(ends.0), value(ends.1)).await?;
    Ok(Ends { first: Some(first), last: Some(last).filter(|_| !shape.is_empty()) })
}

fn text(info: &Info) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(out, "{} (Zarr v{})", info.store, info.zarr_format);
    let dims: Vec<String> =
        info.dimensions.iter().map(|(name, size)| format!("{name}: {size}")).collect();
    let _ = writeln!(out, "Dimensions:  ({})", dims.join(", "));
    for (title, variables) in [
        ("Coordinates", &info.coordinates),
        ("Data variables", &info.data_variables),
        ("Other variables", &info.other_variables),
    ] {
        if variables.is_empty() {
            continue;
        }
        let _ = writeln!(out, "{title}:");
        let names = variables.iter().map(|v| v.name.chars().count()).max().unwrap_or(0);
        let dims = variables.iter().map(|v| v.dimensions.join(", ").chars().count() + 2).max();
        for variable in variables {
            variable_text(&mut out, variable, names, dims.unwrap_or(0));
        }
    }
    if !info.attributes.is_empty() {
        let _ = writeln!(out, "Attributes:");
        for (name, value) in info.attributes.iter() {
            let value = match value {
                Attribute::Text(text) => text.replace('\n', " "),
                other => other.to_string(),
            };
            let _ = writeln!(out, "    {name}: {}", shorten(&value, 100));
        }
    }
    if !info.groups.is_empty() {
        let _ = writeln!(out, "Groups:      {}", info.groups.join(", "));
    }
    if !info.tables.is_empty() {
        let _ = writeln!(out, "Tables:");
    }
    for table in &info.tables {
        let _ = writeln!(
            out,
            "    '{}'  {} rows on ({})",
            table.path.replace('\'', "''"),
            table.rows,
            table.dimensions.join(", ")
        );
    }
    out
}

fn variable_text(out: &mut String, variable: &VariableInfo, names: usize, dims: usize) {
    let star = if variable.role == Role::DimensionCoordinate.name() { '*' } else { ' ' };
    let along = format!("({})", variable.dimensions.join(", "));
    let _ = write!(out, "  {star} {:names$}  {along:dims$}  {}", variable.name, variable.dtype);
    match (&variable.unreadable, &variable.data_type) {
        (Some(reason), _) => {
            let _ = writeln!(out, "  can't be read: {reason}");
            return;
        }
        (None, Some(data_type)) if *data_type != capitalized(&variable.dtype) => {
            let _ = write!(out, " as {data_type}");
        }
        _ => {}
    }
    match (&variable.first, &variable.last) {
        (Some(first), Some(last)) => {
            let _ = write!(out, "  {first} … {last}");
        }
        (Some(value), None) => {
            let _ = write!(out, "  {value}");
        }
        _ => {
            let _ = write!(out, "  {:?}, chunks {:?}", variable.shape, variable.chunks);
            if let Some(shards) = &variable.shards {
                let _ = write!(out, ", shards {shards:?}");
            }
            if !variable.codecs.is_empty() {
                let _ = write!(out, ", {}", variable.codecs.join("+"));
            }
            let _ = write!(out, ", {}", bytes(variable.logical_bytes));
            if let (Some(stored), Some(objects)) = (variable.stored_bytes, variable.stored_objects)
            {
                let more = if variable.more_objects { "more than " } else { "" };
                let _ = write!(out, ", stored {more}{} in {more}{objects} objects", bytes(stored));
            }
        }
    }
    if let Some(units) = variable.attributes.text("units")
        && variable.data_type.as_deref().is_none_or(|t| !t.starts_with("Timestamp"))
    {
        let _ = write!(out, "  [{units}]");
    }
    out.push('\n');
}

fn capitalized(dtype: &str) -> String {
    let dtype = dtype.trim_start_matches(['<', '>', '|']);
    match dtype.strip_prefix("uint") {
        Some(bits) => format!("UInt{bits}"),
        None => dtype
            .chars()
            .enumerate()
            .map(|(i, c)| if i == 0 { c.to_ascii_uppercase() } else { c })
            .collect(),
    }
}

fn shorten(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain("…".chars()).collect()
}

/// Formats a number of bytes in units of 1000.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}
