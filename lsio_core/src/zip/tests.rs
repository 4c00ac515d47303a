//! Good archives of all shapes and bad archives of all kinds, written here. Archives by other tools are among the
//! fixtures of lsio_datafusion.

use std::io::Write as _;

use object_store::{ObjectStoreExt as _, memory::InMemory};

use super::*;

/// An entry to write.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    data: Vec<u8>,
    method: u16,
    flags: u16,
    local_extra: Vec<u8>,
}

fn stored(name: &str, data: &[u8]) -> Entry {
    let (name, data) = (name.as_bytes().to_vec(), data.to_vec());
    Entry { name, data, method: 0, flags: 0, local_extra: Vec::new() }
}

fn deflated(name: &str, data: &[u8]) -> Entry {
    Entry { method: 8, ..stored(name, data) }
}

/// Layout of the archive around its entries.
#[derive(Clone, Default)]
struct Shape {
    front: Vec<u8>,
    comment: Vec<u8>,
    zip64: bool,
}

fn write(entries: &[Entry]) -> Vec<u8> {
    write_as(entries, &Shape::default())
}

fn write_as(entries: &[Entry], shape: &Shape) -> Vec<u8> {
    let mut out = shape.front.clone();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = (out.len() - shape.front.len()) as u64;
        let bytes = match entry.method {
            8 => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(&entry.data).unwrap();
                encoder.finish().unwrap()
            }
            _ => entry.data.clone(),
        };
        let mut crc = flate2::Crc::new();
        crc.update(&entry.data);
        let mut extra = Vec::new();
        let (sizes, place) = match shape.zip64 {
            true => {
                // Another extra field first, which is allowed.
                extra.extend([0xfe, 0xca, 2, 0, 9, 9, 1, 0, 24, 0]);
                for wide in [entry.data.len() as u64, bytes.len() as u64, offset] {
                    extra.extend(wide.to_le_bytes());
                }
                ([u32::MAX; 2], u32::MAX)
            }
            false => ([bytes.len() as u32, entry.data.len() as u32], offset as u32),
        };
        let both = |version: u16| {
            let mut both = version.to_le_bytes().to_vec();
            both.extend([entry.flags, entry.method, 0, 0x21].map(u16::to_le_bytes).as_flattened());
            both.extend(crc.sum().to_le_bytes());
            both.extend(sizes.map(u32::to_le_bytes).as_flattened());
            both.extend((entry.name.len() as u16).to_le_bytes());
            both
        };
        out.extend(b"PK\x03\x04");
        out.extend(both(20));
        out.extend((entry.local_extra.len() as u16).to_le_bytes());
        out.extend(&entry.name);
        out.extend(&entry.local_extra);
        out.extend(bytes);

        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(both(20));
        directory.extend((extra.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(place.to_le_bytes());
        directory.extend(&entry.name);
        directory.extend(extra);
    }
    let start = (out.len() - shape.front.len()) as u64;
    let (count, size) = (entries.len() as u64, directory.len() as u64);
    out.extend(directory);
    if shape.zip64 {
        let record = (out.len() - shape.front.len()) as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44_u64.to_le_bytes());
        out.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend([count, count, size, start].map(u64::to_le_bytes).as_flattened());
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend(record.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend([0xff; 12]);
    } else {
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend([count as u16; 2].map(u16::to_le_bytes).as_flattened());
        out.extend([size as u32, start as u32].map(u32::to_le_bytes).as_flattened());
    }
    out.extend((shape.comment.len() as u16).to_le_bytes());
    out.extend(&shape.comment);
    out
}

async fn open(archive: Vec<u8>) -> (Arc<InMemory>, ZipStore) {
    let memory = Arc::new(InMemory::new());
    memory.put(&Path::from("folder/a.zip"), archive.into()).await.unwrap();
    let store = ZipStore::new(Arc::clone(&memory) as _, Path::from("folder/a.zip"));
    (memory, store)
}

async fn read(store: &ZipStore, key: &str) -> Result<Bytes> {
    store.get(&Path::parse(key).unwrap()).await?.bytes().await
}

/// Keys and sizes in a listing.
async fn keys(store: &dyn ObjectStore, prefix: Option<&str>) -> Vec<(String, u64)> {
    let prefix = prefix.map(|prefix| Path::parse(prefix).unwrap());
    let listed: Vec<ObjectMeta> = store.list(prefix.as_ref()).try_collect().await.unwrap();
    let mut keys: Vec<_> = listed.into_iter().map(|m| (m.location.to_string(), m.size)).collect();
    keys.sort();
    keys
}

