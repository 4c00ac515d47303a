//! Where io_uring is forbidden or memory can't be locked, files are read all the same.
//!
//! Restrictions can't be taken back, so each test starts this binary again and is restricted there.

use std::{
    os::unix::process::CommandExt as _,
    path::Path as FilePath,
    process::{Command, Stdio},
};

use lsio_uring::{Access, Engine, Options, UringFileSystem};
use object_store::{ObjectStore as _, ObjectStoreExt as _, path::Path};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

use super::store;

const VARIABLE: &str = "LSIO_TEST_RESTRICTION";

/// The system calls that a restriction forbids, with the error that they give.
fn forbidden(restriction: &str) -> (&'static [libc::c_long], i32) {
    match restriction {
        "io_uring not permitted" => (&[libc::SYS_io_uring_setup], libc::EPERM),
        "io_uring unknown" => (&[libc::SYS_io_uring_setup], libc::ENOSYS),
        "rings without use" => (&[libc::SYS_io_uring_enter], libc::EPERM),
        // cachestat has the same number everywhere.
        "an old kernel" => (&[451, libc::SYS_openat2, libc::SYS_io_uring_setup], libc::ENOSYS),
        "no cachestat" => (&[451], libc::EPERM),
        _ => (&[], 0),
    }
}

fn restricted(restriction: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "restricted::child", "--nocapture"]);
    child.env(VARIABLE, restriction).stdout(Stdio::null()).stderr(Stdio::piped());
    if restriction == "an ordinary user" {
        if geteuid().is_root() {
            child.uid(65534).gid(65534);
        } else {
            eprintln!("This is an ordinary user already.");
        }
    }
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{restriction}: {said}");
    assert!(said.contains("read everything"), "{restriction}: {said}");
}

#[test]
fn under_seccomp_filters() {
    for restriction in [
        "io_uring not permitted",
        "io_uring unknown",
        "rings without use",
        "an old kernel",
        "no cachestat",
    ] {
        restricted(restriction);
    }
}

#[test]
fn as_a_user_with_little_locked_memory() {
    restricted("an ordinary user");
}

/// Not a test by itself: what the others start.
#[test]
fn child() {
    let Ok(restriction) = std::env::var(VARIABLE) else { return };
    let limit = Rlimit { current: Some(8 << 20), maximum: Some(8 << 20) };
    setrlimit(Resource::Memlock, limit).unwrap();
    let (calls, error) = forbidden(&restriction);
    if !calls.is_empty() {
        forbid(calls, error);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(read_everything(&restriction, directory.path()));
    eprintln!("read everything");
}

async fn read_everything(restriction: &str, directory: &FilePath) {
    let open = |engine, access| {
        let mut options = Options::default();
        options.engine = engine;
        options.access = access;
        store(directory, &options)
    };
    let contents: Vec<u8> = (0..9_000_001_u32).map(|at| (at % 251) as u8).collect();
    let path = Path::from("object");
    for access in [Access::Auto, Access::Direct] {
        let store: UringFileSystem = open(Engine::Auto, access).unwrap();
        if forbidden(restriction)
            .0
            .iter()
            .any(|call| [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter].contains(call))
        {
            assert_eq!(store.engine(), Engine::Pread);
            let refused = open(Engine::Uring, access).unwrap_err().to_string();
            assert!(refused.contains("io_uring doesn't work here"), "{refused}");
        }
        store.put(&path, contents.clone().into()).await.unwrap();
        for _ in 0..2 {
            std::fs::File::open(directory.join("object")).unwrap().sync_all().unwrap();
            let file = std::fs::File::open(directory.join("object")).unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            // Cold, and then in whatever state that leaves.
            for _ in 0..2 {
                let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
                assert!(bytes == contents);
                let parts = store.get_ranges(&path, &[1..5, 4_000_000..5_000_001]).await.unwrap();
                assert!(parts[1] == contents[4_000_000..5_000_001]);
            }
        }
        let counts = store.counts();
        eprintln!("{restriction}: {store}: {counts:?}");
        assert_eq!(counts.used_bytes, 0);
        if restriction == "an ordinary user" {
            assert!(counts.registered_bytes <= 8 << 20);
        }
    }
}

/// Has system calls of this thread, and of those that it starts, fail.
fn forbid(calls: &[libc::c_long], error: i32) {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut filter = vec![step(LOAD_NUMBER, 0, 0)];
    for (index, &call) in calls.iter().enumerate() {
        // Over the further calls and the permission.
        let to_refusal = (calls.len() - index) as u8;
        filter.push(step(JUMP_IF_EQUAL, to_refusal, call as u32));
    }
    filter.push(step(RETURN, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(step(RETURN, 0, libc::SECCOMP_RET_ERRNO | error as u32));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter are alive during the calls, which only read them.
    let forbids = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(forbids, "{}", std::io::Error::last_os_error());
}
