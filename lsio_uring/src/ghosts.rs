//! What is remembered of reads, shared by the user's processes: a table of a fixed size, in a file or in memory.
//!
//! The table is a hint. A slot with a wrong checksum is empty, and so is one beyond the end of the file: whatever
//! another process does to it, a read is slower at worst. There are no locks; of two changes of a slot one may be lost.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::admission::{Ghost, Moment, mixed};

/// Number of the 64-bit words of a slot: the key, the fields of a ghost, the checksum, one unused.
const WORDS: usize = 8;

/// Bytes of a slot.
const SLOT: usize = WORDS * 8;

/// Number of slots in which a key may be.
const WAYS: usize = 4;

/// Bytes of a set of slots.
const SET: usize = WAYS * SLOT;

/// Number of sets. The table takes 4 MiB, as far as it is used.
const SETS: u64 = 1 << 14;

/// First word of the file: a name, and the version of the format.
const MAGIC: u64 = u64::from_le_bytes(*b"lsioghs1");

/// Bytes that a process reads before it tells the others.
const TOLD: u64 = 1 << 20;

/// Name of the file.
const NAME: &str = "reads";

#[derive(Debug)]
pub(crate) struct Ghosts {
    table: Table,
    clock: Mutex<Clock>,
}

#[derive(Debug)]
enum Table {
    File(File),
    Memory(Mutex<Vec<u8>>),
}

/// Bytes read from drives: those that all processes have told, and those of this one since.
#[derive(Clone, Copy, Debug)]
struct Clock {
    told: u64,
    own: u64,
}

impl Ghosts {
    /// The table of a directory below `parent` that is the user's alone, or a new one in memory.
    pub(crate) fn below(parent: Option<&Path>) -> Self {
        let file = parent.and_then(|parent| match open(parent) {
            Ok(file) => Some(file),
            Err(error) => {
                log::info!("reads are remembered by this process alone: {error}");
                None
            }
        });
        let table = match file {
            Some(file) => Table::File(file),
            None => Table::Memory(Mutex::new(vec![0; SET + SETS as usize * SET])),
        };
        let told = table.clock();
        Self { table, clock: Mutex::new(Clock { told, own: 0 }) }
    }

    pub(crate) fn now(&self) -> Moment {
        let clock = *self.clock();
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Moment {
            bytes: clock.told.wrapping_add(clock.own),
            seconds: seconds.map_or(0, |since| since.as_secs()),
        }
    }

    pub(crate) fn get(&self, key: u64) -> Option<Ghost> {
        self.table.set(key).iter().find_map(|slot| ghost(slot, key))
    }

    /// Changes what is remembered of a key. If its set is full, the ghost whose last read is the longest ago makes room.
    pub(crate) fn update(
        &self,
        key: u64,
        now: Moment,
        change: impl FnOnce(Option<Ghost>) -> Ghost,
    ) {
        let set = self.table.set(key);
        let age = |slot: &[u64; WORDS]| match ghost(slot, slot[0]) {
            Some(_) if slot[0] == key => (2, 0),
            Some(other) => (0, other.distance(now)),
            None => (1, 0),
        };
        let Some((way, slot)) = set.iter().enumerate().max_by_key(|(_, slot)| age(slot)) else {
            return;
        };
        let new = change(ghost(slot, key));
        let mut words = [key, new.past, new.filled, new.lost, new.at.bytes, new.at.seconds, 0, 0];
        words[WORDS - 1] = checksum(&words);
        self.table.write(place(key) + (way * SLOT) as u64, &words);
    }

    /// Counts bytes that were read from a drive.
    pub(crate) fn advance(&self, bytes: u64) {
        let mut clock = self.clock();
        clock.own = clock.own.wrapping_add(bytes);
        if clock.own >= TOLD {
            *clock = Clock { told: self.table.clock().wrapping_add(clock.own), own: 0 };
            self.table.write(0, &[MAGIC, clock.told, 0, 0, 0, 0, 0, 0]);
        }
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Bytes read from drives, as all processes have told them.
    fn clock(&self) -> u64 {
        self.read(0)[0][1]
    }

    /// The slots in which a key may be.
    fn set(&self, key: u64) -> [[u64; WORDS]; WAYS] {
        self.read(place(key))
    }

    fn read(&self, offset: u64) -> [[u64; WORDS]; WAYS] {
        let mut bytes = [0; SET];
        match self {
            Self::File(file) => {
                let mut filled = 0;
                while let Ok(count @ 1..) =
                    file.read_at(&mut bytes[filled..], offset + filled as u64)
                {
                    filled += count;
                }
            }
            Self::Memory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.copy_from_slice(&memory[offset as usize..][..SET]);
            }
        }
        let (words, _) = bytes.as_chunks::<8>();
        std::array::from_fn(|way| {
            std::array::from_fn(|word| u64::from_le_bytes(words[way * WORDS + word]))
        })
    }

    fn write(&self, offset: u64, words: &[u64; WORDS]) {
        let mut bytes = [0; SLOT];
        for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        match self {
            Self::File(file) => {
                // A table that can't be written to remembers nothing new.
                let _ = file.write_at(&bytes, offset);
            }
            Self::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory[offset as usize..][..SLOT].copy_from_slice(&bytes);
            }
        }
    }
}

/// Offset of a key's set, behind the first set, which holds the clock.
fn place(key: u64) -> u64 {
    (1 + key % SETS) * SET as u64
}

