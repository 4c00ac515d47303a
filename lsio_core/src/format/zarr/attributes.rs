//! Converts attributes from and to JSON.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

use crate::{
    Error, Limits,
    dataset::{Attribute, Attributes},
    json,
};

/// Attributes of a JSON object.
pub(crate) fn attributes(members: Map<String, Value>) -> Attributes {
    let members = members.into_iter().map(|(name, value)| (name, attribute(value)));
    Attributes::from_distinct(members.collect())
}

/// A JSON value as an attribute's value.
pub(crate) fn attribute(value: Value) -> Attribute {
    match value {
        Value::Null => Attribute::Null,
        Value::Bool(value) => Attribute::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Attribute::Int(number),
            (None, Some(number), _) => Attribute::UInt(number),
            (None, None, Some(number)) => Attribute::Float(number),
            (None, None, None) => Attribute::Null,
        },
        Value::String(text) => Attribute::Text(text),
        Value::Array(values) => Attribute::List(values.into_iter().map(attribute).collect()),
        Value::Object(members) => Attribute::Object(attributes(members)),
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Attributes {
    type Err = Error;

    /// Attributes of a JSON object.
    fn from_str(text: &str) -> Result<Self, Error> {
        let failed = |reason| Error::Metadata { key: "attributes".to_owned(), reason };
        match json::parse(text.as_bytes(), Limits::default().metadata_bytes).map_err(failed)? {
            Value::Object(members) => Ok(attributes(members)),
            _ => Err(failed("they aren't an object in JSON".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_display_as_they_are_stored() {
        let value = json!({
            "z": [1, -1, u64::MAX, 1.0, 1e20, 0.1, 1e-7, true, null],
            "a": {"text": "\"ä\n", "empty": [], "none": {}},
        });
        assert_eq!(attribute(value.clone()).to_string(), value.to_string());
    }
}
