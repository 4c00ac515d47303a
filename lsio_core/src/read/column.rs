//! Columns read as a whole.

use arrow::array::ArrayRef;

use super::part::Part;
use crate::{
    Column, Result, Selection,
    dataset::{ColumnValues, StoredColumn},
};

impl Column {
    /// All values at the column's own rank, in the grid's order of dimensions; `None` for an index column, and for one
    /// that isn't a variable's or in memory. They are read once and kept, however many callers ask.
    ///
    /// # Errors
    /// [`Error::Unreadable`](crate::Error::Unreadable), and those of [`Variable::read_all`](crate::Variable::read_all).
    pub async fn load(&self) -> Result<Option<ArrayRef>> {
        match self.values() {
            ColumnValues::Stored(stored) => {
                self.held.get_or_try_init(|| self.read_now(stored)).await.cloned().map(Some)
            }
            ColumnValues::Mapped(mapped) => {
                if !mapped.column.is_index() {
                    Box::pin(mapped.column.load()).await?;
                }
                Ok(None)
            }
            _ => Ok(self.loaded().cloned()),
        }
    }

    /// Like [`Column::load`], but doesn't keep the values. Values that [`Column::load`] has read already are not read
    /// again.
    ///
    /// # Errors
    /// Those of [`Column::load`].
    pub async fn read(&self) -> Result<Option<ArrayRef>> {
        match (self.values(), self.loaded()) {
            (ColumnValues::Stored(stored), None) => self.read_now(stored).await.map(Some),
            (_, loaded) => Ok(loaded.cloned()),
        }
    }

    async fn read_now(&self, stored: &StoredColumn) -> Result<ArrayRef> {
        self.check_readable()?;
        let StoredColumn { variable, axes, .. } = stored;
        let sizes = axes.iter().map(|&axis| Selection::all(variable.shape()[axis]));
        variable.read_part(&Part::new(variable, axes, sizes.collect())).await
    }
}
