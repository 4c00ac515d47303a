//! The model of a group, as xarray understands it: dimensions, coordinates, data variables. Does no I/O: a [`Format`]
//! reads the metadata.

use std::sync::Arc;

mod attributes;
pub(crate) mod blosc;
mod bounds;
pub mod calendar;
pub(crate) mod chain;
mod characters;
pub(crate) mod checksum;
mod codec;
#[cfg(test)]
mod codec_cases;
pub(crate) mod codec_spec;
mod column;
pub(crate) mod compression;
pub(crate) mod compression_choice;
mod content;
mod decoding;
mod derive;
pub(crate) mod dtype;
mod elements;
pub(crate) mod fill;
pub(crate) mod filters;
pub(crate) mod gather;
pub(crate) mod items;
mod layout;
pub(crate) mod lost;
mod lz4;
mod mapped;
mod multiscales;
mod names;
mod new_array;
pub(crate) mod number_format;
mod pcodec;
pub(crate) mod plates;
mod roles;
mod scalars;
pub(crate) mod shard;
mod shuffle;
pub(crate) mod small_floats;
pub(crate) mod spec;
mod table;
mod time;
mod unpacking;
mod variable;
mod variable_length;
pub(crate) mod whole_shard;
pub(crate) mod zarrs_chain;
mod zstd_blocks;

pub use self::{
    attributes::{Attribute, Attributes},
    column::Column,
    compression_choice::Compression,
    content::{ArrayContent, Content, Format, GroupContent},
    decoding::nan_to_null,
    derive::{Carried, Continues, Derive, Inputs, Values},
    layout::{Layout, ZarrFormat},
    mapped::Lookup,
    new_array::NewArray,
    roles::Role,
    spec::ArraySpec,
    table::{Dimension, Table},
    variable::Variable,
};
pub(crate) use self::{
    blosc::Blocks as BloscBlocks,
    chain::{ElementLayout, Stream},
    column::{ColumnValues, StoredColumn},
    decoding::StoredValues,
    mapped::Mapped,
    shuffle::unshuffle,
    zstd_blocks::{Encoded as EncodedFrame, HEADER as FRAME_HEADER, ZstdBlocks},
};
use self::{
    bounds::with_units,
    characters::{joinable, joined},
    multiscales::Multiscales,
    names::{Unnamed, name_dimensions},
    plates::with_fields,
    roles::roles,
    scalars::without_dimension,
    variable::NamedArray,
};
use crate::{Error, Location, OpenOptions, Result, error::warn_once, options::DecodeTimes};

/// A group of arrays, or a lone array: metadata only.
#[derive(Debug)]
pub struct Dataset {
    /// The location that was opened.
    origin: Location,
    /// The format that opened the dataset.
    opened_by: Arc<dyn Format>,
    /// The location of the group, or of the lone array.
    location: Location,
    attributes: Attributes,
    format: ZarrFormat,
    /// Sorted by name.
    variables: Vec<(Arc<Variable>, Role)>,
    children: Vec<String>,
    /// The variable that the path named, if any.
    selected: Option<String>,
    /// The names of an image's resolution levels, from the finest to the coarsest.
    levels: Vec<String>,
    options: OpenOptions,
}

impl Dataset {
    /// The format that opened the dataset.
    pub(crate) fn opened_by(&self) -> &Arc<dyn Format> {
        &self.opened_by
    }

    /// The location that was opened, including the name of a group or variable in its path.
    #[must_use]
    pub fn origin(&self) -> &Location {
        &self.origin
    }

    /// The location of the group, or of the lone array.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The group's attributes.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The version of the Zarr format.
    #[must_use]
    pub fn format(&self) -> ZarrFormat {
        self.format
    }

    /// All variables with their roles, sorted by name.
    #[must_use]
    pub fn variables(&self) -> &[(Arc<Variable>, Role)] {
        &self.variables
    }

    /// The variable of this name.
    ///
    /// # Errors
    /// [`Error::NoSuch`] with the names that exist.
    pub fn variable(&self, name: &str) -> Result<&Arc<Variable>> {
        let found = self.variables.iter().find(|(variable, _)| variable.name() == name);
        found.map(|(variable, _)| variable).ok_or_else(|| Error::NoSuch {
            location: self.location.name().to_owned(),
            what: "variable",
            name: name.to_owned(),
            known: self.variables.iter().map(|(v, _)| v.name().to_owned()).collect(),
        })
    }

