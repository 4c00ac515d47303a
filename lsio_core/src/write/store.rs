//! Writes a group of arrays, as one new store.

use std::sync::Arc;

use super::{
    array::ArrayWriter,
    memory::{Account, WriteMemory},
    target::Target,
};
use crate::{
    Error, Location, Result,
    dataset::{Attributes, NewArray, ZarrFormat},
    format::zarr::{
        documents::DOCUMENTS,
        written::{WrittenArray, group_documents},
    },
};

/// What becomes of what is at the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the write fails. An empty directory is nothing.
    #[default]
    Refuse,
    /// It is replaced when the new store is complete, if it is a Zarr group or array; in a bucket it is removed before the
    /// first object is written.
    Replace,
}

/// A group that is to be written.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// The version of the format.
    pub format: ZarrFormat,
    /// The attributes of the group.
    pub attributes: Attributes,
    /// The arrays, with distinct names.
    pub arrays: Vec<NewArray>,
    /// What becomes of what is at the target.
    pub existing: Existing,
    /// Where the memory of open chunks and shards is reserved.
    pub memory: Option<Arc<dyn WriteMemory>>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Chunks that are stored.
    pub chunks: u64,
    /// Objects of chunks or shards.
    pub objects: u64,
    /// The bytes of these objects.
    pub bytes: u64,
    /// The most bytes of open chunks and shards at once.
    pub peak_bytes: u64,
}

/// Writes a new store. Dropped before [`StoreWriter::commit`], it leaves a local target as it was, and in a bucket
/// objects that are no store.
#[derive(Debug)]
pub struct StoreWriter {
    target: Arc<Target>,
    format: ZarrFormat,
    attributes: Attributes,
    arrays: Vec<ArrayWriter>,
    account: Account,
}

impl NewGroup {
    /// A group of these arrays in Zarr v3, without attributes, where nothing is.
    #[must_use]
    pub fn of(arrays: Vec<NewArray>) -> Self {
        Self {
            format: ZarrFormat::V3,
            attributes: Attributes::default(),
            arrays,
            existing: Existing::Refuse,
            memory: None,
        }
    }
}

impl StoreWriter {
    /// Begins a store.
    ///
    /// # Errors
    /// [`Error::Write`] if something is at the location that may not be replaced, it can't be
    /// written, or the format can't store an array.
    pub async fn create(location: &Location, group: NewGroup) -> Result<Self> {
        let NewGroup { format, attributes, arrays, existing, memory } = group;
        let account = Account::new(memory);
        // Nothing is written, or replaced, for arrays that can't be stored.
        for (number, array) in arrays.iter().enumerate() {
            check_name(array, &arrays[..number])?;
            WrittenArray::new(array, format)?;
        }
        let target = Arc::new(Target::new(location, existing).await?);
        let arrays = arrays.iter().map(|array| ArrayWriter::new(array, format, &target, &account));
        let arrays = arrays.collect::<Result<_>>()?;
        Ok(Self { target, format, attributes, arrays, account })
    }

    /// The writers of the arrays, in the order in which they were given.
    #[must_use]
    pub fn arrays(&self) -> &[ArrayWriter] {
        &self.arrays
    }

    /// Writes what is left of chunks and shards, then the metadata, and publishes the store.
    ///
    /// # Errors
    /// Those of [`ArrayWriter::finish`], and [`Error::Write`] if another writer was faster.
    pub async fn commit(&self) -> Result<Written> {
        let mut written = Written::default();
        for array in &self.arrays {
            array.finish().await?;
            array.finish_shards().await?;
            let own = array.written();
            written.chunks += own.chunks;
            written.objects += own.objects;
            written.bytes += own.bytes;
        }
        let described: Vec<&WrittenArray> =
            self.arrays.iter().map(ArrayWriter::described).collect();
        let documents = described.iter().flat_map(|array| array.documents());
        let group = group_documents(self.format, &self.attributes, &described);
        let documents = documents.chain(group).map(|own| (own.key, own.content)).collect();
        self.target.publish(documents).await?;
        Ok(Written { peak_bytes: self.account.most(), ..written })
    }
}

/// Fails if an array's name can't be that of a node, or is that of another array.
fn check_name(array: &NewArray, others: &[NewArray]) -> Result<()> {
    let name = array.name();
    let reason = if name.is_empty() || name.bytes().all(|byte| byte == b'.') {
        "a name has other characters than dots"
    } else if name.contains(['/', '\\', '\0']) || name.starts_with("__") {
        "a name of an array has no slash, and doesn't begin with two underscores: choose another one"
    } else if DOCUMENTS.contains(&name) {
        "the metadata have this name: choose another one"
    } else if others.iter().any(|other| other.name() == name) {
        "there are two arrays of this name"
    } else {
        return Ok(());
    };
    Err(Error::Write { location: name.to_owned(), reason: reason.to_owned() })
}
