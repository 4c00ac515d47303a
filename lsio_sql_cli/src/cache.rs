//! `lsio cache`: the disk cache of remote stores.

use lsio_core::cache::DiskCache;

use crate::{Error, info::bytes, output::say};

pub(crate) fn run(clear: bool) -> Result<(), Error> {
    let enabled = DiskCache::from_environment()?;
    let cache = match &enabled {
        Some(cache) => cache.clone(),
        // An existing cache can be shown and removed while it is off.
        None => DiskCache::open(DiskCache::directory_from_environment()?, u64::MAX)?,
    };
    let directory = cache.directory().display();
    if clear {
        let freed = cache.clear()?;
        say!("Removed {} entries, {}, from {directory}", freed.entries, bytes(freed.bytes));
        return Ok(());
    }
    let usage = cache.usage();
    say!("directory  {directory}");
    match &enabled {
        Some(cache) => say!("limit      {}", bytes(cache.max_bytes())),
        None => say!("limit      none is kept: set LSIO_CACHE_BYTES to a size such as 20g"),
    }
    say!("entries    {}", usage.entries);
    say!("bytes      {}", bytes(usage.bytes));
    for store in &usage.stores {
        say!("  {}: {} entries, {}", store.name, store.entries, bytes(store.bytes));
    }
    Ok(())
}
