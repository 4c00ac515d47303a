//! Columns read as a whole.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::part::Part;
use crate::{Column, Error, Result, Selection};

impl Column {
    /// All values at the column's own rank, in the grid's order of dimensions; `None` for an index column. They are
    /// read once and kept, however many callers ask.
    ///
    /// # Errors
    /// [`Error::Unreadable`], and those of [`Variable::read_all`](crate::Variable::read_all).
    pub async fn load(&self) -> Result<Option<ArrayRef>> {
        if self.variable.is_none() {
            return Ok(None);
        }
        self.held.get_or_try_init(|| self.read_now()).await.cloned().map(Some)
    }

    /// Like [`Column::load`], but doesn't keep the values. Values that [`Column::load`] has read already are not read
    /// again.
    ///
    /// # Errors
    /// Those of [`Column::load`].
    pub async fn read(&self) -> Result<Option<ArrayRef>> {
        match (&self.variable, self.loaded()) {
            (None, _) => Ok(None),
            (Some(_), Some(loaded)) => Ok(Some(Arc::clone(loaded))),
            (Some(_), None) => self.read_now().await.map(Some),
        }
    }

    async fn read_now(&self) -> Result<ArrayRef> {
        self.check_readable()?;
        let Some(variable) = &self.variable else {
            return Err(Error::Decode {
                array: self.name.clone(),
                reason: "an index has no values to be read".to_owned(),
            });
        };
        let sizes = self.axes.iter().map(|&axis| Selection::all(variable.shape()[axis]));
        variable.read_part(&Part::new(variable, &self.axes, sizes.collect())).await
    }
}
