//! The names of dimensions: where arrays say them, and what they are called where they don't.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    document::{ArrayDocument, ZarrFormat},
    multiscales::Multiscales,
};
use crate::error::warn_once;

/// The dimensions of one array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dimensions {
    pub names: Vec<String>,
    /// Whether the array itself names them.
    pub named: bool,
}

/// Names the dimensions of the arrays of one group, in the order given. `multiscales` names those of
/// images. Of arrays that were `asked` for by their names, invented names don't depend on what else is in
/// the group.
pub(super) fn name_dimensions(
    arrays: &[(&str, &ArrayDocument, Vec<u64>)],
    multiscales: Option<&Multiscales>,
    asked: &[&str],
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
    // then it wouldn't be one dimension. Where some were asked for, they alone decide what dim_i is.
    let mut sizes: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let mut of_asked: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for ((array, _, shape), (names, _)) in arrays.iter().zip(&stored) {
        for (i, &size) in shape.iter().enumerate() {
            if names.as_ref().is_none_or(|names| names[i].is_none()) {
                sizes.entry(i).or_default().insert(size);
                if asked.contains(array) {
                    of_asked.entry(i).or_default().insert(size);
                }
            }
        }
    }
    let invented = |i: usize, size: u64| {
        let known = of_asked.get(&i).or_else(|| sizes.get(&i));
        if known.is_some_and(|known| known.iter().any(|known| *known != size)) {
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
            warn_once(&format!(
                "{}: {} dimension names for {rank} dimensions are ignored",
                document.key,
                names.len()
            ));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_what_was_asked_for_depend_on_nothing_else() {
        let document = ArrayDocument {
            format: ZarrFormat::V2,
            metadata: json!({}).as_object().unwrap().clone(),
            attributes: serde_json::Map::new(),
            key: "a".to_owned(),
        };
        let names = |shapes: &[(&'static str, &[u64])], asked: &[&str]| {
            let arrays: Vec<_> =
                shapes.iter().map(|(name, shape)| (*name, &document, shape.to_vec())).collect();
            let dimensions = name_dimensions(&arrays, None, asked);
            dimensions.iter().map(|d| d.names.join(" ")).collect::<Vec<_>>()
        };
        let pca: (&str, &[u64]) = ("X_pca", &[9, 50]);
        let umap: (&str, &[u64]) = ("X_umap", &[9, 2]);
        assert_eq!(names(&[pca], &[]), ["dim_0 dim_1"]);
        assert_eq!(names(&[pca, umap], &[]), ["dim_0 dim_1_50", "dim_0 dim_1_2"]);
        assert_eq!(names(&[pca, umap], &["X_pca"]), ["dim_0 dim_1", "dim_0 dim_1_2"]);
        assert_eq!(names(&[pca, umap], &["X_umap"]), ["dim_0 dim_1_50", "dim_0 dim_1"]);
        assert_eq!(
            names(&[pca, umap, ("c", &[7])], &["X_pca", "X_umap"]),
            ["dim_0 dim_1_50", "dim_0 dim_1_2", "dim_0_7"]
        );
    }
}
