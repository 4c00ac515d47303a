//! The names of dimensions: stored by the arrays, or else invented.

use std::collections::{BTreeMap, BTreeSet};

use super::multiscales::Multiscales;

/// The dimensions of one array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dimensions {
    pub names: Vec<String>,
    /// Whether the array itself stores the names.
    pub named: bool,
}

/// An array whose dimensions need names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unnamed<'a> {
    pub(super) array: &'a str,
    pub(super) shape: &'a [u64],
    /// The names that the array itself stores, one per dimension.
    pub(super) stored: Option<&'a [Option<String>]>,
}

/// Names the dimensions of one group's arrays, in the order given. `multiscales` names the dimensions of images.
/// Invented names of arrays that were `asked` for by name don't depend on the other arrays of the group.
pub(super) fn name_dimensions(
    arrays: &[Unnamed<'_>],
    multiscales: Option<&Multiscales>,
    asked: &[&str],
) -> Vec<Dimensions> {
    // The names that the metadata give, and whether the array itself stores them.
    let stored: Vec<(Option<Vec<Option<String>>>, bool)> = arrays
        .iter()
        .map(|Unnamed { array, shape, stored }| {
            let axes = || multiscales?.dims(array, shape.len());
            let of_image = || Some(axes()?.iter().cloned().map(Some).collect());
            match stored {
                Some(names) => (Some(names.to_vec()), true),
                None => (of_image(), false),
            }
        })
        .collect();

    // Axis i is called dim_i, unless the arrays without a name for it differ in size along it: then it wouldn't be
    // one dimension. If some arrays were asked for, they alone decide what dim_i is.
    let mut sizes: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let mut of_asked: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for (Unnamed { array, shape, .. }, (names, _)) in arrays.iter().zip(&stored) {
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
        .map(|(Unnamed { shape, .. }, (stored, named))| {
            let stored = stored.unwrap_or_else(|| vec![None; shape.len()]);
            let names = stored
                .into_iter()
                .zip(*shape)
                .enumerate()
                .map(|(i, (name, &size))| name.unwrap_or_else(|| invented(i, size)))
                .collect();
            Dimensions { names: without_repeats(names), named }
        })
        .collect()
}

/// Appends `_1`, `_2`, … to names that one array repeats, as a covariance does.
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
    use super::*;

    #[test]
    fn names_of_what_was_asked_for_depend_on_nothing_else() {
        let names = |shapes: &[(&'static str, &[u64])], asked: &[&str]| {
            let arrays: Vec<_> = shapes
                .iter()
                .map(|(array, shape)| Unnamed { array, shape, stored: None })
                .collect();
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
