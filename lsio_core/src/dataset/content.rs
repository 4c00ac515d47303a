//! What a format finds at a location, before the model makes a dataset of it.

use std::fmt;

use async_trait::async_trait;

use super::{ArraySpec, Attributes, ZarrFormat};
use crate::{Location, OpenOptions, Result};

/// A format in which datasets are stored.
///
/// It reads a hierarchy's metadata; what they mean (dimensions, coordinates, CF conventions) is the same for
/// all formats, and up to [`Dataset`](crate::Dataset).
#[async_trait]
pub trait Format: fmt::Debug + Send + Sync {
    /// Reads the metadata of the group or array at a location. `None` if nothing there is of this format.
    ///
    /// # Errors
    /// Those of [`Dataset::open`](crate::Dataset::open).
    async fn open(&self, at: &Location, options: &OpenOptions) -> Result<Option<Content>>;
}

/// What is at a location.
#[derive(Debug)]
pub enum Content {
    /// A group, or one of its arrays.
    Group(GroupContent),
    /// An array that is in no group.
    Array(ArrayContent),
}

/// A group of arrays.
#[derive(Debug)]
pub struct GroupContent {
    /// Where the group is.
    pub location: Location,
    /// The attributes of the group.
    pub attributes: Attributes,
    /// The version of Zarr whose conventions hold.
    pub format: ZarrFormat,
    /// The arrays directly in the group.
    pub arrays: Vec<ArrayContent>,
    /// Arrays of the groups above whose names no array of this group has: of them, those are taken that are
    /// coordinates of its dimensions.
    pub inherited: Vec<ArrayContent>,
    /// The names of the groups directly in the group.
    pub children: Vec<String>,
    /// The array that the location names, if it names one.
    pub selected: Option<String>,
}

/// An array of a group.
#[derive(Debug)]
pub struct ArrayContent {
    /// Its name in the group.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// What its metadata say, or why they can't be used.
    pub spec: Result<ArraySpec>,
}
