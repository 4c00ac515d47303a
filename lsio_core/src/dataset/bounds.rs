//! Bounds of times, which inherit the units and the calendar of their time variable (CF conventions, section 7.1).

use super::Attributes;

/// For each array that holds the bounds of a time, its attributes, completed with the time's units and calendar. `None`
/// for all other arrays.
pub(super) fn with_units<'a>(
    arrays: impl Iterator<Item = (&'a str, &'a Attributes)> + Clone,
) -> Vec<Option<Attributes>> {
    let times: Vec<(&str, &Attributes)> = arrays
        .clone()
        .filter(|(_, time)| time.text("units").is_some_and(|units| units.contains("since")))
        .filter_map(|(_, time)| Some((time.text("bounds")?, time)))
        .collect();
    let completed = |(name, attributes): (&str, &Attributes)| {
        let (_, time) = times.iter().find(|(bounds, _)| *bounds == name)?;
        let mut completed = attributes.clone();
        for key in ["units", "calendar"] {
            if let Some(value) = time.get(key) {
                completed.add_missing(key, value);
            }
        }
        Some(completed)
    };
    arrays.map(completed).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::zarr::attributes::attributes;

    fn array(value: &Value) -> Attributes {
        attributes(value.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn bounds_have_the_units_of_their_time() {
        let time = json!({"units": "days since 2000-01-01", "calendar": "noleap", "bounds": "tb"});
        let lat = json!({"units": "degrees_north", "bounds": "lat_b"});
        let arrays = |bounds: &Value| {
            let arrays = [
                ("t", array(&time)),
                ("tb", array(bounds)),
                ("lat", array(&lat)),
                ("lat_b", array(&json!({}))),
            ];
            with_units(arrays.iter().map(|(name, attributes)| (*name, attributes)))
        };
        let of_time = array(&json!({"units": "days since 2000-01-01", "calendar": "noleap"}));
        assert_eq!(arrays(&json!({})), [None, Some(of_time), None, None]);
        let own = json!({"units": "hours since 1990-01-01"});
        let completed = array(&json!({"units": "hours since 1990-01-01", "calendar": "noleap"}));
        assert_eq!(arrays(&own)[1], Some(completed));
    }
}
