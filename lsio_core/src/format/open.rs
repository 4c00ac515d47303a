//! Opens datasets. The model itself reads no store.

use std::sync::Arc;

use super::{Format, Zarr};
use crate::{Dataset, Error, Location, OpenOptions, Result};

impl Dataset {
    /// Opens the group or array at `location`. Reads metadata only.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotZarr`], [`Error::Metadata`], [`Error::NoSuch`] and
    /// [`Error::Store`].
    pub async fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        Self::open_as(Arc::new(Zarr), location, options).await
    }

    /// Opens a dataset that is stored in this format.
    ///
    /// # Errors
    /// Those of [`Format::open`], and [`Error::Location`] if the location has no dataset of the format.
    pub async fn open_as(
        format: Arc<dyn Format>,
        location: &Location,
        options: &OpenOptions,
    ) -> Result<Self> {
        let at = location.clone().with_limits(options.limits);
        let at = match options.group.as_deref() {
            None | Some("") => at,
            Some(group) => at.child(group)?,
        };
        let content = format.open(&at, options).await?.ok_or_else(|| Error::Location {
            location: location.name().to_owned(),
            reason: format!("nothing there is of the format {format:?}"),
        })?;
        Self::new(location.clone(), format, content, options)
    }

    /// Opens the dataset again, with the same options: other programs may have written to it.
    ///
    /// # Errors
    /// Those of [`Dataset::open`].
    pub async fn reopen(&self) -> Result<Self> {
        let format = Arc::clone(self.opened_by());
        Self::open_as(format, &self.origin().renewed(), self.options()).await
    }
}
