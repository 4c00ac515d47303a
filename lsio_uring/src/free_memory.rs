//! Memory that the page cache may be filled with: what is free, as this process's container sees it, and half of what
//! is reclaimable. The other half is left to what others have in the page cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Memory in bytes, of a machine or a group of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    free: u64,
    reclaimable: u64,
}

impl Memory {
    fn holds(self) -> u64 {
        self.free.saturating_add(self.reclaimable / 2)
    }
}

/// Bytes that the page cache may be filled with; `None` where the system doesn't tell. `root` is the root of the file
/// system.
pub(crate) fn bytes(root: &Path) -> Option<u64> {
    let machine = machine(&read(&root.join("proc/meminfo"))?)?;
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits(root, line));
    Some(limits.chain([machine]).map(Memory::holds).min().unwrap_or(0))
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Memory of the machine, from the text of `/proc/meminfo`.
fn machine(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let value = field(text, name)?;
        value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let free = bytes("MemFree:")?;
    Some(Memory { free, reclaimable: bytes("MemAvailable:")?.saturating_sub(free) })
}

/// Memory within the limits of a group of processes and those above it. `line` is one of `/proc/self/cgroup`.
fn limits(root: &Path, line: &str) -> Vec<Memory> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let version = if controllers.is_empty() {
        &VERSION_2
    } else if controllers.split(',').any(|controller| controller == "memory") {
        &VERSION_1
    } else {
        return Vec::new();
    };
    let mount = root.join(version.mount);
    let group = group.trim_start_matches('/');
    // In a container without a view of its own, the group's path is the host's, and its files are at the root.
    let groups: Vec<PathBuf> =
        Path::new(group).ancestors().map(|group| mount.join(group)).collect();
    groups.iter().filter_map(|group| version.memory(group)).collect()
}

/// Names of one version of control groups.
struct Version {
    mount: &'static str,
    limit: &'static str,
    used: &'static str,
    file_pages: [&'static str; 2],
}

const VERSION_2: Version = Version {
    mount: "sys/fs/cgroup",
    limit: "memory.max",
    used: "memory.current",
    file_pages: ["inactive_file ", "active_file "],
};

const VERSION_1: Version = Version {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    file_pages: ["total_inactive_file ", "total_active_file "],
};

impl Version {
    /// Memory within a group's limit, if it has one.
    fn memory(&self, group: &Path) -> Option<Memory> {
        let number = |name| read(&group.join(name))?.trim().parse::<u64>().ok();
        // No limit is `max`, or more than any machine has.
        let limit = number(self.limit)?;
        let used = number(self.used)?;
        let statistics = read(&group.join("memory.stat")).unwrap_or_default();
        let pages =
            self.file_pages.iter().filter_map(|name| field(&statistics, name)?.parse().ok());
        let reclaimable: u64 = pages.fold(0, u64::saturating_add);
        Some(Memory { free: limit.saturating_sub(used), reclaimable: reclaimable.min(used) })
    }
}

/// Text behind a name at the start of a line.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MACHINE: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       1000 kB\nMemFree:         300 kB\nMemAvailable:    700 kB\nBuffers: 1 kB\n",
    );

    #[test]
    fn free_and_half_of_the_rest() {
        assert_eq!(bytes(root(&[MACHINE]).path()), Some(500 << 10));
        assert_eq!(bytes(root(&[("proc/meminfo", "MemTotal: 5 kB\n")]).path()), None);
        assert_eq!(bytes(root(&[]).path()), None);
        #[cfg(target_os = "linux")]
        assert!(bytes("/".as_ref()).is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn limits_of_containers() {
        let statistics = "anon 5\ninactive_file 1000\nactive_file 2000\ntotal_inactive_file 4000\n";
        let group = |directory: &str, files: [&str; 2], limit: &str| {
            let names =
                ["memory.stat", files[0], files[1]].map(|name| format!("{directory}/{name}"));
            let texts = [statistics, limit, "10000\n"];
            names.into_iter().zip(texts.map(str::to_owned)).collect::<Vec<_>>()
        };
        let (two, one) =
            (["memory.max", "memory.current"], ["memory.limit_in_bytes", "memory.usage_in_bytes"]);
        let v2 = "0::/a/b\n";
        let v1 = "5:cpu,cpuacct:/a\n4:memory:/a/b\n1:name=systemd:/a\n0::/a\n";
        for (directory, files, groups, limit, expected) in [
            ("sys/fs/cgroup/a/b", two, v2, "30000\n", 20_000 + 1_500),
            ("sys/fs/cgroup/a", two, v2, "30000\n", 20_000 + 1_500),
            ("sys/fs/cgroup", two, v2, "9000\n", 1_500),
            ("sys/fs/cgroup", two, v2, "max\n", 500 << 10),
            ("sys/fs/cgroup", two, "nonsense", "9000\n", 500 << 10),
            ("sys/fs/cgroup/memory/a/b", one, v1, "30000\n", 20_000 + 2_000),
            ("sys/fs/cgroup/memory", one, v1, "9223372036854771712\n", 500 << 10),
        ] {
            let mut files = group(directory, files, limit);
            files.push((MACHINE.0.to_owned(), MACHINE.1.to_owned()));
            files.push(("proc/self/cgroup".to_owned(), groups.to_owned()));
            let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
            assert_eq!(bytes(root(&files).path()), Some(expected), "{directory} {limit}");
        }
    }
}
