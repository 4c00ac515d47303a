//! [`ScanSpec`]: specification of a scan, as plain data that serialises.

use std::{ops::Range, path, sync::Arc};

use datafusion::{catalog::Session, common::exec_err, error::Result};
use lsio_core::{
    Dataset, OpenOptions, Selection, Table,
    read::{DimOrder, ScanOptions},
};
use serde::{Deserialize, Serialize};

use super::ZarrSource;
use crate::{config::LsioConfig, error::external, register::open_dataset, schema::schema};

/// Specification of a scan: made by the table provider, changed by push-downs, and sent to readers of parts
/// of it.
///
/// Serialises in any serde format. Holds no credentials: whoever opens it has their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanSpec {
    /// Dataset to read.
    pub dataset: DatasetRef,
    /// Columns of the output, by their positions in the table; duplicates are allowed.
    pub output: Vec<usize>,
    /// Selected indices of each dimension.
    pub selection: Vec<Selection>,
    /// Order of tiles, slowest dimension first. Dimensions that it lacks follow in the grid's order.
    pub order: Vec<DimOrder>,
    /// Limit on the rows of the output.
    pub limit: Option<usize>,
    /// Tiles to read, by their numbers in `order`; `None` is all.
    pub tiles: Option<Range<u64>>,
    /// Bytes up to which coordinates, and variables that lack a dimension, are read as a whole.
    pub held_bytes: u64,
    /// Decoded bytes of a column up to which small chunks are read together.
    pub tile_bytes: u64,
}

/// Reference to a dataset that another process can open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetRef {
    /// Absolute local path, or URL without secrets.
    pub location: String,
    /// Options with which it was opened, without secrets.
    pub options: OpenOptions,
    /// Fingerprint of the table whose positions and indices the specification uses.
    pub fingerprint: u64,
}

impl ScanSpec {
    /// Scans all rows of some columns.
    pub(crate) fn new(dataset: &Dataset, table: &Table, output: Vec<usize>) -> Self {
        let options = ScanOptions::default();
        Self {
            dataset: DatasetRef::new(dataset, table),
            output,
            selection: table.dims.iter().map(|dim| Selection::all(dim.size)).collect(),
            order: Vec::new(),
            limit: None,
            tiles: None,
            held_bytes: options.held_bytes,
            tile_bytes: options.tile_bytes,
        }
    }

    /// Checks a specification, which may come from anywhere, against a table. Returns what doesn't fit.
    pub(crate) fn misfit(&self, table: &Table) -> Option<String> {
        let (rank, columns) = (table.dims.len(), table.columns.len());
        let beyond = |(selection, size): (&Selection, u64)| selection.bounds().end > size;
        if let Some(column) = self.output.iter().find(|&&column| column >= columns) {
            return Some(format!("it has {columns} columns, and no column {column}"));
        }
        if self.selection.len() != rank {
            return Some(format!("it has {rank} dimensions, not {}", self.selection.len()));
        }
        let sizes = table.dims.iter().map(|dim| dim.size);
        if self.selection.iter().zip(sizes).any(beyond) {
            return Some("indices are selected that its dimensions don't have".to_owned());
        }
        let dim = self.order.iter().map(|order| order.dim).find(|dim| *dim >= rank);
        dim.map(|dim| format!("it has {rank} dimensions, and no dimension {dim}"))
    }
}

impl ZarrSource {
    /// Opens the dataset of a specification with the session's stores and credentials, and scans it: the rows
    /// are those of the scan that the specification was taken from.
    ///
    /// # Errors
    /// Those of [`open_dataset`], and an error that names the store if it has changed since, or the
    /// specification is of another one.
    pub async fn open_spec(spec: ScanSpec, session: &dyn Session) -> Result<Self> {
        let (config, runtime) = (session.config_options(), session.runtime_env());
        let DatasetRef { location, options, fingerprint: expected } = spec.dataset.clone();
        let dataset = open_dataset(&location, options, config, runtime).await?;
        let table = dataset.table().map_err(external)?;
        let changed = (fingerprint(&table) != expected).then(|| {
            "it has changed since: its dimensions, columns or chunks are others".to_owned()
        });
        if let Some(reason) = changed.or_else(|| spec.misfit(&table)) {
            return exec_err!(
                "the scan of '{location}' can't be opened: {reason}; plan the query again"
            );
        }
        let mut options =
            LsioConfig::of(config).scan_options(dataset.location().local_path().is_some())?;
        (options.held_bytes, options.tile_bytes) = (spec.held_bytes, spec.tile_bytes);
        let schema = schema(&dataset, &table);
        let store = dataset.location().name().to_owned();
        Self::try_new(spec, &store, Arc::new(table), schema, options)
    }
}

impl DatasetRef {
    fn new(dataset: &Dataset, table: &Table) -> Self {
        let origin = dataset.origin();
        let local = origin.local_path().and_then(|path| path::absolute(path).ok());
        let location = match local.as_ref().and_then(|path| path.to_str()) {
            Some(path) => path.to_owned(),
            None => origin.name().to_owned(),
        };
        let options = dataset.options().clone();
        Self { location, options, fingerprint: fingerprint(table) }
    }
}

/// Hash of what gives positions and indices their meaning: names and sizes of dimensions, names and types of
/// columns, and their chunks.
fn fingerprint(table: &Table) -> u64 {
    let mut hash = Fnv::default();
    for dim in &table.dims {
        hash.text(&dim.name);
        hash.number(dim.size);
    }
    for column in &table.columns {
        hash.text(&column.name);
        hash.text(&column.data_type().to_string());
        column.dims.iter().for_each(|&dim| hash.number(dim as u64));
        if let Some(variable) = column.variable() {
            variable.chunk_grid().chunk_shape().iter().for_each(|&size| hash.number(size));
        }
    }
    hash.0
}

/// 64-bit FNV-1a hash, the same in every process and version.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Hashes the length too, so that no two lists of texts give the same bytes.
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}
