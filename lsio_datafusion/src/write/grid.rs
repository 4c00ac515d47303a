//! The arrays of a new group: dimensions with labels, and variables along them.

use arrow::{
    array::{ArrayRef, AsArray as _, Int64Array},
    compute::cast,
    datatypes::{DataType, Field, Schema},
};
use datafusion::{common::plan_err, error::Result};
use lsio_core::{
    dataset::{Attribute, Attributes},
    grid::checked_product,
    write::{NewArray, NewGroup, ZarrFormat},
};

use super::{
    fields::{Missing, StoredForm},
    format::WriteRequest,
};
use crate::{
    error::external,
    schema::{self, ATTRIBUTES},
};

/// The size of a decoded chunk that nothing else decides on.
const CHUNK_BYTES: u64 = 8 << 20;

/// A dimension of the new group.
#[derive(Clone, Debug)]
pub(super) struct NewDim {
    pub(super) name: String,
    pub(super) size: u64,
    /// Indices of a chunk, as the store that is read has it.
    pub(super) chunk: Option<u64>,
}

/// A variable of the new group.
#[derive(Clone, Debug)]
pub(super) struct NewVariable {
    pub(super) name: String,
    /// Positions of its dimensions, ascending.
    pub(super) dims: Vec<usize>,
    pub(super) form: StoredForm,
    pub(super) role: NewRole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewRole {
    /// The labels of a dimension.
    Labels,
    /// Another coordinate.
    Coordinate,
    Data,
}

/// The group of these variables, with the attributes of the group that is read, which `schema` has.
///
/// # Errors
/// If options don't fit the dimensions, or names aren't distinct.
pub(super) fn new_group(
    dims: &[NewDim],
    variables: &[NewVariable],
    request: &WriteRequest,
    schema: &Schema,
) -> Result<NewGroup> {
    let options = &request.options;
    let names: Vec<String> = dims.iter().map(|dim| dim.name.clone()).collect();
    let chunks = options.chunks.along("chunks", &names)?;
    let shards = options.shards.along("shards", &names)?;
    let is_sharded = shards.iter().any(Option::is_some);
    let mut arrays = Vec::with_capacity(variables.len());
    for (number, variable) in variables.iter().enumerate() {
        let name = &variable.name;
        if variables[..number].iter().any(|other| other.name == *name) {
            return plan_err!("two columns are called '{name}': name one of them with AS");
        }
        let own: Vec<(&str, u64)> =
            variable.dims.iter().map(|&dim| (dims[dim].name.as_str(), dims[dim].size)).collect();
        let array = NewArray::new(name, &variable.form.data_type, &own).map_err(external)?;
        let mut attributes = variable.form.attributes.clone();
        if variable.role == NewRole::Data {
            attributes = with_coordinates(attributes, variable, variables);
        }
        let mut array = array.with_attributes(attributes);
        if let Some(fill) = &variable.form.fill_value {
            array = array.with_fill_value(fill.clone());
        } else if options.format == Some(ZarrFormat::V2) && !variable.form.data_type.is_floating() {
            // Readers of Zarr v2 take a fill value for a missing one: 0, false and the empty text aren't.
            array = array.with_fill_value(Attribute::Null);
        }
        if let Some(codec) = options.codec {
            array = array.with_compression(codec);
        }
        // Labels are read at once.
        if variable.role != NewRole::Labels {
            let width = variable.form.data_type.primitive_width().unwrap_or(16) as u64;
            let shape = chunk_shape(variable, dims, &chunks, width);
            array = array.with_chunks(shape.clone()).map_err(external)?;
            if is_sharded {
                let shape = variable.dims.iter().zip(&shape).map(|(&dim, chunk)| {
                    // At least a chunk; whole chunks.
                    let wanted = shards[dim].unwrap_or(*chunk);
                    if wanted < *chunk { *chunk } else { wanted }
                });
                array = array.with_shards(shape.collect()).map_err(external)?;
            }
        }
        arrays.push(array);
    }
    let attributes = schema.metadata().get(ATTRIBUTES).and_then(|text| text.parse().ok());
    Ok(NewGroup {
        attributes: attributes.unwrap_or_default(),
        format: options.format.unwrap_or(ZarrFormat::V3),
        existing: options.existing,
        ..NewGroup::of(arrays)
    })
}

/// The chunks of a variable: as asked for, else as the store has them that is read, else of about 8 MiB.
fn chunk_shape(
    variable: &NewVariable,
    dims: &[NewDim],
    asked: &[Option<u64>],
    width: u64,
) -> Vec<u64> {
    let known = |dim: usize| asked[dim].or(dims[dim].chunk);
    let mut shape: Vec<u64> = variable
        .dims
        .iter()
        .map(|&dim| known(dim).unwrap_or(dims[dim].size).min(dims[dim].size).max(1))
        .collect();
    let bytes = |shape: &[u64]| checked_product(shape).unwrap_or(u64::MAX).saturating_mul(width);
    // Outer dimensions are cut first: rows stay whole.
    for (position, &dim) in variable.dims.iter().enumerate() {
        if known(dim).is_none() {
            while shape[position] > 1 && bytes(&shape) > CHUNK_BYTES {
                shape[position] = shape[position].div_ceil(2);
            }
        }
    }
    shape
}

/// The attributes of a variable, with the names of the coordinates that belong to it (CF conventions, chapter 5).
fn with_coordinates(
    attributes: Attributes,
    variable: &NewVariable,
    all: &[NewVariable],
) -> Attributes {
    let belongs = |other: &&NewVariable| {
        other.role == NewRole::Coordinate
            && other.dims.iter().all(|dim| variable.dims.contains(dim))
    };
    let names: Vec<&str> = all.iter().filter(belongs).map(|other| other.name.as_str()).collect();
    if names.is_empty() {
        return attributes;
    }
    let own = [("coordinates".to_owned(), Attribute::Text(names.join(" ")))];
    let all = attributes.iter().map(|(name, value)| (name.to_owned(), value.clone()));
    all.chain(own).collect()
}

impl NewVariable {
    /// The labels of a dimension, none of which is NULL. `None` if they are its indices, in a store that has no labels
    /// either.
    pub(super) fn labels(
        dim: usize,
        field: &Field,
        source: Option<&Field>,
        values: &ArrayRef,
    ) -> Result<Option<Self>> {
        if is_index(source) && are_indices(values) {
            return Ok(None);
        }
        Ok(Some(Self {
            name: field.name().clone(),
            dims: vec![dim],
            form: StoredForm::new(field, source, Missing::Never, Some(values))?,
            role: NewRole::Labels,
        }))
    }
}

/// Whether a column holds the indices of a dimension whose store has no labels.
pub(super) fn is_index(source: Option<&Field>) -> bool {
    is_label(source) && source.is_some_and(|own| !own.metadata().contains_key(ATTRIBUTES))
}

fn are_indices(values: &ArrayRef) -> bool {
    let Ok(values) = cast(values, &DataType::Int64) else { return false };
    let values: &Int64Array = values.as_primitive();
    values.iter().zip(0..).all(|(value, index)| value == Some(index))
}

/// Whether a column holds labels of a dimension of its store.
pub(super) fn is_label(source: Option<&Field>) -> bool {
    source.is_some_and(|source| {
        schema::is_coordinate(source)
            && schema::dims(source).is_some_and(|dims| dims == [source.name().clone()])
    })
}
