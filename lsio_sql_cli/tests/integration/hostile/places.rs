//! What a file system can put in the place of a file.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::Value;

use super::{
    Case, Expect,
    stores::{self, Files},
};

/// Something else in the place of a file.
type Replace = fn(&Path);

fn fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

fn socket(path: &Path) {
    // Its file stays when the listener is dropped. Paths of sockets are short, so it is moved there.
    let short = std::env::temp_dir().join(format!("{}-{:p}", std::process::id(), &path));
    drop(UnixListener::bind(&short).unwrap());
    fs::rename(short, path).unwrap();
}

fn link(to: &'static str) -> impl Fn(&Path) {
    move |path| symlink(to, path).unwrap()
}

fn large(path: &Path, len: u64) {
    File::create(path).unwrap().set_len(len).unwrap();
}

/// What a file may be replaced by.
fn replacements() -> Vec<(&'static str, Replace)> {
    vec![
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("full_directory", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), "x").unwrap();
        }),
        ("fifo", fifo),
        ("socket", socket),
        ("link_to_zeros", |path| link("/dev/zero")(path)),
        ("link_to_full", |path| link("/dev/full")(path)),
        ("link_to_null", |path| link("/dev/null")(path)),
        ("link_to_terminal", |path| link("/dev/tty")(path)),
        ("link_to_random", |path| link("/dev/urandom")(path)),
        ("link_to_input", |path| link("/proc/self/fd/0")(path)),
        ("link_to_status", |path| link("/proc/self/status")(path)),
        ("link_to_memory", |path| link("/proc/self/mem")(path)),
        ("link_to_pagemap", |path| link("/proc/self/pagemap")(path)),
        ("link_to_itself", |path| symlink(path, path).unwrap()),
        ("link_to_nothing", |path| link("nothing")(path)),
        ("link_to_directory", |path| link("/")(path)),
        ("link_to_own_directory", |path| link(".")(path)),
        ("link_to_passwd", |path| link("/etc/passwd")(path)),
        ("link_to_fifo", |path| {
            let other = path.with_extension("fifo");
            fifo(&other);
            symlink(other, path).unwrap();
        }),
        ("terabyte", |path| large(path, 1 << 40)),
        ("gibibyte", |path| large(path, 1 << 30)),
        ("empty", |path| large(path, 0)),
    ]
}

