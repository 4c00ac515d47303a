//! The store that the examples read.

use std::{io, path::Path};

use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};

/// Writes two days of a coarse synthetic reanalysis, and gives its path.
pub(crate) fn write(directory: &Path) -> io::Result<String> {
    let store = directory.join("era5.zarr");
    reanalysis::write(
        &store,
        &Specification {
            times: 48,
            latitudes: 19,
            longitudes: 36,
            chunks: [24, 10, 36],
            shards: None,
            compression: Compression::Zstd(3),
            packed: false,
            one_chunk: false,
        },
    )?;
    Ok(store.to_string_lossy().into_owned())
}
