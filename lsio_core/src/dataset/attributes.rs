//! Attributes: the user metadata of groups and arrays.

use serde::{Serialize, Serializer};

/// The attributes of a group or an array, in the order in which they are stored. No name occurs twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(String, Attribute)>);

/// The value of an attribute. Displays as JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// JSON's `null`.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(String),
    /// Several values.
    List(Vec<Attribute>),
    /// Named values.
    Object(Attributes),
}

impl Attributes {
    /// The value of an attribute. `None` if no attribute has this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.iter().find_map(|(own, value)| (own == name).then_some(value))
    }

    /// The value of a text attribute. `None` if the attribute is missing or isn't text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_text()
    }

    /// The names, in stored order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The names with their values, in stored order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there are no attributes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an attribute, unless an attribute of this name exists.
    pub(crate) fn add_missing(&mut self, name: &str, value: &Attribute) {
        if self.get(name).is_none() {
            self.0.push((name.to_owned(), value.clone()));
        }
    }

    /// Makes attributes of pairs whose names must be distinct.
    pub(crate) fn from_distinct(attributes: Vec<(String, Attribute)>) -> Self {
        Self(attributes)
    }
}

impl FromIterator<(String, Attribute)> for Attributes {
    /// Collects attributes. The last value of a repeated name counts.
    fn from_iter<I: IntoIterator<Item = (String, Attribute)>>(attributes: I) -> Self {
        let mut all: Vec<(String, Attribute)> = Vec::new();
        for (name, value) in attributes {
            match all.iter_mut().find(|(own, _)| *own == name) {
                Some((_, own)) => *own = value,
                None => all.push((name, value)),
            }
        }
        Self(all)
    }
}

impl Attribute {
    /// A member of an object. `None` if the value isn't an object or lacks the member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// The content of text. `None` for other values.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list. `None` for other values.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }

    /// The value of an integer that isn't negative. `None` for other values.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            Self::UInt(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether the value is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Serialize for Attribute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::UInt(number) => serializer.serialize_u64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(members) => members.serialize(serializer),
        }
    }
}