    /// All dimensions, in order of first use by the variables. A size is the length of the dimension's coordinate, or
    /// without a coordinate the extent of the first variable along the dimension.
    #[must_use]
    pub fn dims(&self) -> Vec<Dimension> {
        let mut names: Vec<&String> = Vec::new();
        for name in self.variables.iter().flat_map(|(variable, _)| variable.dims()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let dimension =
            |name: &String| Dimension { name: name.clone(), size: self.dimension_size(name) };
        names.into_iter().map(dimension).collect()
    }

    /// The names of the groups inside this one.
    #[must_use]
    pub fn children(&self) -> &[String] {
        &self.children
    }

    /// The options of [`Dataset::open`].
    #[must_use]
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// The name of the variable that the path named, if any.
    #[must_use]
    pub fn selected(&self) -> Option<&str> {
        self.selected.as_deref()
    }

    /// The names of the variables that hold one image at several resolutions, from the finest to the coarsest. Their
    /// dimensions share names but differ in size, so each level is a table of its own. Empty if the path or the option
    /// `variables` selects variables.
    #[must_use]
    pub fn levels(&self) -> &[String] {
        match (&self.selected, &self.options.variables, self.levels.as_slice()) {
            (None, None, levels @ [_, _, ..]) => levels,
            _ => &[],
        }
    }

    /// Makes a dataset of the metadata that a format read at `origin`.
    pub(crate) fn new(
        origin: Location,
        opened_by: Arc<dyn Format>,
        content: Content,
        options: &OpenOptions,
    ) -> Result<Self> {
        match content {
            Content::Group(group) => Self::from_group(origin, opened_by, *group, options),
            Content::Array(array) => Self::from_lone_array(origin, opened_by, *array, options),
        }
    }

    fn from_lone_array(
        origin: Location,
        opened_by: Arc<dyn Format>,
        array: ArrayContent,
        options: &OpenOptions,
    ) -> Result<Self> {
        let (name, location) = (array.name.clone(), array.location.clone());
        let mut variables = open_variables(vec![array], options, WantedArrays::Array(&name), None)?;
        let variable = variables.pop();
        let (attributes, format) = match &variable {
            Some(variable) => (variable.attributes().clone(), variable.layout().format),
            None => (Attributes::default(), ZarrFormat::V3),
        };
        Ok(Self {
            origin,
            opened_by,
            location,
            attributes,
            format,
            variables: variable.into_iter().map(|v| (Arc::new(v), Role::Data)).collect(),
            children: Vec::new(),
            selected: None,
            levels: Vec::new(),
            options: options.clone(),
        })
    }

    fn from_group(
        origin: Location,
        opened_by: Arc<dyn Format>,
        group: GroupContent,
        options: &OpenOptions,
    ) -> Result<Self> {
        let GroupContent { location, attributes, format, arrays, inherited, children, selected } =
            group;
        let multiscales = Multiscales::new(&attributes);
        let wanted = match (&selected, &options.variables) {
            (Some(name), _) => WantedArrays::Array(name),
            (None, Some(names)) => WantedArrays::These(names),
            (None, None) => WantedArrays::All,
        };
        let is_dropped = |array: &ArrayContent| {
            options.drop_variables.contains(&array.name) && selected.as_ref() != Some(&array.name)
        };
        let arrays = arrays.into_iter().filter(|array| !is_dropped(array)).collect();
        let mut variables = open_variables(arrays, options, wanted, multiscales.as_ref())?;

        // Groups inherit the dimension coordinates of the groups above where sizes agree, as in xarray's DataTree.
        for array in inherited.into_iter().filter(|a| !options.drop_variables.contains(&a.name)) {
            let inherited = open_variables(vec![array], options, WantedArrays::These(&[]), None)?;
            for variable in inherited {
                let name = variable.name();
                let fits = |v: &Variable| {
                    v.dims()
                        .iter()
                        .zip(v.shape())
                        .any(|(d, s)| d == name && *s == variable.shape()[0])
                };
                if variable.dims() == [name] && variables.iter().any(fits) {
                    variables.push(variable);
                }
            }
        }
        variables.sort_by(|a, b| a.name().cmp(b.name()));
        let roles = roles(&variables, &attributes, options);
        let children = with_fields(children, &attributes);
        let mut dataset = Self {
            origin,
            opened_by,
            location,
            attributes,
            format,
            variables: variables.into_iter().map(Arc::new).zip(roles).collect(),
            children,
            selected: None,
            levels: multiscales.map(|multiscales| multiscales.levels).unwrap_or_default(),
            options: options.clone(),
        };
        dataset.levels.retain(|level| dataset.variables.iter().any(|(v, _)| v.name() == level));
        if let Some(name) = selected {
            dataset.select(&name);
        } else if let Some(names) = &options.variables {
            dataset.keep(names)?;
        }
        Ok(dataset)
    }

    /// Keeps one variable and the coordinates on its dimensions; drops all other variables.
    fn select(&mut self, name: &str) {
        let Some((selected, _)) = self.variables.iter().find(|(v, _)| v.name() == name) else {
            return;
        };
        let selected = Arc::clone(selected);
        let size = |dim: &String| {
            let axis = selected.dims().iter().position(|d| d == dim)?;
            Some(selected.shape()[axis])
        };
        self.variables.retain(|(variable, role)| {
            let mut sizes = variable.dims().iter().zip(variable.shape());
            let fits = sizes.all(|(dim, own)| size(dim) == Some(*own));
            variable.name() == name || (role.is_coordinate() && fits)
        });
        for (variable, role) in &mut self.variables {
            if variable.name() == name && *role != Role::DimensionCoordinate {
                *role = Role::Data;
            }
        }
        self.location = match self.location.child(name) {
            Ok(location) => location,
            Err(_) => self.location.clone(),
        };
        self.selected = Some(name.to_owned());
    }

    /// Keeps these data variables and all coordinates; drops all other variables.
    fn keep(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            if !self.variables.iter().any(|(v, _)| v.name() == name) {
                return Err(Error::NoSuch {
                    location: self.location.name().to_owned(),
                    what: "variable",
                    name: name.clone(),
                    known: self.variables.iter().map(|(v, _)| v.name().to_owned()).collect(),
                });
            }
        }
        for (variable, role) in &mut self.variables {
            if names.iter().any(|n| n == variable.name()) && !role.is_coordinate() {
                *role = Role::Data;
            }
        }
        self.variables
            .retain(|(v, role)| role.is_coordinate() || names.iter().any(|n| n == v.name()));
        Ok(())
    }
}

