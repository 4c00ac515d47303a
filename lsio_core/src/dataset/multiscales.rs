//! Images at several resolutions, each an array of one group (OME-Zarr, section "multiscales").

use super::{Attribute, Attributes};

/// The most levels that are read. Each level halves the image, so 64-bit sizes can't have more.
const MAX_LEVELS: usize = 64;

/// The resolution levels and axes that a group's attributes name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Multiscales {
    /// The names of the arrays, from the finest level to the coarsest.
    pub(super) levels: Vec<String>,
    /// The names of the dimensions of every level.
    axes: Vec<String>,
}

impl Multiscales {
    /// Reads a group's attributes. `None` if they name no resolution levels.
    pub(super) fn new(attributes: &Attributes) -> Option<Self> {
        // OME-Zarr 0.5 and later nests the attributes in the object `ome`.
        let own = attributes.get("ome").and_then(|ome| ome.get("multiscales"));
        let image = own.or_else(|| attributes.get("multiscales"))?.as_list()?.first()?;
        let path = |level: &Attribute| Some(level.get("path")?.as_text()?.to_owned());
        let mut levels: Vec<String> = Vec::new();
        for level in image.get("datasets")?.as_list()?.iter().take(MAX_LEVELS) {
            let path = path(level)?;
            if !levels.contains(&path) {
                levels.push(path);
            }
        }
        // OME-Zarr 0.3 has plain names; earlier versions have one fixed order.
        let name = |axis: &Attribute| Some(axis.get("name").unwrap_or(axis).as_text()?.to_owned());
        let axes = match image.get("axes").and_then(Attribute::as_list) {
            Some(axes) => axes.iter().map(name).collect::<Option<_>>()?,
            None => ["t", "c", "z", "y", "x"].map(str::to_owned).to_vec(),
        };
        Some(Self { levels, axes })
    }

    /// The names of an array's dimensions. `None` if the array isn't a level, or if its rank isn't the number of axes.
    pub(super) fn dims(&self, array: &str, rank: usize) -> Option<&[String]> {
        let is_level = self.levels.iter().any(|level| level == array);
        (is_level && self.axes.len() == rank).then_some(&self.axes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::zarr::attributes::attributes;

    fn dims(value: &Value, rank: usize) -> Option<String> {
        let multiscales = Multiscales::new(&attributes(value.as_object()?.clone()))?;
        Some(multiscales.dims("1", rank)?.join(" "))
    }

    #[test]
    fn every_version_names_its_axes() {
        let datasets = json!([{"path": "0"}, {"path": "1"}]);
        let plain = json!({"multiscales": [{"datasets": datasets}]});
        assert_eq!(dims(&plain, 5).as_deref(), Some("t c z y x"));
        assert_eq!(dims(&plain, 4), None);
        let names = json!({"multiscales": [{"axes": ["y", "x"], "datasets": datasets}]});
        assert_eq!(dims(&names, 2).as_deref(), Some("y x"));
        let objects = json!({"ome": {"multiscales": [
            {"axes": [{"name": "c", "type": "channel"}, {"name": "x"}], "datasets": datasets},
        ]}});
        assert_eq!(dims(&objects, 2).as_deref(), Some("c x"));
        for other in
            [json!({}), json!({"multiscales": 3}), json!({"multiscales": [{"datasets": [3]}]})]
        {
            assert_eq!(dims(&other, 2), None);
        }
    }
}
