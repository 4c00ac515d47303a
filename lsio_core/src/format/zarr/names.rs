//! Names of dimensions in Zarr's metadata and attributes.

use super::{attributes::attribute, documents::ArrayDocument};
use crate::{
    dataset::{Attribute, ZarrFormat},
    error::warn_once,
};

/// Stored names, one per dimension; `None` if the array stores none.
pub(super) fn stored_names(document: &ArrayDocument, rank: usize) -> Option<Vec<Option<String>>> {
    let from_list = |list: &Attribute| -> Option<Vec<Option<String>>> {
        let names = list.as_list()?;
        let fits = names.len() == rank;
        if !fits {
            warn_once(&format!(
                "{}: {} dimension names for {rank} dimensions are ignored",
                document.key,
                names.len()
            ));
        }
        fits.then(|| names.iter().map(|name| name.as_text().map(str::to_owned)).collect())
    };
    let member = |key: &str| document.metadata.get(key).cloned().map(attribute);
    let v3 = member("dimension_names").as_ref().and_then(from_list);
    let attribute = || document.attributes.get("_ARRAY_DIMENSIONS").and_then(from_list);
    // NCZarr names dimensions by their paths: older versions in the array's metadata, newer versions in its attributes.
    let from_paths = |object: Option<&Attribute>, key: &str| {
        let names = from_list(object?.get(key)?)?;
        let last = |path: String| path.rsplit('/').next().map(str::to_owned);
        Some(names.into_iter().map(|path| path.and_then(last).filter(|n| !n.is_empty())).collect())
    };
    let nczarr = || {
        from_paths(member("_NCZARR_ARRAY").as_ref(), "dimrefs")
            .or_else(|| {
                from_paths(document.attributes.get("_nczarr_array"), "dimension_references")
            })
            .or_else(|| from_paths(document.attributes.get("_NCZARR_ARRAY"), "dimrefs"))
    };
    // A scalar has no names to store: v3 metadata may leave them out.
    let scalar = || (rank == 0 && document.format == ZarrFormat::V3).then(Vec::new);
    v3.or_else(attribute).or_else(nczarr).or_else(scalar)
}