/// The arrays of a group to open: all arrays, arrays of these names, or the array that the path named, which must
/// exist.
#[derive(Clone, Copy)]
enum WantedArrays<'a> {
    All,
    These(&'a [String]),
    Array(&'a str),
}

/// Opens the arrays of a group. Leaves out broken arrays, and warns of those that are `wanted`.
fn open_variables(
    arrays: Vec<ArrayContent>,
    options: &OpenOptions,
    wanted: WantedArrays<'_>,
    multiscales: Option<&Multiscales>,
) -> Result<Vec<Variable>> {
    let leave_out = |name: &str, error: Error| {
        let is_wanted = match wanted {
            WantedArrays::Array(wanted) if wanted == name => return Err(error),
            WantedArrays::Array(_) => false,
            WantedArrays::These(names) => names.iter().any(|wanted| wanted == name),
            WantedArrays::All => true,
        };
        if is_wanted {
            warn_once(&format!("the array '{name}' is left out: {error}"));
        }
        Ok(())
    };
    let asked: Vec<&str> = match wanted {
        WantedArrays::All => Vec::new(),
        WantedArrays::These(names) => names.iter().map(String::as_str).collect(),
        WantedArrays::Array(name) => vec![name],
    };
    let mut described = Vec::with_capacity(arrays.len());
    for ArrayContent { name, location, spec } in arrays {
        match spec {
            Ok(spec) => described.push((name, location, spec)),
            Err(error) => leave_out(&name, error)?,
        }
    }
    let unnamed = described.iter().map(|(array, _, spec)| Unnamed {
        array: array.as_str(),
        shape: &spec.layout.shape,
        stored: spec.dims.as_deref(),
    });
    let unnamed: Vec<Unnamed<'_>> = unnamed.collect();
    let dimensions = name_dimensions(&unnamed, multiscales, &asked);
    let are_strings = if options.decode_cf {
        let named = described.iter().zip(&dimensions);
        joinable(named.map(|((name, _, spec), dims)| (name.as_str(), spec, dims.names.as_slice())))
    } else {
        vec![false; described.len()]
    };
    let of_bounds = if options.times() != DecodeTimes::No {
        with_units(described.iter().map(|(name, _, spec)| (name.as_str(), &spec.attributes)))
    } else {
        vec![None; described.len()]
    };
    let mut variables = Vec::with_capacity(described.len());
    for ((((name, location, spec), mut dimensions), are_strings), of_bounds) in
        described.into_iter().zip(dimensions).zip(are_strings).zip(of_bounds)
    {
        let shorter =
            if are_strings { joined(&spec) } else { without_dimension(&spec, &dimensions.names) };
        if shorter.is_some() {
            dimensions.names.pop();
        }
        let (spec, decoded_by) = (shorter.unwrap_or(spec), of_bounds.as_ref());
        let array = NamedArray { name, location, spec, dimensions, decoded_by };
        variables.push(Variable::new(array, options));
    }
    Ok(variables)
}
