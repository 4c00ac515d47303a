//! Linux's figures on this process, and control of the page cache.

use std::{fs, io, path::Path};

/// Processor time of this process so far, in seconds.
pub(crate) fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the command's name, which may itself contain blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // Linux reports times to programs in hundredths of a second.
    Some(ticks as f64 / 100.0)
}

/// Resets the peak of the memory; `false` if that isn't possible here.
pub(crate) fn reset_peak_memory() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Peak of the resident memory since the last reset, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Empties the page cache; `false` if this process may not.
pub(crate) fn drop_caches() -> bool {
    // Pages that aren't on the disk yet would stay.
    let synced = std::process::Command::new("sync").status().is_ok_and(|s| s.success());
    synced && fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

/// Reads all files below a directory, so that they are in the page cache as far as it has room.
pub(crate) fn fill_cache(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fill_cache(&entry.path())?;
        } else {
            io::copy(&mut fs::File::open(entry.path())?, &mut io::sink())?;
        }
    }
    Ok(())
}
