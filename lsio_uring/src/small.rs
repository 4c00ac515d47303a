//! Small files, read whole from the page cache by the caller's own thread.
//!
//! Opening, reading and closing a small file takes three system calls, and no request of the engine. A file that isn't
//! in the page cache is left to the engine.

use object_store::path::Path;

use super::{UringFileSystem, options::Access};

/// Outcome of a read of a small file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmallFile {
    /// The whole file is in the buffer: this many bytes.
    Read(usize),
    /// There is no such file.
    Absent,
    /// Unknown without waiting, or no regular file, or more than the buffer holds.
    Unknown,
}

impl UringFileSystem {
    /// Reads a whole object of less than `buffer`'s bytes, if the page cache has all of it.
    #[must_use]
    pub fn read_small(&self, location: &Path, buffer: &mut [u8]) -> SmallFile {
        if self.access() != Access::Auto {
            return SmallFile::Unknown;
        }
        let Ok(path) = self.file_path(location) else { return SmallFile::Unknown };
        read(&path, buffer)
    }
}

#[cfg(target_os = "linux")]
fn read(path: &std::path::Path, buffer: &mut [u8]) -> SmallFile {
    use rustix::{
        fs::fstat,
        io::{ReadWriteFlags, preadv2},
        param::page_size,
    };

    use super::files::{Here, open};

    let file = match open(path, Here::Task) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return SmallFile::Absent,
        Err(_) => return SmallFile::Unknown,
    };
    let most = buffer.len();
    let into = &mut [std::io::IoSliceMut::new(buffer)];
    let Ok(len) = preadv2(&file, into, 0, ReadWriteFlags::NOWAIT) else {
        return SmallFile::Unknown;
    };
    if len == most {
        return SmallFile::Unknown;
    }
    // Where a page isn't in the cache the read ends early, at the end of a page. Elsewhere only a file ends.
    let ends = !len.is_multiple_of(page_size())
        || fstat(&file).is_ok_and(|status| usize::try_from(status.st_size) == Ok(len));
    if ends { SmallFile::Read(len) } else { SmallFile::Unknown }
}

#[cfg(not(target_os = "linux"))]
fn read(_: &std::path::Path, _: &mut [u8]) -> SmallFile {
    SmallFile::Unknown
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use object_store::local::LocalFileSystem;

    use super::*;
    use crate::{Engine, Options};

    #[test]
    fn whole_files_or_none() {
        let directory = crate::simulated::directory();
        let local = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
        let options = Options { engine: Engine::Pread, ..Options::default() };
        let store = UringFileSystem::with_options(local, options).unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("directory")).unwrap();
        let mut buffer = vec![0; 10_000];
        for len in [0_usize, 1, 4095, 4096, 8192, 9999, 10_000, 20_000] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            std::fs::write(path("file"), &bytes).unwrap();
            match store.read_small(&Path::from("file"), &mut buffer) {
                SmallFile::Read(read) => assert_eq!(&buffer[..read], &bytes[..]),
                // Kernels and sandboxes that can't tell leave files to the engine.
                other => assert_eq!(other, SmallFile::Unknown, "{len}"),
            }
            if len >= buffer.len() {
                let read = store.read_small(&Path::from("file"), &mut buffer);
                assert_eq!(read, SmallFile::Unknown);
            }
        }
        let directory = store.read_small(&Path::from("directory"), &mut buffer);
        assert_eq!(directory, SmallFile::Unknown);
        let absent = store.read_small(&Path::from("absent"), &mut buffer);
        assert!([SmallFile::Absent, SmallFile::Unknown].contains(&absent));
    }
}
