//! Memory of the caller, in which cells of several chunks have places side by side.

use std::{marker::PhantomData, ops::Range};

use crate::{
    dataset::gather::{Destination, Places},
    huge_pages,
};

/// Bytes of memory from which on huge pages are asked for: what is smaller is faulted in fast enough.
const LARGE: usize = 4 << 20;

/// Memory for the values of some cells.
#[derive(Debug)]
pub struct Place<'a> {
    memory: Memory<'a>,
    shape: Vec<u64>,
    /// Distances of neighbours in bytes, along each dimension.
    strides: Vec<usize>,
}

/// Bytes that several threads write, each its own.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    start: *mut u8,
    len: usize,
    borrowed: PhantomData<&'a mut [u8]>,
}

// SAFETY: the bytes are borrowed exclusively for 'a, and `Memory` gives access to them only in `unsafe` code, whose
// callers write disjoint cells.
unsafe impl Send for Memory<'_> {}
// SAFETY: as above.
unsafe impl Sync for Memory<'_> {}

impl<'a> Place<'a> {
    /// Memory with a shape, and with the distance of neighbours along each dimension in bytes.
    ///
    /// # Errors
    /// A text, if cells would be outside of the memory or have bytes in common. An element takes `width` bytes.
    pub fn new(
        memory: &'a mut [u8],
        shape: &[u64],
        strides: &[usize],
        width: usize,
    ) -> Result<Self, String> {
        if shape.len() != strides.len() {
            return Err(format!(
                "its shape {shape:?} has other dimensions than its strides {strides:?}"
            ));
        }
        if width == 0 || strides.iter().any(|stride| !stride.is_multiple_of(width)) {
            return Err(format!(
                "its strides {strides:?} are no multiples of {width} bytes, an element"
            ));
        }
        let mut dims: Vec<(usize, u64)> = strides
            .iter()
            .copied()
            .zip(shape.iter().copied())
            .filter(|(_, size)| *size != 1)
            .collect();
        dims.sort_unstable();
        // The bytes from the first cell to the end of the last, so far.
        let mut extent = width;
        for (stride, size) in dims {
            if size == 0 {
                extent = 0;
                break;
            }
            if stride < extent {
                return Err(format!("its strides {strides:?} give several cells the same bytes"));
            }
            let size = usize::try_from(size).ok();
            let last = size.and_then(|size| stride.checked_mul(size - 1));
            extent = last
                .and_then(|last| extent.checked_add(last))
                .ok_or_else(|| format!("its shape {shape:?} is larger than memory can be"))?;
        }
        if extent > memory.len() {
            return Err(format!("it has {} bytes, and its cells take {extent}", memory.len()));
        }
        if memory.len() >= LARGE {
            huge_pages::advise(memory);
        }
        let memory =
            Memory { start: memory.as_mut_ptr(), len: memory.len(), borrowed: PhantomData };
        Ok(Self { memory, shape: shape.to_vec(), strides: strides.to_vec() })
    }

    /// Contiguous memory in C order.
    ///
    /// # Errors
    /// Those of [`Place::new`].
    pub fn contiguous(memory: &'a mut [u8], shape: &[u64], width: usize) -> Result<Self, String> {
        let mut strides = vec![0; shape.len()];
        let mut stride = width;
        for (own, size) in strides.iter_mut().zip(shape).rev() {
            *own = stride;
            stride = stride.saturating_mul(usize::try_from((*size).max(1)).unwrap_or(usize::MAX));
        }
        Self::new(memory, shape, &strides, width)
    }

    /// The size of each dimension.
    pub(super) fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Distances of neighbours in elements of `width` bytes. `None` if that isn't the width of its elements.
    pub(super) fn strides(&self, width: usize) -> Option<Vec<usize>> {
        let whole = self.strides.iter().all(|stride| stride.is_multiple_of(width));
        whole.then(|| self.strides.iter().map(|stride| stride / width).collect())
    }

    /// The cells that a thread writes.
    ///
    /// # Safety
    /// No other thread reads or writes these cells meanwhile.
    pub(super) unsafe fn own_cells(&self) -> OwnCells<'_> {
        OwnCells { start: self.memory.start, len: self.memory.len, borrowed: PhantomData }
    }
}

/// Cells that one thread writes.
pub(super) struct OwnCells<'m> {
    start: *mut u8,
    len: usize,
    borrowed: PhantomData<&'m Memory<'m>>,
}

impl OwnCells<'_> {
    /// Bytes side by side. `None` if one is outside.
    pub(super) fn bytes(&mut self, range: Range<usize>) -> Option<&mut [u8]> {
        let len = range.end.checked_sub(range.start)?;
        if range.end > self.len {
            return None;
        }
        // SAFETY: the bytes are within the memory, which is borrowed for longer than `self`; the maker of `OwnCells`
        // promised that nobody else touches these cells.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), len) })
    }
}

/// The same, in units of bytes.
struct OwnUnits<'m> {
    start: *mut u8,
    units: usize,
    borrowed: PhantomData<&'m Memory<'m>>,
}

impl Places for OwnCells<'_> {
    fn as_units<const W: usize>(&mut self) -> impl Destination<W> {
        OwnUnits { start: self.start, units: self.len / W, borrowed: self.borrowed }
    }
}

impl<const W: usize> Destination<W> for OwnUnits<'_> {
    fn unit(&mut self, at: usize) -> Option<&mut [u8; W]> {
        if at >= self.units {
            return None;
        }
        // SAFETY: the unit is within the memory, which is borrowed for longer than `self`; arrays of bytes have no
        // alignment; the maker of `OwnCells` promised that nobody else touches these cells.
        Some(unsafe { &mut *self.start.add(at * W).cast::<[u8; W]>() })
    }

    fn units(&mut self, range: Range<usize>) -> Option<&mut [[u8; W]]> {
        let len = range.end.checked_sub(range.start)?;
        if range.end > self.units {
            return None;
        }
        // SAFETY: as above, for units side by side.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.start.add(range.start * W).cast::<[u8; W]>(), len)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_must_hold_each_cell_once() {
        let mut bytes = [0; 24];
        let mut place = |shape: &[u64], strides: &[usize]| {
            Place::new(&mut bytes, shape, strides, 4).map(|_| ()).err()
        };
        assert_eq!(place(&[2, 3], &[12, 4]), None);
        assert_eq!(place(&[3, 2], &[4, 12]), None);
        assert_eq!(place(&[1, 3], &[0, 8]), None);
        assert_eq!(place(&[0, 1 << 60], &[4, 4]), None);
        assert_eq!(place(&[], &[]), None);
        assert!(place(&[2, 4], &[12, 4]).is_some_and(|e| e.contains("same bytes")));
        assert!(place(&[2, 3], &[0, 4]).is_some_and(|e| e.contains("same bytes")));
        assert!(place(&[2, 3], &[16, 4]).is_some_and(|e| e.contains("take 28")));
        assert!(place(&[2], &[6]).is_some_and(|e| e.contains("multiples")));
        assert!(place(&[u64::MAX, 2], &[8, 4]).is_some_and(|e| e.contains("larger")));
        assert!(place(&[2], &[4, 4]).is_some());
    }
}
