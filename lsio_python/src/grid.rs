//! Rows as dense arrays: each row has a cell, which its labels tell.

use std::{collections::HashMap, hash::Hash};

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyByteArray,
};

use crate::memory::Contiguous;

/// The labels of rows along some dimensions.
#[pyclass(frozen)]
pub(crate) struct Grid {
    rows: usize,
    dims: Vec<Dim>,
    /// Whether row after row is cell after cell.
    is_in_order: bool,
}

/// Labels along one dimension.
struct Dim {
    /// The row that brings each label first, in the order of rows.
    first: Vec<usize>,
    /// Of each row, the number of its label in `first`.
    codes: Vec<u32>,
    /// Of each label in `first`, its position along the dimension.
    place: Vec<u32>,
}

#[pymethods]
impl Grid {
    /// Finds the labels of each row: of each dimension the type of numpy and the labels, side by side, or `"text"` and a
    /// list; and then the labels of the dimension in their order, if they have one. Others are ascending, or as rows bring
    /// them if `as_rows`.
    #[new]
    fn new(
        py: Python<'_>,
        rows: usize,
        dims: Vec<(String, Bound<'_, PyAny>, Option<Bound<'_, PyAny>>)>,
        as_rows: bool,
    ) -> PyResult<Self> {
        let mut found = Vec::with_capacity(dims.len());
        for (dtype, labels, known) in dims {
            let dim = if dtype == "text" {
                let labels: Vec<Option<String>> = labels.extract()?;
                let known: Option<Vec<Option<String>>> =
                    known.map(|known| known.extract()).transpose()?;
                let known = known.as_ref().map(|known| known.iter().map(text_key).collect());
                let known = Known::new(known, as_rows);
                py.detach(|| Dim::new(labels.iter().map(text_key), &known))
            } else {
                let order = Order::of(&dtype)?;
                let known = known.as_ref().map(Contiguous::of).transpose()?;
                let known = Known::new(known.map(|known| order.keys(&known)), as_rows);
                let labels = Contiguous::of(&labels)?;
                let bytes = labels.bytes();
                py.detach(|| match labels.width() {
                    1 => {
                        Dim::new(bytes.as_chunks::<1>().0.iter().map(|own| order.key(*own)), &known)
                    }
                    2 => {
                        Dim::new(bytes.as_chunks::<2>().0.iter().map(|own| order.key(*own)), &known)
                    }
                    4 => {
                        Dim::new(bytes.as_chunks::<4>().0.iter().map(|own| order.key(*own)), &known)
                    }
                    _ => {
                        Dim::new(bytes.as_chunks::<8>().0.iter().map(|own| order.key(*own)), &known)
                    }
                })
            };
            let dim = dim.ok_or_else(|| PyValueError::new_err("there are too many labels"))?;
            if dim.codes.len() != rows {
                let text = format!("{} labels are given for {rows} rows", dim.codes.len());
                return Err(PyValueError::new_err(text));
            }
            found.push(dim);
        }
        let mut grid = Self { rows, dims: found, is_in_order: false };
        let cells = grid.sizes().into_iter().try_fold(1_usize, usize::checked_mul);
        grid.is_in_order = cells == Some(rows)
            && py.detach(|| grid.positions().enumerate().all(|(row, cell)| row == cell));
        Ok(grid)
    }

    /// The number of labels along each dimension.
    fn sizes(&self) -> Vec<usize> {
        self.dims.iter().map(|dim| dim.first.len()).collect()
    }

    /// Whether row after row is cell after cell.
    fn is_in_order(&self) -> bool {
        self.is_in_order
    }

