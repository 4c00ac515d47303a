//! Texts in arrays of Python's objects.

use arrow::array::{Array as _, LargeStringArray};
use pyo3::{buffer::PyUntypedBuffer, exceptions::PyBufferError, ffi, prelude::*, types::PyString};

/// Puts texts into a writable array of objects in C order, in place of what it holds. A missing one is `None`.
///
/// # Errors
/// `BufferError`, if the array isn't one of as many objects.
pub(crate) fn put_texts(texts: &LargeStringArray, out: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = out.py();
    let buffer = PyUntypedBuffer::get(out)?;
    let fits = !buffer.readonly()
        && buffer.is_c_contiguous()
        && buffer.format() == c"O"
        && buffer.item_size() == size_of::<*mut ffi::PyObject>()
        && buffer.item_count() == texts.len();
    if !fits {
        return Err(PyBufferError::new_err(format!(
            "the memory to read into isn't a writable array of {} objects side by side",
            texts.len()
        )));
    }
    let slots = buffer.buf_ptr().cast::<*mut ffi::PyObject>();
    for (at, text) in texts.iter().enumerate() {
        let new = match text {
            Some(text) => PyString::new(py, text).into_any(),
            None => py.None().into_bound(py),
        };
        // SAFETY: the exporter of a writable buffer of objects promises that its slots exist while the buffer is held,
        // and own what they refer to, or are null. The interpreter's lock is held, and a slot has its new object before
        // the old one is released, which may run any code.
        unsafe {
            let old = slots.add(at).replace(new.into_ptr());
            ffi::Py_XDECREF(old);
        }
    }
    Ok(())
}