/// Error of opening the archive, or of reading its entry `a`.
async fn error(archive: Vec<u8>) -> String {
    let (_, store) = open(archive).await;
    match read(&store, "a").await {
        Ok(bytes) => panic!("it gave {bytes:?}"),
        Err(error) => error.to_string(),
    }
}

fn position(archive: &[u8], signature: &[u8]) -> usize {
    archive.windows(signature.len()).position(|window| window == signature).unwrap()
}

/// Overwrites bytes at an offset from the first occurrence of a signature.
fn patch(archive: &[u8], signature: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let at = position(&archive, signature) + offset;
    archive[at..at + bytes.len()].copy_from_slice(bytes);
    archive
}

const LINE: &[u8] = b"PK\x01\x02";
const HEADER: &[u8] = b"PK\x03\x04";
const END: &[u8] = b"PK\x05\x06";

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[tokio::test]
async fn reads_what_an_object_store_reads() {
    let contents = [
        ("zarr.json", b"{}".to_vec()),
        ("a/zarr.json", b"{\"a\": 1}".to_vec()),
        ("a/c/0", noise(1_000)),
        ("a/c/1", vec![7; 5_000]),
        ("ab/c", vec![1, 2, 3]),
        ("température/100%", b"x".to_vec()),
        ("empty", Vec::new()),
    ];
    let memory = InMemory::new();
    for (key, data) in &contents {
        memory.put(&Path::parse(key).unwrap(), data.clone().into()).await.unwrap();
    }
    for shape in [
        Shape::default(),
        Shape { front: vec![9; 1_000], ..Shape::default() },
        Shape { comment: b"PK\x05\x06 is no end record here".repeat(2_000), ..Shape::default() },
        Shape { zip64: true, ..Shape::default() },
        Shape { zip64: true, front: vec![9; 1_000], comment: vec![0; 65_535] },
    ] {
        let mut entries = vec![stored("a/", b"")];
        for (i, (key, data)) in contents.iter().enumerate() {
            // Half of the entries stored, half deflated; local headers longer than the directory says.
            let entry = if i % 2 == 0 { stored(key, data) } else { deflated(key, data) };
            let local_extra = vec![0xca, 0xfe, 5, 0, 1, 2, 3, 4, 5];
            entries.push(Entry { local_extra, ..entry });
        }
        let (_, zip) = open(write_as(&entries, &shape)).await;
        for prefix in [None, Some("a"), Some("a/c"), Some("a/c/0"), Some("b"), Some("ab")] {
            assert_eq!(keys(&zip, prefix).await, keys(&memory, prefix).await, "{prefix:?}");
            let prefix = prefix.map(|prefix| Path::parse(prefix).unwrap());
            let listed = zip.list_with_delimiter(prefix.as_ref()).await.unwrap();
            let expected = memory.list_with_delimiter(prefix.as_ref()).await.unwrap();
            assert_eq!(listed.common_prefixes, expected.common_prefixes);
            let names = |listed: ListResult| {
                listed.objects.into_iter().map(|o| (o.location, o.size)).collect::<Vec<_>>()
            };
            assert_eq!(names(listed), names(expected));
        }
        for (key, data) in &contents {
            let path = Path::parse(key).unwrap();
            for range in [
                None,
                Some(GetRange::Bounded(1..3)),
                Some(GetRange::Bounded(1..100_000)),
                Some(GetRange::Bounded(2..2)),
                Some(GetRange::Offset(2)),
                Some(GetRange::Offset(5_000)),
                Some(GetRange::Suffix(2)),
                Some(GetRange::Suffix(100_000)),
            ] {
                let options = || GetOptions { range: range.clone(), ..GetOptions::default() };
                let expected = memory.get_opts(&path, options()).await;
                let actual = zip.get_opts(&path, options()).await;
                let (Ok(expected), Ok(actual)) = (&expected, &actual) else {
                    assert_eq!(expected.is_ok(), actual.is_ok(), "{key} {range:?}");
                    continue;
                };
                assert_eq!(actual.meta.size, data.len() as u64);
                assert_eq!(actual.range, expected.range);
                let expected = memory.get_opts(&path, options()).await.unwrap().bytes().await;
                let actual = zip.get_opts(&path, options()).await.unwrap().bytes().await;
                assert_eq!(actual.unwrap(), expected.unwrap(), "{key} {range:?}");
            }
            assert_eq!(zip.head(&path).await.unwrap().size, data.len() as u64);
            if data.len() > 3 {
                let ranges = [3..8, 1..2, 0..0, 2..4];
                let actual = zip.get_ranges(&path, &ranges).await.unwrap();
                let expected =
                    ranges.map(|r| &data[r.start as usize..data.len().min(r.end as usize)]);
                assert_eq!(actual, expected);
            }
        }
        for key in ["a", "b", "a/c", "a/c/0/x", ""] {
            assert!(matches!(read(&zip, key).await, Err(Error::NotFound { .. })), "{key}");
        }
    }
}

