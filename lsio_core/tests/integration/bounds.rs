//! What an array doesn't have can't be read: that is an error, neither values nor a panic.

use std::sync::Arc;

use arrow::{
    array::{Array as _, AsArray as _},
    datatypes::Float32Type,
};
use lsio_core::{Dataset, Error, Location, OpenOptions, Selection, grid::Region};
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};

/// 24 times, 5 latitudes, 8 longitudes.
async fn open(shards: Option<[u64; 3]>) -> (tempfile::TempDir, Dataset) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let specification = Specification {
        times: 24,
        latitudes: 5,
        longitudes: 8,
        chunks: [12, 2, 8],
        shards,
        compression: Compression::Zstd(3),
        packed: false,
        one_chunk: false,
    };
    reanalysis::write(&path, &specification).unwrap();
    let location = Location::parse(&path.to_string_lossy()).unwrap();
    let dataset = Dataset::open(&location, &OpenOptions::default()).await.unwrap();
    (directory, dataset)
}

#[tokio::test]
async fn what_lies_beyond_an_array_is_an_error() {
    for shards in [None, Some([24, 6, 8])] {
        let (_directory, dataset) = open(shards).await;
        let t2m = dataset.variable("t2m").unwrap();
        let region =
            |start: &[u64], shape: &[u64]| Region { start: start.to_vec(), shape: shape.to_vec() };
        for beyond in [
            region(&[0, 0, 0], &[25, 5, 8]),
            region(&[23, 4, 7], &[1, 2, 1]),
            region(&[u64::MAX, 0, 0], &[2, 1, 1]),
            region(&[0, 0], &[24, 5]),
            region(&[0, 0, 0, 0], &[1, 1, 1, 1]),
            region(&[0, 0], &[1, 1, 1]),
        ] {
            let error = t2m.read(&beyond).await.unwrap_err();
            assert!(matches!(error, Error::OutOfBounds { .. }), "{beyond:?}: {error}");
            assert!(error.to_string().contains("[24, 5, 8]"), "{error}");
        }
        assert_eq!(t2m.read(&region(&[24, 0, 0], &[0, 5, 8])).await.unwrap().len(), 0);

        for chunk in [&[2, 0, 0][..], &[0, 3, 0], &[0, 0], &[0, 0, 0, 0], &[u64::MAX, 0, 0]] {
            let fetched = t2m.fetch_chunk(chunk).await.unwrap_err();
            assert!(matches!(fetched, Error::OutOfBounds { .. }), "{chunk:?}: {fetched}");
            let decoded = t2m.decode_chunk(chunk, None, &Arc::default()).unwrap_err();
            assert!(matches!(decoded, Error::OutOfBounds { .. }), "{chunk:?}: {decoded}");
        }
        let last = t2m.fetch_chunk(&[1, 2, 0]).await.unwrap();
        // One row of latitudes: those beyond the edge are cut off.
        assert_eq!(t2m.decode_chunk(&[1, 2, 0], last.as_ref(), &Arc::default()).unwrap().len(), 96);

        let all = |size| Selection::all(size);
        for wanted in [vec![all(24), all(6), all(8)], vec![all(24), all(5)]] {
            let error = t2m.read_selected(&wanted).await.unwrap_err();
            assert!(matches!(error, Error::OutOfBounds { .. }), "{wanted:?}: {error}");
        }
        let error = dataset.variable("t2n").unwrap_err();
        assert!(error.to_string().contains("t2m"), "{error}");
    }
}

#[tokio::test]
async fn selections_are_the_cells_at_which_they_meet() {
    for shards in [None, Some([24, 6, 8])] {
        let (_directory, dataset) = open(shards).await;
        let t2m = dataset.variable("t2m").unwrap();
        let whole = t2m.read_all().await.unwrap();
        let whole = whole.as_primitive::<Float32Type>();
        let wanted: [Selection; 3] = [
            [1..3, 11..14].into_iter().collect(),
            [0..1, 4..5].into_iter().collect(),
            std::iter::once(7..8).collect(),
        ];
        let selected = t2m.read_selected(&wanted).await.unwrap();
        let mut cells = Vec::new();
        for time in wanted[0].iter() {
            for latitude in wanted[1].iter() {
                cells.push(whole.value(((time * 5 + latitude) * 8 + 7) as usize));
            }
        }
        assert_eq!(selected.as_primitive::<Float32Type>().values(), &cells[..]);
        assert_eq!(selected.null_count(), 0);
        let nothing = [Selection::all(24), Selection::default(), Selection::all(8)];
        assert_eq!(t2m.read_selected(&nothing).await.unwrap().len(), 0);
    }
}
