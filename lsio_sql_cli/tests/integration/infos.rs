//! What `lsio info` says of stores, as snapshots. `INSTA_UPDATE=always cargo test … infos` writes them anew.

use std::process::Command;

use crate::cli::succeeded;

/// The name of the snapshot, the directory of fixtures, and the store in it.
const STORES: [(&str, &str, &str); 4] = [
    ("coordinates_and_attributes", "lsio_datafusion", "gridded_v2.zarr"),
    ("data_types", "lsio_datafusion", "dtypes_v3.zarr"),
    ("several_tables", "lsio_datafusion", "grids.zarr"),
    ("levels_of_an_image_in_an_archive", "lsio_core", "matrix.zip/stores/ome2"),
];

#[test]
fn infos_are_the_snapshots() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (name, of, store) in STORES {
        // Paths are shown as they are given.
        let fixtures = format!("{}/../{of}/tests/fixtures", env!("CARGO_MANIFEST_DIR"));
        let mut lsio = Command::new(env!("CARGO_BIN_EXE_lsio"));
        let output = lsio.current_dir(fixtures).args(["info", store]).output().unwrap();
        settings.set_description(format!("lsio info {store}"));
        settings.bind(|| insta::assert_snapshot!(format!("info_{name}"), succeeded(&output)));
    }
}
