//! The names of dimensions: where arrays say them, and what they are called where they don't.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    document::{ArrayDocument, ZarrFormat},
    multiscales::Multiscales,
};

/// The dimensions of one array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dimensions {
    pub names: Vec<String>,
    /// Whether the array itself names them.
    pub named: bool,
}

/// Names the dimensions of the arrays of one group, in the order given. `multiscales` names those of
/// images.
pub(super) fn name_dimensions(
    arrays: &[(&str, &ArrayDocument, Vec<u64>)],
    multiscales: Option<&Multiscales>,
) -> Vec<Dimensions> {
    // What names the dimensions of an array, and whether that is the array itself.
    let stored: Vec<(Option<Vec<Option<String>>>, bool)> = arrays
        .iter()
        .map(|(name, document, shape)| {
            let axes = || multiscales?.dims(name, shape.len());
            let of_image = || Some(axes()?.iter().cloned().map(Some).collect());
            match stored_names(document, shape.len()) {
                Some(names) => (Some(names), true),
                None => (of_image(), false),
            }
        })
        .collect();

    // Position i is called dim_i, unless the arrays that don't name it have different sizes there:
    // then it wouldn't be one dimension.
    let mut sizes: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for ((_, _, shape), (names, _)) in arrays.iter().zip(&stored) {
        for (i, &size) in shape.iter().enumerate() {
            if names.as_ref().is_none_or(|names| names[i].is_none()) {
                sizes.entry(i).or_default().insert(size);
            }
        }
    }
    let invented = |i: usize, size: u64| {
        if sizes.get(&i).is_some_and(|sizes| sizes.len() > 1) {
            format!("dim_{i}_{size}")
        } else {
            format!("dim_{i}")
        }
    };
    arrays
        .iter()
        .zip(stored)
        .map(|((_, _, shape), (stored, named))| {
            let stored = stored.unwrap_or_else(|| vec![None; shape.len()]);
            let names = stored
                .into_iter()
                .zip(shape)
                .enumerate()
                .map(|(i, (name, &size))| name.unwrap_or_else(|| invented(i, size)))
                .collect();
            Dimensions { names: without_repeats(names), named }
        })
        .collect()
}

/// The names that the array stores, one for each dimension; `None` if there are none.
fn stored_names(document: &ArrayDocument, rank: usize) -> Option<Vec<Option<String>>> {
    let from_list = |list: &Value| -> Option<Vec<Option<String>>> {
        let names = list.as_array()?;
        let fits = names.len() == rank;
        if !fits {
            log::warn!(
                "{}: {} dimension names for {rank} dimensions are ignored",
                document.key,
                names.len()
            );
        }
        fits.then(|| names.iter().map(|name| name.as_str().map(str::to_owned)).collect())
    };
    let v3 = document.metadata.get("dimension_names").and_then(from_list);
    let attribute = || document.attributes.get("_ARRAY_DIMENSIONS").and_then(from_list);
    // NCZarr names dimensions by their paths; older versions in the array's metadata, newer ones in its
    // attributes.
    let from_paths = |object: Option<&Value>, key: &str| {
        let names = from_list(object?.get(key)?)?;
        let last = |path: String| path.rsplit('/').next().map(str::to_owned);
        Some(names.into_iter().map(|path| path.and_then(last).filter(|n| !n.is_empty())).collect())
    };
    let nczarr = || {
        let (old, new) =
            (document.metadata.get("_NCZARR_ARRAY"), document.attributes.get("_nczarr_array"));
        from_paths(old, "dimrefs")
            .or_else(|| from_paths(new, "dimension_references"))
            .or_else(|| from_paths(document.attributes.get("_NCZARR_ARRAY"), "dimrefs"))
    };
    // A scalar has no names to store: in v3 its metadata may leave them out.
    let scalar = || (rank == 0 && document.format == ZarrFormat::V3).then(Vec::new);
    v3.or_else(attribute).or_else(nczarr).or_else(scalar)
}

/// A dimension repeated in one array (a covariance, say) gets `_1`, `_2`, ….
fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let mut unique = name.clone();
        let mut n = 0;
        while out.contains(&unique) {
            n += 1;
            unique = format!("{name}_{n}");
        }
        out.push(unique);
    }
    out
}
