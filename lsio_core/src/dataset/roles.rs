//! The role of each variable of a dataset, derived from its name, its dimensions, and the attributes that refer to it.

use super::{Attributes, Variable};
use crate::OpenOptions;

/// The role of a variable in its dataset (CF conventions, sections 5 and 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A one-dimensional variable with the name of its dimension.
    DimensionCoordinate,
    /// A variable that a `coordinates` attribute names.
    AuxiliaryCoordinate,
    /// The bounds of a coordinate's cells.
    Bounds,
    /// The description of a map projection.
    GridMapping,
    /// Any other variable: the data.
    Data,
}

impl Role {
    /// The role's name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DimensionCoordinate => "dimension coordinate",
            Self::AuxiliaryCoordinate => "auxiliary coordinate",
            Self::Bounds => "bounds",
            Self::GridMapping => "grid mapping",
            Self::Data => "data variable",
        }
    }

    /// Whether the role is a dimension coordinate or an auxiliary coordinate.
    #[must_use]
    pub fn is_coordinate(self) -> bool {
        matches!(self, Self::DimensionCoordinate | Self::AuxiliaryCoordinate)
    }
}

/// The roles of the variables of a group, in their order.
pub(super) fn roles(
    variables: &[Variable],
    group_attributes: &Attributes,
    options: &OpenOptions,
) -> Vec<Role> {
    let references = References::new(variables, group_attributes, options);
    variables.iter().map(|variable| references.role(variable, variables)).collect()
}

/// The names of variables that attributes refer to.
struct References<'a> {
    bounds: Vec<&'a str>,
    grid_mappings: Vec<&'a str>,
    auxiliary: Vec<&'a str>,
}

impl<'a> References<'a> {
    fn new(
        variables: &'a [Variable],
        group_attributes: &'a Attributes,
        options: &OpenOptions,
    ) -> Self {
        let texts = |key: &'static str| variables.iter().filter_map(|v| v.text_attribute(key));
        let mut auxiliary: Vec<&str> = Vec::new();
        if options.decode_cf && options.decode_coords {
            let of_group = group_attributes.text("coordinates");
            let lists = texts("coordinates").chain(of_group);
            auxiliary.extend(lists.flat_map(str::split_whitespace));
        }
        Self {
            bounds: texts("bounds").chain(texts("climatology")).collect(),
            grid_mappings: texts("grid_mapping").flat_map(mapping_names).collect(),
            auxiliary,
        }
    }

    fn role(&self, variable: &Variable, all: &[Variable]) -> Role {
        let name = variable.name();
        if is_dimension_coordinate(variable) {
            Role::DimensionCoordinate
        } else if self.bounds.contains(&name) || self.is_bounds_by_name(variable, all) {
            Role::Bounds
        } else if self.grid_mappings.contains(&name) {
            Role::GridMapping
        } else if self.auxiliary.contains(&name) {
            Role::AuxiliaryCoordinate
        } else {
            Role::Data
        }
    }

    /// Whether a variable has a coordinate's name with a suffix for bounds, and one dimension more than the coordinate.
    fn is_bounds_by_name(&self, variable: &Variable, all: &[Variable]) -> bool {
        ["_bnds", "_bnd", "_bounds"].iter().any(|suffix| {
            let Some(name) = variable.name().strip_suffix(suffix) else { return false };
            all.iter().any(|coordinate| {
                coordinate.name() == name
                    && (is_dimension_coordinate(coordinate) || self.auxiliary.contains(&name))
                    && variable.dims().len() == coordinate.dims().len() + 1
                    && variable.dims().starts_with(coordinate.dims())
            })
        })
    }
}

fn is_dimension_coordinate(variable: &Variable) -> bool {
    variable.dims() == [variable.name()]
}

/// The mappings that a `grid_mapping` attribute names: `crs`, or in the extended form `crs: x y latlon: lat lon` the
/// words before a colon (CF conventions, section 5.6).
fn mapping_names(attribute: &str) -> Vec<&str> {
    let extended: Vec<&str> =
        attribute.split_whitespace().filter_map(|word| word.strip_suffix(':')).collect();
    if extended.is_empty() { attribute.split_whitespace().collect() } else { extended }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_mappings_in_both_forms() {
        assert_eq!(mapping_names("crs"), ["crs"]);
        assert_eq!(mapping_names("crs: x y latlon: lat lon"), ["crs", "latlon"]);
        assert_eq!(mapping_names(""), [""; 0]);
    }
}
