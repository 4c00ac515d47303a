//! The metadata that a format reads at a location, before a dataset is made of them.

use std::fmt;

use async_trait::async_trait;

use super::{ArraySpec, Attributes, ZarrFormat};
use crate::{Location, OpenOptions, Result};

/// A format in which datasets are stored.
///
/// Reads the metadata of a hierarchy. [`Dataset`](crate::Dataset) interprets them (dimensions, coordinates, CF
/// conventions) in the same way for all formats.
#[async_trait]
pub trait Format: fmt::Debug + Send + Sync {
    /// Reads the metadata of the group or array at a location. `None` if the location holds no data of this format.
    ///
    /// # Errors
    /// The errors of [`Dataset::open`](crate::Dataset::open).
    async fn open(&self, at: &Location, options: &OpenOptions) -> Result<Option<Content>>;
}

/// A group or a lone array, as a format describes it.
#[derive(Debug)]
pub enum Content {
    /// A group, or one of its arrays.
    Group(GroupContent),
    /// An array outside of any group.
    Array(Box<ArrayContent>),
}

/// A group of arrays.
#[derive(Debug)]
pub struct GroupContent {
    /// The location of the group.
    pub location: Location,
    /// The attributes of the group.
    pub attributes: Attributes,
    /// The version of Zarr whose conventions apply.
    pub format: ZarrFormat,
    /// The arrays directly in the group.
    pub arrays: Vec<ArrayContent>,
    /// Arrays of the groups above, except for names that this group has too. [`Dataset`](crate::Dataset) keeps the
    /// coordinates of this group's dimensions.
    pub inherited: Vec<ArrayContent>,
    /// The names of the groups directly in the group.
    pub children: Vec<String>,
    /// The name of the array that the location names, if any.
    pub selected: Option<String>,
}

/// An array of a group.
#[derive(Debug)]
pub struct ArrayContent {
    /// The array's name in its group.
    pub name: String,
    /// The location of the array.
    pub location: Location,
    /// The parsed metadata, or the error why they can't be used.
    pub spec: Result<ArraySpec>,
}
