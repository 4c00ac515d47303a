//! Elements of any length: strings, bytes and lists, from the bytes that a chunk holds.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BinaryViewBuilder, ListArray, StringViewBuilder, new_null_array},
    buffer::{Buffer, OffsetBuffer},
    datatypes::Field,
};

use super::{
    dtype::ElementType,
    elements::plain_array,
    filters::Categorize,
    variable_length::{json2_items, vlen_items},
};

/// How elements of any length are written one after the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Items {
    /// Their number, then the length and the bytes of each: `vlen-utf8`.
    Strings,
    /// The same for bytes: `vlen-bytes`.
    Bytes,
    /// The same for the elements of lists: `vlen-array`.
    Lists(ElementType),
    /// A list in JSON: `json2`.
    Json,
    /// Codes, each of which stands for a label: `categorize`.
    Categories(Categorize),
}

impl Items {
    /// The elements of a chunk of so many cells.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt or of another number of elements.
    pub(super) fn decode(&self, encoded: &[u8], cells: usize) -> Result<ArrayRef, String> {
        match self {
            Self::Strings => {
                let items = vlen_items(encoded, cells)?;
                let mut out = StringViewBuilder::with_capacity(items.len());
                for (number, item) in items.into_iter().enumerate() {
                    let text = encoded.get(item).and_then(|bytes| str::from_utf8(bytes).ok());
                    out.append_value(
                        text.ok_or_else(|| format!("its string number {number} is not UTF-8"))?,
                    );
                }
                Ok(Arc::new(out.finish()))
            }
            Self::Bytes => {
                let items = vlen_items(encoded, cells)?;
                let mut out = BinaryViewBuilder::with_capacity(items.len());
                for item in items {
                    out.append_value(encoded.get(item).unwrap_or_default());
                }
                Ok(Arc::new(out.finish()))
            }
            Self::Lists(element) => {
                let items = vlen_items(encoded, cells)?;
                let size = element.size().filter(|size| *size > 0).ok_or("lists of nothing")?;
                let mut bytes = Vec::new();
                let mut lengths = Vec::with_capacity(items.len());
                for (number, item) in items.into_iter().enumerate() {
                    let item = encoded.get(item).unwrap_or_default();
                    if !item.len().is_multiple_of(size) {
                        return Err(format!("its list number {number} holds parts of elements"));
                    }
                    bytes.extend_from_slice(item);
                    lengths.push(item.len() / size);
                }
                let values = plain_array(element, Buffer::from_vec(bytes))?;
                let field = Arc::new(Field::new_list_field(element.data_type(), true));
                i32::try_from(values.len()).map_err(|_| "its lists hold too many elements")?;
                let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
                ListArray::try_new(field, offsets, values, None)
                    .map(|lists| Arc::new(lists) as ArrayRef)
                    .map_err(|e| e.to_string())
            }
            Self::Json => {
                let mut out = StringViewBuilder::with_capacity(cells);
                for item in json2_items(encoded, cells)? {
                    out.append_option(item);
                }
                Ok(Arc::new(out.finish()))
            }
            Self::Categories(categories) => {
                let labels = &categories.labels;
                let codes = categories.decode(encoded)?;
                if codes.len() != cells {
                    return Err(format!("it holds {} codes instead of {cells}", codes.len()));
                }
                let mut out = StringViewBuilder::with_capacity(cells);
                for code in codes {
                    // numcodecs gives what has no label as an empty string.
                    let label = code.and_then(|code| labels.get(code));
                    out.append_value(label.map_or("", String::as_str));
                }
                Ok(Arc::new(out.finish()))
            }
        }
    }
}

/// An array of one element, whose bytes are given: that of a fill value.
///
/// # Errors
/// A text, if the bytes aren't such an element.
pub(super) fn one_item(element: &ElementType, bytes: &[u8]) -> Result<ArrayRef, String> {
    Ok(match element {
        ElementType::Utf8 => {
            let text = str::from_utf8(bytes).map_err(|_| "the fill value is not UTF-8")?;
            let mut out = StringViewBuilder::new();
            out.append_value(text);
            Arc::new(out.finish())
        }
        ElementType::Binary => {
            let mut out = BinaryViewBuilder::new();
            out.append_value(bytes);
            Arc::new(out.finish())
        }
        ElementType::List(item) => {
            let field = Arc::new(Field::new_list_field(item.data_type(), true));
            let values = new_null_array(&item.data_type(), 0);
            let offsets = OffsetBuffer::<i32>::from_lengths([0]);
            Arc::new(ListArray::try_new(field, offsets, values, None).map_err(|e| e.to_string())?)
        }
        element => plain_array(element, Buffer::from(bytes))?,
    })
}
