//! Where objects are put: a directory beside the target, or the place in a bucket.

use std::sync::{Arc, PoisonError, RwLock};

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, WriteMultipart, path::Path,
};

use super::{local::Staged, store::Existing};
use crate::{Error, Location, Result, format::zarr::documents::DOCUMENTS, location::join};

/// Bytes up to which an object is put at once.
const PUT_BYTES: usize = 16 << 20;

/// The place of a new store.
#[derive(Debug)]
pub(super) struct Target {
    location: Location,
    existing: Existing,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Many tasks write, one publishes.
    Local(RwLock<Option<Staged>>),
    Remote(Arc<dyn ObjectStore>),
}

impl Target {
    /// Prepares the place.
    ///
    /// # Errors
    /// [`Error::Write`] if something is there that may not be replaced, or the place can't be written.
    pub(super) async fn new(location: &Location, existing: Existing) -> Result<Self> {
        let place = match location.local_path() {
            Some(path) => {
                let is_empty = path.read_dir().is_ok_and(|mut entries| entries.next().is_none());
                if path.symlink_metadata().is_ok() && !is_empty {
                    if existing == Existing::Refuse {
                        return Err(exists(location));
                    }
                    if !DOCUMENTS.iter().any(|name| path.join(name).is_file()) {
                        return Err(no_zarr(location));
                    }
                }
                let staged = Staged::new(&path).map_err(|error| failed(location, &error))?;
                Place::Local(RwLock::new(Some(staged)))
            }
            None if location.is_in_archive() => {
                return Err(Error::Write {
                    location: location.name().to_owned(),
                    reason: "archives are only read: write a directory, and pack that".to_owned(),
                });
            }
            None => Place::Remote(Arc::clone(location.store())),
        };
        let target = Self { location: location.clone(), existing, place };
        if let Place::Remote(store) = &target.place {
            target.clear(store).await?;
        }
        Ok(target)
    }

    /// Writes an object, whose key is relative to the group.
    pub(super) async fn put(&self, key: &str, payload: PutPayload) -> Result<()> {
        match &self.place {
            Place::Local(staged) => {
                let staged = staged.read().unwrap_or_else(PoisonError::into_inner);
                let staged = staged.as_ref().ok_or_else(|| self.ended())?;
                staged.write(key, payload.iter()).map_err(|error| self.failed_at(key, &error))
            }
            Place::Remote(store) => {
                let path = self.path(key)?;
                let done = put_remote(store, &path, payload, PutMode::Overwrite).await;
                done.map_err(|error| self.failed_at(key, &error))
            }
        }
    }

    /// Writes the documents in their order, the last of which makes a group of the objects, and publishes the store.
    pub(super) async fn publish(&self, documents: Vec<(String, Vec<u8>)>) -> Result<()> {
        let last = documents.len().saturating_sub(1);
        for (number, (key, content)) in documents.into_iter().enumerate() {
            match &self.place {
                // Another writer may have been faster.
                Place::Remote(store) if number == last && self.existing == Existing::Refuse => {
                    let path = self.path(&key)?;
                    match put_remote(store, &path, content.into(), PutMode::Create).await {
                        Err(object_store::Error::AlreadyExists { .. }) => {
                            return Err(exists(&self.location));
                        }
                        done => done.map_err(|error| self.failed_at(&key, &error))?,
                    }
                }
                _ => self.put(&key, content.into()).await?,
            }
        }
        let Place::Local(staged) = &self.place else { return Ok(()) };
        let staged = staged.write().unwrap_or_else(PoisonError::into_inner).take();
        let staged = staged.ok_or_else(|| self.ended())?;
        staged.publish(self.existing == Existing::Replace).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                return exists(&self.location);
            }
            failed(&self.location, &error)
        })
    }

    /// Removes what is at a place in a bucket, if it may be replaced: first what makes a store of it.
    async fn clear(&self, store: &Arc<dyn ObjectStore>) -> Result<()> {
        let prefix = self.location.path();
        let failed = |error| self.failed_at("", &error);
        let first = store.list(Some(prefix)).next().await;
        match first {
            None | Some(Err(object_store::Error::NotFound { .. })) => return Ok(()),
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(_)) if self.existing == Existing::Refuse => return Err(exists(&self.location)),
            Some(Ok(_)) => {}
        }
        let mut is_zarr = false;
        for name in DOCUMENTS {
            let path = self.path(name)?;
            match store.head(&path).await {
                Ok(_) => is_zarr = true,
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(failed(error)),
            }
            store.delete(&path).await.map_err(failed)?;
        }
        if !is_zarr {
            return Err(no_zarr(&self.location));
        }
        let paths = store.list(Some(prefix)).map_ok(|object| object.location).boxed();
        let deleted: Vec<Path> = store.delete_stream(paths).try_collect().await.map_err(failed)?;
        log::info!("{} objects at '{}' were removed", deleted.len(), self.location.name());
        Ok(())
    }

    fn path(&self, key: &str) -> Result<Path> {
        join(self.location.path(), key).map_err(|reason| Error::Write {
            location: format!("{}/{key}", self.location.name()),
            reason,
        })
    }

    fn failed_at(&self, key: &str, error: &dyn std::error::Error) -> Error {
        let name = self.location.name().trim_end_matches('/');
        let location = if key.is_empty() { name.to_owned() } else { format!("{name}/{key}") };
        Error::Write { location, reason: error.to_string() }
    }

    fn ended(&self) -> Error {
        let location = self.location.name().to_owned();
        Error::Write { location, reason: "its writer has ended".to_owned() }
    }
}

async fn put_remote(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    payload: PutPayload,
    mode: PutMode,
) -> object_store::Result<()> {
    if payload.content_length() <= PUT_BYTES {
        store.put_opts(path, payload, PutOptions::from(mode)).await?;
        return Ok(());
    }
    let upload = store.put_multipart(path).await?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, PUT_BYTES);
    for part in payload {
        writer.wait_for_capacity(4).await?;
        writer.put(part);
    }
    // An upload that fails is aborted there: its parts would be billed.
    writer.finish().await?;
    Ok(())
}

fn exists(location: &Location) -> Error {
    Error::Write {
        location: location.name().to_owned(),
        reason: "something is there: choose another name, or allow to replace it (overwrite)"
            .to_owned(),
    }
}

/// Only Zarr is replaced: whatever else is there may be someone's work.
fn no_zarr(location: &Location) -> Error {
    Error::Write {
        location: location.name().to_owned(),
        reason: "what is there is no Zarr group or array, and isn't replaced: remove it, or choose another name"
            .to_owned(),
    }
}

fn failed(location: &Location, error: &dyn std::error::Error) -> Error {
    Error::Write { location: location.name().to_owned(), reason: error.to_string() }
}
