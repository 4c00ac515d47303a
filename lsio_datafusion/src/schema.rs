//! Arrow schema of a Zarr table: natural types, and each variable's metadata in its field.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lsio_core::{Column, Dataset, Table};
use serde_json::json;

/// Field metadata: dimensions along which a column varies, a JSON list. Every column of a Zarr table has it.
pub const DIMS: &str = "zarr.dims";
/// Field metadata: the variable's attributes, a JSON object.
pub const ATTRIBUTES: &str = "zarr.attributes";
/// Field metadata: calendar of a text time.
pub const CALENDAR: &str = "zarr.calendar";
/// Field metadata: role of the variable, `coordinate` or `data`.
pub const ROLE: &str = "zarr.role";
/// Field metadata: the variable's units.
pub const UNITS: &str = "units";

/// Schema of a table, with the group's attributes as metadata.
pub(crate) fn schema(dataset: &Dataset, table: &Table) -> SchemaRef {
    let fields: Vec<Field> = table.columns.iter().map(|column| field(table, column)).collect();
    let attributes = dataset.attributes().to_string();
    let metadata = HashMap::from([(ATTRIBUTES.to_owned(), attributes)]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Whether a field is a Zarr table's column.
pub(crate) fn is_zarr_field(field: &Field) -> bool {
    field.metadata().contains_key(DIMS)
}

/// Whether a field is a data variable of a Zarr table.
pub(crate) fn is_data(field: &Field) -> bool {
    field.metadata().get(ROLE).is_some_and(|role| role == "data")
}

/// Whether a field is a coordinate of a Zarr table.
pub(crate) fn is_coordinate(field: &Field) -> bool {
    field.metadata().get(ROLE).is_some_and(|role| role == "coordinate")
}

/// Dimensions of a Zarr table's column.
pub(crate) fn dims(field: &Field) -> Option<Vec<String>> {
    serde_json::from_str(field.metadata().get(DIMS)?).ok()
}

/// Calendar of a field that is a text time.
pub(crate) fn text_calendar(field: &Field) -> Option<&str> {
    let is_text =
        matches!(field.data_type(), DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8);
    field.metadata().get(CALENDAR).filter(|_| is_text).map(String::as_str)
}

fn field(table: &Table, column: &Column) -> Field {
    let dims: Vec<&str> = column.dims.iter().map(|&d| table.dims[d].name.as_str()).collect();
    let role = if column.role.is_coordinate() { "coordinate" } else { "data" };
    let mut metadata = HashMap::from([
        (DIMS.to_owned(), json!(dims).to_string()),
        (ROLE.to_owned(), role.to_owned()),
    ]);
    if let Some(variable) = column.variable() {
        metadata.insert(ATTRIBUTES.to_owned(), variable.attributes().to_string());
        if let Some(units) = variable.text_attribute("units") {
            metadata.insert(UNITS.to_owned(), units.to_owned());
        }
        if let Some(calendar) = variable.text_calendar() {
            metadata.insert(CALENDAR.to_owned(), calendar.name().to_owned());
        }
    }
    // A stored value may be masked; an index isn't.
    let nullable = !column.is_index();
    Field::new(&column.name, column.data_type(), nullable).with_metadata(metadata)
}