/// A thread that does something to a file until it is dropped.
struct Meddler {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meddler {
    fn new(mut meddle: impl FnMut() + Send + 'static) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let thread = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                meddle();
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A store with one chunk of 8 MiB, for what happens while it is read.
fn wide() -> Files {
    let mut files = stores::raw();
    let cells = 2 << 20;
    let mut document: Value = serde_json::from_slice(&files["v/.zarray"]).unwrap();
    document["shape"] = serde_json::json!([cells]);
    document["chunks"] = serde_json::json!([cells]);
    files.insert("v/.zarray".to_owned(), document.to_string().into_bytes());
    files.insert("v/0".to_owned(), vec![1; 4 * cells]);
    files
}

pub(super) fn cases() -> Vec<Case> {
    let files = stores::v3(false);
    let mut cases = vec![Case::new("good".to_owned(), files.clone(), Expect::Good)];
    let mut replaced = |file: &'static str, whose: &str, files: &Files, expect| {
        for (name, replace) in replacements() {
            // A chunk that isn't there holds the fill value, and so does one that a link names.
            let expect = match (expect, whose) {
                (Expect::Error, "chunk") if name == "link_to_nothing" => Expect::Anything,
                (expect, _) => expect,
            };
            let case = Case::new(format!("{whose}_{name}"), files.clone(), expect);
            cases.push(case.prepared(move |store| {
                let path = store.join(file);
                fs::remove_file(&path).unwrap();
                replace(&path);
            }));
        }
    };
    replaced("v/c/1/1", "chunk", &files, Expect::Error);
    replaced("t/c/0", "coordinate", &files, Expect::GoodOrError);
    replaced("v/zarr.json", "array", &files, Expect::Error);
    replaced("zarr.json", "group", &files, Expect::Error);
    let v2 = stores::v2(true);
    replaced(".zmetadata", "zmetadata", &v2, Expect::GoodOrError);
    replaced("v/.zattrs", "zattrs", &v2, Expect::GoodOrError);
    let bytes = serde_json::json!({"name": "bytes", "configuration": {"endian": "little"}});
    let sharded = stores::lone_v3(&serde_json::json!([{
        "name": "sharding_indexed", "configuration": {
            "chunk_shape": [512], "codecs": [bytes], "index_codecs": [bytes],
            "index_location": "end",
        },
    }]));
    replaced("v/c/0", "shard", &sharded, Expect::Anything);
    replaced("v/0", "raw", &stores::raw(), Expect::Anything);

    let mut add = |name: &str, expect, prepare: fn(&Path)| {
        let case = Case::new(name.to_owned(), files.clone(), expect);
        cases.push(case.prepared(prepare));
    };
    add("file_for_chunks", Expect::Error, |store| {
        fs::remove_dir_all(store.join("v/c/1")).unwrap();
        fs::write(store.join("v/c/1"), "x").unwrap();
    });
    add("file_for_array", Expect::Error, |store| {
        fs::remove_dir_all(store.join("v")).unwrap();
        fs::write(store.join("v"), "x").unwrap();
    });
    add("array_is_the_store", Expect::Good, |store| {
        symlink(".", store.join("again")).unwrap();
        symlink("..", store.join("above")).unwrap();
    });
    add("array_is_the_root", Expect::Good, |store| symlink("/", store.join("root")).unwrap());
    add("names_that_are_no_text", Expect::Good, |store| {
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
        fs::create_dir(store.join(name)).unwrap();
        fs::write(store.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    });
    add("odd_names", Expect::Good, |store| {
        for name in ["a\\b", "a\nb", " ", "%2e%2e", "..\\..", "\x1b[31m", "#", "?", "a%2Fb", "~"] {
            fs::create_dir(store.join(name)).unwrap();
        }
    });
    add("long_names", Expect::Good, |store| {
        let mut path = store.to_owned();
        for _ in 0..10 {
            path.push("d".repeat(250));
            fs::create_dir(&path).unwrap();
        }
    });
    add("linked_chunks", Expect::Good, |store| {
        // Data on another disk.
        let elsewhere = store.with_extension("elsewhere");
        fs::rename(store.join("v/c"), &elsewhere).unwrap();
        symlink(elsewhere, store.join("v/c")).unwrap();
    });
    add("linked_array", Expect::Good, |store| {
        let elsewhere = store.with_extension("array");
        fs::rename(store.join("v"), &elsewhere).unwrap();
        symlink(elsewhere, store.join("v")).unwrap();
    });
    add("many_directories", Expect::Good, |store| {
        for i in 0..3_000 {
            fs::create_dir(store.join(format!("d{i}"))).unwrap();
        }
    });
    add("many_files", Expect::Good, |store| {
        for i in 0..3_000 {
            fs::write(store.join(format!("f{i}")), "").unwrap();
        }
    });
    // SAFETY: it takes nothing and gives a number.
    if unsafe { libc::geteuid() } == 0 {
        eprintln!("NOT TESTED: files that may not be read, since root may read them all");
    } else {
        add("unreadable_chunk", Expect::Error, |store| unreadable(&store.join("v/c/1/1")));
        add("unreadable_array", Expect::Error, |store| unreadable(&store.join("v/zarr.json")));
        add("unreadable_group", Expect::Error, |store| unreadable(&store.join("zarr.json")));
    }
    for (name, meddle) in MEDDLERS {
        let case = Case::new(name.to_owned(), wide(), Expect::Anything);
        cases.push(case.prepared(move |store| {
            let path = store.join("v/0");
            Meddler::new(move || meddle(&path))
        }));
    }
    cases
}

fn unreadable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
}

/// Changes a file.
type Change = fn(&Path);

/// What may happen to a file while it is read.
const MEDDLERS: [(&str, Change); 4] = [
    ("shrinks_and_grows", |path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        for len in [0, 8 << 20, 4097, 8 << 20, 1, 8 << 20] {
            file.set_len(len).unwrap();
        }
    }),
    ("grows", |path| {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        if file.metadata().unwrap().len() > 32 << 20 {
            file.set_len(8 << 20).unwrap();
        }
    }),
    ("comes_and_goes", |path| {
        let other = path.with_extension("other");
        fs::rename(path, &other).unwrap();
        thread::yield_now();
        fs::rename(&other, path).unwrap();
    }),
    ("is_replaced", |path| {
        let other = path.with_extension("other");
        fs::write(&other, vec![1; 8 << 20]).unwrap();
        fs::rename(&other, path).unwrap();
    }),
];