#[tokio::test]
async fn an_empty_archive_is_empty() {
    let (_, zip) = open(write(&[])).await;
    assert!(keys(&zip, None).await.is_empty());
    assert!(matches!(read(&zip, "a").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn the_last_entry_of_a_name_counts() {
    let (_, zip) =
        open(write(&[stored("a", b"old"), stored("b", b"b"), deflated("a", b"newer")])).await;
    assert_eq!(read(&zip, "a").await.unwrap(), &b"newer"[..]);
    assert_eq!(keys(&zip, None).await, [("a".to_owned(), 5), ("b".to_owned(), 1)]);
}

#[tokio::test]
async fn a_store_in_the_only_folder() {
    let folder = [stored("s.zarr/zarr.json", b"{}"), stored("s.zarr/t/c", b"xyz")];
    let macos = [&folder[..], &[stored("__MACOSX/._s.zarr", b"?"), stored("LIESMICH", b"?")]];
    for entries in [folder.to_vec(), macos.concat()] {
        let (_, zip) = open(write(&entries)).await;
        for key in ["t/c", "s.zarr/t/c"] {
            assert_eq!(read(&zip, key).await.unwrap(), &b"xyz"[..]);
        }
        let root = zip.list_with_delimiter(None).await.unwrap();
        assert_eq!(root.common_prefixes, [Path::from("t")]);
        assert_eq!(root.objects[0].location, Path::from("zarr.json"));
        assert_eq!(keys(&zip, Some("t")).await, [("t/c".to_owned(), 3)]);
        assert_eq!(keys(&zip, Some("s.zarr/t")).await, [("s.zarr/t/c".to_owned(), 3)]);
    }
    // Two folders, metadata at the root, and a folder without metadata: no name may be omitted.
    for other in ["second.zarr/zarr.json", ".zgroup"] {
        let (_, zip) = open(write(&[&folder[..], &[stored(other, b"{}")]].concat())).await;
        assert!(read(&zip, "t/c").await.is_err(), "{other}");
        assert!(read(&zip, "s.zarr/t/c").await.is_ok(), "{other}");
    }
    let (_, zip) = open(write(&folder[1..])).await;
    assert!(read(&zip, "t/c").await.is_err());
}

#[tokio::test]
async fn conditions_are_those_of_the_archive() {
    let (memory, zip) = open(write(&[stored("a", b"xyz")])).await;
    let archive = memory.head(&Path::from("folder/a.zip")).await.unwrap();
    let meta = zip.head(&Path::from("a")).await.unwrap();
    assert!(meta.e_tag.is_some());
    assert_eq!((meta.e_tag, meta.last_modified), (archive.e_tag.clone(), archive.last_modified));
    let path = Path::from("a");
    let same = GetOptions { if_match: archive.e_tag.clone(), ..GetOptions::default() };
    assert!(zip.get_opts(&path, same).await.is_ok());
    let other = GetOptions { if_match: Some("other".to_owned()), ..GetOptions::default() };
    let refused = zip.get_opts(&path, other).await;
    assert!(matches!(refused, Err(Error::Precondition { .. })));
    let known = GetOptions { if_none_match: archive.e_tag, ..GetOptions::default() };
    let refused = zip.get_opts(&path, known).await;
    assert!(matches!(refused, Err(Error::NotModified { .. })));
}

#[tokio::test]
async fn nothing_is_written() {
    let (memory, zip) = open(write(&[stored("a", b"xyz")])).await;
    let path = Path::from("a");
    let refused = [
        zip.put(&path, "new".into()).await.map(drop),
        zip.put_multipart(&path).await.map(drop),
        zip.delete(&path).await,
        zip.copy(&path, &Path::from("b")).await,
        zip.rename(&path, &Path::from("b")).await,
    ];
    for result in refused {
        assert!(matches!(result, Err(Error::NotSupported { .. })), "{result:?}");
    }
    assert_eq!(keys(&*memory, None).await.len(), 1);
}

#[tokio::test]
async fn an_archive_that_changes_is_noticed() {
    let entries = [stored("a", &noise(100)), deflated("b", &noise(100))];
    let archive = write(&entries);
    let path = Path::from("folder/a.zip");
    for key in ["a", "b"] {
        let (memory, zip) = open(archive.clone()).await;
        let key = Path::from(key);
        assert!(zip.get_range(&key, 1..3).await.is_ok());
        // The same bytes: only the store can tell. These ranges were not kept.
        memory.put(&path, archive.clone().into()).await.unwrap();
        let changed = [
            zip.get_range(&key, 0..100).await.err().map(|e| e.to_string()),
            zip.get_ranges(&Path::from("a"), &[1..3, 5..9]).await.err().map(|e| e.to_string()),
        ];
        for error in changed {
            assert!(error.is_some_and(|e| e.contains("a.zip") && e.contains("changed")));
        }
        memory.delete(&path).await.unwrap();
        for result in [
            zip.get_range(&key, 0..100).await.map(drop),
            zip.get_ranges(&Path::from("a"), &[1..3, 5..9]).await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("no longer there"), "{error}");
            // A missing object would be a chunk that isn't stored.
            assert!(!crate::store_error::is_missing(&error));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let data = noise(50);
    for (entry, words) in [
        (Entry { flags: 1, ..stored("a", &data) }, ["'a'", "encrypted"]),
        (Entry { method: 93, ..stored("a", &data) }, ["'a'", "method 93 (Zstandard)"]),
        (Entry { method: 12, ..stored("a", &data) }, ["'a'", "method 12 (bzip2)"]),
        (Entry { method: 77, ..stored("a", &data) }, ["'a'", "method 77;"]),
    ] {
        let archive = write(&[entry, stored("b", &data)]);
        let (_, zip) = open(archive.clone()).await;
        assert_eq!(read(&zip, "b").await.unwrap(), data);
        assert!(matches!(read(&zip, "a").await, Err(Error::NotSupported { .. })));
        let ranges = zip.get_ranges(&Path::from("a"), &[1..3, 5..9]).await;
        assert!(matches!(ranges, Err(Error::NotSupported { .. })));
        let error = error(archive).await;
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[tokio::test]
async fn names_that_no_key_has() {
    for (name, words) in [
        (&b"../a"[..], "'..'"),
        (b"x/../a", "'..'"),
        (b"./a", "'.'"),
        (b"/a", "absolute"),
        (b"x\\a", "backslash"),
        (b"a\0b", "control"),
        (b"x//a", "empty"),
        (b"", "empty"),
        (b"\xff\xfe", "UTF-8"),
    ] {
        let odd = Entry { name: name.to_vec(), ..stored("", b"?") };
        let error = error(write(&[stored("a", b"xyz"), odd])).await;
        assert!(error.contains(words), "{name:?}: {error}");
    }
}

#[tokio::test]
async fn sizes_and_places_that_cannot_be_true() {
    let data = noise(50);
    let good = write(&[stored("a", &data), stored("b", &data)]);
    let packed = write(&[deflated("a", &[7; 5_000]), stored("b", &data)]);
    let wide = write_as(&[stored("a", &data)], &Shape { zip64: true, ..Shape::default() });
    let long = |number: u32| number.to_le_bytes();
    for (archive, words) in [
        (patch(&good, LINE, 20, &[long(51), long(51)].concat()), "overlap"),
        (patch(&good, LINE, 42, &long(1)), "overlap"),
        (patch(&good, LINE, 42, &long(0xffff_0000)), "reaches beyond"),
        (patch(&good, LINE, 20, &[long(0xffff_0000); 2].concat()), "overlap"),
        // Missing 64-bit numbers, and overflowing ones.
        (patch(&good, LINE, 42, &long(u32::MAX)), "corrupt at byte 0"),
        (patch(&wide, &[0xfe, 0xca], 10, &[0xff; 24]), "reaches beyond"),
        (patch(&good, LINE, 28, &[0xff, 0xff]), "corrupt at byte 0"),
        (patch(&good, LINE, 24, &long(49)), "50 bytes in the archive and 49 outside"),
        (patch(&good, LINE, 16, &long(1)), "checksum"),
        (patch(&good, HEADER, 0, b"XX"), "not this entry"),
        (patch(&good, HEADER, 30, b"c"), "not this entry"),
        (patch(&good, HEADER, 8, &[8]), "not this entry"),
        (patch(&good, HEADER, 28, &[1]), "reach into what follows"),
        (patch(&packed, LINE, 24, &long(4_999)), "more than the 4999"),
        (patch(&packed, LINE, 24, &long(5_001)), "5000 bytes, the directory says 5001"),
        (patch(&packed, LINE, 24, &long(u32::MAX - 1)), "more than the 2147483648"),
        (patch(&packed, LINE, 24, &long(1 << 31)), "5000 bytes, the directory says 2147483648"),
        (patch(&packed, LINE, 16, &long(1)), "checksum"),
        (patch(&packed, HEADER, 31, &[0xff; 3]), "inflate"),
        (patch(&good, END, 8, &[3, 0, 3, 0]), "says 3 entries, it has 2"),
        (patch(&good, END, 8, &[3, 0, 2, 0]), "one part"),
        (patch(&good, END, 4, &[1, 0]), "one part"),
        (patch(&good, END, 12, &long(300 << 20)), "more than the 134217728"),
        (patch(&good, END, 12, &long(1 << 20)), "larger than the file"),
        (patch(&good, END, 12, &long(0)), "says 2 entries, it has 0"),
        (patch(&good, END, 16, &long(1 << 20)), "cut off or corrupt"),
        (patch(&wide, b"PK\x06\x06", 0, b"XX"), "zip64 end record"),
        (patch(&wide, b"PK\x06\x06", 40, &[0xff; 8]), "more than the 134217728"),
        (patch(&wide, b"PK\x06\x06", 48, &[0xff; 8]), "cut off or corrupt"),
        (patch(&wide, b"PK\x06\x06", 24, &[0xff; 16]), "entries, it has 1"),
        (b"not a zip archive".to_vec(), "not a zip archive"),
        (Vec::new(), "0 bytes"),
    ] {
        let error = error(archive).await;
        assert!(error.contains(words), "'{words}' is not in: {error}");
    }
}

#[tokio::test]
async fn a_small_entry_does_not_cost_a_large_archive() {
    // Contradictory sizes are refused before the 3 MiB are read or inflated.
    let good = write(&[stored("a", &noise(3 << 20))]);
    let mut bad = patch(&good, LINE, 10, &[8, 0]);
    bad = patch(&bad, LINE, 24, &10_u32.to_le_bytes());
    assert!(error(bad).await.contains("only 10 outside"));
}

#[tokio::test]
async fn archives_that_are_cut_off() {
    let entries = [stored("a", &noise(50)), deflated("b", &[7; 500])];
    for zip64 in [false, true] {
        let archive = write_as(&entries, &Shape { zip64, ..Shape::default() });
        for len in 0..archive.len() {
            let (_, zip) = open(archive[..len].to_vec()).await;
            let error = read(&zip, "a").await.unwrap_err();
            assert!(!matches!(error, Error::NotFound { .. }), "{len}: {error}");
        }
        // An archive without its start doesn't look complete either.
        let (_, zip) = open(archive[1..].to_vec()).await;
        assert!(read(&zip, "a").await.is_err());
    }
}

/// Whichever byte is wrong, and in whatever way, a read returns the right bytes or an error.
#[tokio::test]
async fn bytes_that_are_wrong() {
    let entries = [
        stored("a", &noise(40)),
        deflated("b/c", &b"some text, some text".repeat(5)),
        stored("d/", b""),
    ];
    for zip64 in [false, true] {
        let archive = write_as(&entries, &Shape { zip64, comment: vec![1; 3], ..Shape::default() });
        let mut wrong = 0;
        for at in 0..archive.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, archive[at] ^ 1, archive[at] ^ 0x20] {
                let mut bad = archive.clone();
                bad[at] = value;
                let (_, zip) = open(bad).await;
                for entry in &entries[..2] {
                    let key = str::from_utf8(&entry.name).unwrap();
                    match read(&zip, key).await {
                        Ok(bytes) => assert_eq!(bytes, entry.data, "{at}: {value}"),
                        Err(_) => wrong += 1,
                    }
                    // These entries have no checksum of their own: only the size is certain.
                    if let Ok(bytes) = zip.get_ranges(&Path::from(key), &[3..8, 20..30]).await {
                        assert_eq!(bytes.iter().map(Bytes::len).collect::<Vec<_>>(), [5, 10]);
                    }
                }
                let _ = zip.list_with_delimiter(None).await;
                let _: Result<Vec<_>> = zip.list(None).try_collect().await;
            }
        }
        assert!(wrong > archive.len());
    }
}
