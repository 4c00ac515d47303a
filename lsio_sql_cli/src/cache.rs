//! `lsio cache`: the disk cache of remote stores.

use lsio_core::{Resources, cache::DiskCache};

use crate::{Error, info::bytes, output::say};

pub(crate) fn run(clear: bool, resources: &Resources) -> Result<(), Error> {
    let enabled = resources.cache()?;
    let cache = match &enabled {
        Some(cache) => cache.clone(),
        // What is there from before can be looked at and removed.
        None => DiskCache::open(resources.cache_directory()?, u64::MAX)?,
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
