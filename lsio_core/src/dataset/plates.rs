//! Wells of plates and the images in wells (OME-Zarr, sections "plate" and "well"): groups that a parent's attributes
//! name by path, at any depth.

use super::{Attribute, Attributes};

/// The most groups that are read of the attributes; the largest plates have 1,536 wells.
const MOST: usize = 16_384;

/// Adds the groups that the attributes name to the child `groups`. Replaces a row of a plate, which holds only wells,
/// by its wells.
pub(crate) fn with_fields(groups: Vec<String>, attributes: &Attributes) -> Vec<String> {
    let named = named(attributes);
    let is_row = |group: &String| {
        let inside = |path: &String| path.strip_prefix(group).is_some_and(|p| p.starts_with('/'));
        named.iter().any(inside)
    };
    let mut all: Vec<String> = groups.into_iter().filter(|group| !is_row(group)).collect();
    for path in named {
        if !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

/// The paths of the wells of a plate, or of the images of a well.
fn named(attributes: &Attributes) -> Vec<String> {
    // OME-Zarr 0.5 and later nests the attributes in the object `ome`.
    let of = |key: &str| attributes.get("ome").and_then(|ome| ome.get(key)).or(attributes.get(key));
    let wells = of("plate").and_then(|plate| plate.get("wells"));
    let images = of("well").and_then(|well| well.get("images"));
    let list = wells.or(images).and_then(Attribute::as_list).into_iter().flatten();
    let path = |item: &Attribute| {
        let path = item.get("path")?.as_text()?.trim_matches('/');
        crate::location::check_node_path(path).is_ok().then(|| path.to_owned())
    };
    list.take(MOST).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::zarr::attributes::attributes;

    fn groups(groups: &[&str], value: &Value) -> String {
        let groups = groups.iter().map(|name| (*name).to_owned()).collect();
        with_fields(groups, &attributes(value.as_object().unwrap().clone())).join(" ")
    }

    #[test]
    fn wells_and_images_are_named() {
        let plate = json!({"wells": [{"path": "A/1"}, {"path": "B/2"}, {"path": "../x"}, {}]});
        let old = json!({"plate": plate});
        assert_eq!(groups(&["A", "B", "OME"], &old), "OME A/1 B/2");
        assert_eq!(groups(&[], &json!({"ome": {"plate": plate}})), "A/1 B/2");
        let well = json!({"ome": {"well": {"images": [{"path": "0"}, {"path": "1"}]}}});
        assert_eq!(groups(&["0"], &well), "0 1");
        assert_eq!(groups(&["a"], &json!({"plate": 3, "well": {}})), "a");
    }
}