    /// Of each label along a dimension, a row that has it, as int64.
    fn label_rows<'py>(&self, py: Python<'py>, dim: usize) -> PyResult<Bound<'py, PyByteArray>> {
        let dim = self.dims.get(dim).ok_or_else(|| PyValueError::new_err("no such dimension"))?;
        let mut rows = vec![0_i64; dim.first.len()];
        for (label, row) in dim.first.iter().enumerate() {
            if let Some(own) = rows.get_mut(dim.place[label] as usize) {
                *own = i64::try_from(*row).unwrap_or(i64::MAX);
            }
        }
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.to_ne_bytes()).collect();
        Ok(PyByteArray::new(py, &bytes))
    }

    /// A row whose cell another row has too, or `None`. Takes a bit for each cell.
    fn repeated(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        if self.is_in_order {
            return Ok(None);
        }
        let cells = self.cells()?;
        Ok(py.detach(|| {
            let mut seen = vec![0_u64; cells.div_ceil(64)];
            self.positions().enumerate().find_map(|(row, cell)| {
                let (word, bit) = (seen.get_mut(cell / 64)?, 1 << (cell % 64));
                let is_repeated = *word & bit != 0;
                *word |= bit;
                is_repeated.then_some(row)
            })
        }))
    }

    /// Of each row, its cell, as int64.
    fn cells_of_rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        self.cells()?;
        let bytes: Vec<u8> =
            py.detach(|| self.positions().flat_map(|cell| (cell as i64).to_ne_bytes()).collect());
        Ok(PyByteArray::new(py, &bytes))
    }

    /// Puts the value of each row into its cell, and `missing` into the others.
    fn scatter(
        &self,
        py: Python<'_>,
        values: &Bound<'_, PyAny>,
        missing: &[u8],
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (values, mut out) = (Contiguous::of(values)?, Contiguous::of(out)?);
        let (width, cells) = (values.width(), self.cells()?);
        let bytes = values.bytes();
        let target = out.bytes_mut()?;
        let fits = missing.len() == width
            && bytes.len() == self.rows * width
            && Some(target.len()) == cells.checked_mul(width);
        if !fits {
            return Err(PyValueError::new_err("the values don't fit the rows, or the cells"));
        }
        let (missing, is_full) = (missing.to_vec(), self.rows == cells);
        py.detach(|| {
            if !is_full {
                target.chunks_exact_mut(width).for_each(|cell| cell.copy_from_slice(&missing));
            }
            match width {
                1 => self.put::<1>(bytes, target),
                2 => self.put::<2>(bytes, target),
                4 => self.put::<4>(bytes, target),
                8 => self.put::<8>(bytes, target),
                _ => {
                    for (value, cell) in bytes.chunks_exact(width).zip(self.positions()) {
                        if let Some(own) = target.get_mut(cell * width..(cell + 1) * width) {
                            own.copy_from_slice(value);
                        }
                    }
                }
            }
        });
        Ok(())
    }
}

impl Grid {
    /// The number of cells.
    fn cells(&self) -> PyResult<usize> {
        let cells = self.sizes().into_iter().try_fold(1_usize, usize::checked_mul);
        cells.ok_or_else(|| PyValueError::new_err("there are more cells than memory can have"))
    }

    /// Of each row, its cell.
    fn positions(&self) -> impl Iterator<Item = usize> {
        (0..self.rows).map(|row| {
            self.dims.iter().fold(0, |cell, dim| {
                let place = dim.place[dim.codes[row] as usize];
                cell * dim.first.len() + place as usize
            })
        })
    }

    fn put<const W: usize>(&self, values: &[u8], target: &mut [u8]) {
        let target = target.as_chunks_mut::<W>().0;
        for (value, cell) in values.as_chunks::<W>().0.iter().zip(self.positions()) {
            if let Some(own) = target.get_mut(cell) {
                *own = *value;
            }
        }
    }
}

/// The order of labels along a dimension.
enum Known<K> {
    /// As rows bring them.
    AsRows,
    Ascending,
    /// The place of each.
    Places(HashMap<K, usize>),
}

impl<K: Hash + Eq> Known<K> {
    fn new(labels: Option<Vec<K>>, as_rows: bool) -> Self {
        match labels {
            _ if as_rows => Self::AsRows,
            None => Self::Ascending,
            Some(labels) => {
                let mut places = HashMap::with_capacity(labels.len());
                for (place, label) in labels.into_iter().enumerate() {
                    places.entry(label).or_insert(place);
                }
                Self::Places(places)
            }
        }
    }
}

