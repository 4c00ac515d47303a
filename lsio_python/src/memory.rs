//! Memory of Python's arrays, to be read or written without the interpreter's lock.

use std::slice;

use pyo3::{buffer::PyUntypedBuffer, exceptions::PyBufferError, prelude::*};

/// An array whose elements lie side by side.
pub(crate) struct Contiguous(PyUntypedBuffer);

impl Contiguous {
    /// # Errors
    /// `BufferError`, if the elements don't lie side by side.
    pub(crate) fn of(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(array)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the array's elements don't lie side by side"));
        }
        Ok(Self(buffer))
    }

    /// Bytes of an element.
    pub(crate) fn width(&self) -> usize {
        self.0.item_size()
    }

    /// The elements' bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let start = self.0.buf_ptr().cast::<u8>();
        if start.is_null() || self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the exporter promises that these bytes exist while the buffer is held. That no other thread writes to
        // the array meanwhile is up to the caller, as for numpy's own functions.
        unsafe { slice::from_raw_parts(start, self.0.len_bytes()) }
    }

    /// The elements' bytes, to be written.
    ///
    /// # Errors
    /// `BufferError`, if the array is read-only.
    pub(crate) fn bytes_mut(&mut self) -> PyResult<&mut [u8]> {
        if self.0.readonly() {
            return Err(PyBufferError::new_err("the array can't be written"));
        }
        let start = self.0.buf_ptr().cast::<u8>();
        if start.is_null() || self.0.len_bytes() == 0 {
            return Ok(&mut []);
        }
        // SAFETY: as above, for a writable buffer; `self` is borrowed exclusively.
        Ok(unsafe { slice::from_raw_parts_mut(start, self.0.len_bytes()) })
    }
}
