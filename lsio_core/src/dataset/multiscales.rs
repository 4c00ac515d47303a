//! Images at several resolutions, each an array of one group (OME-Zarr, section "multiscales").

use super::{Attribute, Attributes};

/// The levels that are looked at: each halves an image, so that there can't be more.
const MAX_LEVELS: usize = 64;

/// What a group's attributes say of its images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Multiscales {
    /// The names of the arrays, from the finest level to the coarsest.
    pub(super) levels: Vec<String>,
    /// The names of their dimensions.
    axes: Vec<String>,
}

impl Multiscales {
    /// `None` if there are none.
    pub(super) fn new(attributes: &Attributes) -> Option<Self> {
        // Since version 0.5 the attributes are one object.
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
        // Version 0.3 had plain names, and before that there was one order for all.
        let name = |axis: &Attribute| Some(axis.get("name").unwrap_or(axis).as_text()?.to_owned());
        let axes = match image.get("axes").and_then(Attribute::as_list) {
            Some(axes) => axes.iter().map(name).collect::<Option<_>>()?,
            None => ["t", "c", "z", "y", "x"].map(str::to_owned).to_vec(),
        };
        Some(Self { levels, axes })
    }

    /// The names of the dimensions of an array, if it is one of the levels.
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