/// The ghost in a slot, if it is the key's and whole.
fn ghost(slot: &[u64; WORDS], key: u64) -> Option<Ghost> {
    let [held, past, filled, lost, bytes, seconds, _, check] = *slot;
    let is_whole = held == key && check == checksum(slot);
    is_whole.then_some(Ghost { past, filled, lost, at: Moment { bytes, seconds } })
}

/// Checksum of all words but the last.
fn checksum(slot: &[u64; WORDS]) -> u64 {
    slot[..WORDS - 1].iter().fold(MAGIC, |sum, &word| mixed(sum, word))
}

/// Opens the file, and makes it and its directory if there are none.
fn open(parent: &Path) -> io::Result<File> {
    let user = rustix::process::geteuid();
    let directory = parent.join(format!("lsio-{}", user.as_raw()));
    match rustix::fs::mkdir(&directory, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(&directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    let directory = File::from(opened);
    check_owner(&directory, 0o077)?;
    let flags = flags | OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::openat(&directory, NAME, flags, Mode::RUSR | Mode::WUSR)?);
    check_owner(&file, 0o022)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::other("the file of remembered reads is no regular file"));
    }
    let mut magic = [0; 8];
    let is_table = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC.to_le_bytes();
    if !is_table || metadata.len() > (1 + SETS) * SET as u64 {
        file.set_len(0)?;
        file.write_all_at(&MAGIC.to_le_bytes(), 0)?;
    }
    Ok(file)
}

/// Fails unless a file is this user's, without some permissions of others.
fn check_owner(file: &File, forbidden: u32) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & forbidden == 0 {
        return Ok(());
    }
    Err(io::Error::other("the directory of remembered reads is open to other users"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::PathBuf,
    };

    use super::*;

    fn note(ghosts: &Ghosts, key: u64, past: u64) {
        let now = ghosts.now();
        ghosts.update(key, now, |ghost| Ghost {
            past: ghost.unwrap_or_default().past | past,
            at: now,
            ..Ghost::default()
        });
    }

    fn file(parent: &Path) -> PathBuf {
        parent.join(format!("lsio-{}", rustix::process::geteuid().as_raw())).join(NAME)
    }

    #[test]
    fn processes_share_a_table() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| Ghosts::below(Some(directory.path())));
        note(&one, 5, 1);
        note(&other, 5, 2);
        assert_eq!(one.get(5).map(|ghost| ghost.past), Some(3));
        assert_eq!(one.get(6), None);
        one.advance(3 << 20);
        other.advance(2 << 20);
        assert_eq!(other.now().bytes, 5 << 20);
        assert_eq!(Ghosts::below(Some(directory.path())).now().bytes, 5 << 20);
    }

    #[test]
    fn a_table_stays_small_and_keeps_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        for ghosts in [Ghosts::below(None), Ghosts::below(Some(directory.path()))] {
            for number in 0..8 {
                note(&ghosts, 7 + number * SETS, 1);
                ghosts.advance(1 << 20);
            }
            for number in 0..8 {
                assert_eq!(ghosts.get(7 + number * SETS).is_some(), number >= 4, "{number}");
            }
            for key in 0..4 * SETS {
                note(&ghosts, mixed(key, key), 1);
            }
        }
        let length = fs::metadata(file(directory.path())).unwrap().len();
        assert!(length <= (1 + SETS) * SET as u64, "{length}");
    }

    #[test]
    fn what_isnt_a_table_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Ghosts::below(Some(directory.path()));
        note(&open(), 5, 1);
        let path = file(directory.path());
        let good = fs::read(&path).unwrap();
        for length in [0, 7, 8, SET, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            let ghosts = open();
            assert_eq!(ghosts.get(5), None, "{length}");
            note(&ghosts, 5, 4);
            assert_eq!(ghosts.get(5).map(|ghost| ghost.past), Some(4), "{length}");
        }
        let slot = good.chunks(SLOT).position(|slot| slot.starts_with(&5_u64.to_le_bytes()));
        let start = slot.unwrap() * SLOT;
        for at in start..start + SLOT {
            let mut broken = good.clone();
            broken[at] ^= 0x40;
            fs::write(&path, broken).unwrap();
            assert_eq!(open().get(5), None, "byte {at}");
        }
        fs::write(&path, vec![0xff; 10 << 20]).unwrap();
        assert_eq!(open().get(5), None);
        assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
        // While it is open.
        let ghosts = open();
        note(&ghosts, 5, 1);
        fs::write(&path, "").unwrap();
        assert_eq!(ghosts.get(5), None);
        note(&ghosts, 5, 1);
        assert!(ghosts.get(5).is_some());
    }

    #[test]
    fn what_others_can_change_is_not_used() {
        let is_file = |parent: &Path| matches!(Ghosts::below(Some(parent)).table, Table::File(_));
        let fresh = || tempfile::tempdir().unwrap();
        let directory = fresh();
        assert!(is_file(directory.path()) && is_file(directory.path()));
        let path = file(directory.path());
        let own = path.parent().unwrap();
        assert_eq!(fs::metadata(own).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(own, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(!is_file(directory.path()), "open to a group");
        fs::set_permissions(own, fs::Permissions::from_mode(0o700)).unwrap();

        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        assert!(!is_file(directory.path()), "a link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(!is_file(directory.path()), "another name of a file");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!is_file(directory.path()), "a directory");

        let elsewhere = fresh();
        let linked = fresh();
        symlink(elsewhere.path(), file(linked.path()).parent().unwrap()).unwrap();
        assert!(!is_file(linked.path()), "a link to a directory");
        assert!(!is_file(Path::new("/proc/self")) && !is_file(&elsewhere.path().join("none")));
    }
}