impl Dim {
    /// `None` if there are more labels than can be numbered.
    fn new<K: Clone + Ord + Hash>(keys: impl Iterator<Item = K>, known: &Known<K>) -> Option<Self> {
        let mut numbers: HashMap<K, u32> = HashMap::new();
        let (mut first, mut distinct, mut codes) = (Vec::new(), Vec::new(), Vec::new());
        let mut last: Option<(K, u32)> = None;
        for (row, key) in keys.enumerate() {
            // Neighbours often have the same label.
            let code = match &last {
                Some((same, code)) if *same == key => *code,
                _ => {
                    let next = u32::try_from(first.len()).ok()?;
                    let code = *numbers.entry(key.clone()).or_insert(next);
                    if code == next {
                        first.push(row);
                        distinct.push(key.clone());
                    }
                    last = Some((key, code));
                    code
                }
            };
            codes.push(code);
        }
        let mut order: Vec<u32> = (0..u32::try_from(distinct.len()).ok()?).collect();
        match known {
            Known::AsRows => {}
            Known::Ascending => order.sort_by_key(|label| &distinct[*label as usize]),
            // Labels that aren't known come last.
            Known::Places(places) => order.sort_by_key(|label| {
                let own = &distinct[*label as usize];
                (places.get(own).copied().unwrap_or(usize::MAX), own)
            }),
        }
        let mut place = vec![0; order.len()];
        for (position, label) in (0..).zip(&order) {
            place[*label as usize] = position;
        }
        Some(Self { first, codes, place })
    }
}

/// Compares as the text does. Missing texts come last.
fn text_key(text: &Option<String>) -> (bool, Option<&str>) {
    (text.is_none(), text.as_deref())
}

/// How labels of a type of numpy are compared.
#[derive(Clone, Copy)]
enum Order {
    Unsigned,
    Signed,
    Float,
    /// NaT comes last.
    Time,
}

impl Order {
    fn of(dtype: &str) -> PyResult<Self> {
        Ok(match dtype.get(..1) {
            Some("u" | "b") => Self::Unsigned,
            Some("i") => Self::Signed,
            Some("f") if dtype != "f2" => Self::Float,
            Some("M" | "m") => Self::Time,
            _ => {
                let text = format!("values of numpy's type {dtype} can't be labels of a dimension");
                return Err(PyTypeError::new_err(text));
            }
        })
    }

    /// Numbers that compare as the labels do.
    fn keys(self, labels: &Contiguous) -> Vec<u64> {
        let bytes = labels.bytes();
        match labels.width() {
            1 => bytes.as_chunks::<1>().0.iter().map(|own| self.key(*own)).collect(),
            2 => bytes.as_chunks::<2>().0.iter().map(|own| self.key(*own)).collect(),
            4 => bytes.as_chunks::<4>().0.iter().map(|own| self.key(*own)).collect(),
            _ => bytes.as_chunks::<8>().0.iter().map(|own| self.key(*own)).collect(),
        }
    }

    /// A number that compares as the label does. All NaN are one, and the last.
    fn key<const W: usize>(self, label: [u8; W]) -> u64 {
        const SIGN: u64 = 1 << 63;

        let mut wide = [0; 8];
        let start = if cfg!(target_endian = "big") { 8 - W.min(8) } else { 0 };
        for (to, from) in wide[start..].iter_mut().zip(label) {
            *to = from;
        }
        let bits = u64::from_ne_bytes(wide);
        let unused = 64 - 8 * W.min(8);
        match self {
            Self::Unsigned => bits,
            Self::Signed => (((bits << unused) as i64 >> unused) as u64) ^ SIGN,
            Self::Time if bits == SIGN => u64::MAX,
            Self::Time => bits ^ SIGN,
            Self::Float => {
                let value = if W == 4 {
                    f64::from(f32::from_bits(bits as u32))
                } else {
                    f64::from_bits(bits)
                };
                // Both zeros are one label.
                let bits = (value + 0.0).to_bits();
                match value.is_nan() {
                    true => u64::MAX,
                    false if bits & SIGN == 0 => bits | SIGN,
                    false => !bits,
                }
            }
        }
    }
}
