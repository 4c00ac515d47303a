//! Elements of variable length: decodes strings, bytes and lists from a chunk's bytes.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray as _, BinaryViewBuilder, ListArray, StringViewArray,
        StringViewBuilder, UInt64Array, new_null_array,
    },
    buffer::{Buffer, OffsetBuffer},
    compute::take,
    datatypes::Field,
};

use super::{
    dtype::ElementType,
    elements::plain_array,
    filters::Categorize,
    variable_length::{json_items, json2_items, vlen_bytes, vlen_items},
};
use crate::grid::checked_product;

/// The encoding of elements of variable length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Items {
    /// The number of strings, then length and bytes of each: `vlen-utf8`.
    Strings,
    /// The same layout for bytes: `vlen-bytes`.
    Bytes,
    /// The same layout for lists of these elements: `vlen-array`.
    Lists(ElementType),
    /// A list in JSON: `json2` if `shaped`, or `json`, which lacks the shape.
    Json { shaped: bool },
    /// Codes, each for a label: `categorize`.
    Categories(Categorize),
}

impl Items {
    /// Decodes the elements of a chunk of this shape.
    ///
    /// # Errors
    /// A message, if the bytes are corrupt or hold another number of elements.
    pub(super) fn decode(&self, encoded: &[u8], shape: &[u64]) -> Result<ArrayRef, String> {
        let cells = checked_product(shape).and_then(|cells| usize::try_from(cells).ok());
        let cells = cells.ok_or("its shape is too large")?;
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
                // Copies, because a `Vec<u8>` is aligned only for bytes.
                let values = plain_array(element, Buffer::from_slice_ref(&bytes))?;
                let field = Arc::new(Field::new_list_field(element.data_type(), true));
                i32::try_from(values.len()).map_err(|_| "its lists hold too many elements")?;
                let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
                ListArray::try_new(field, offsets, values, None)
                    .map(|lists| Arc::new(lists) as ArrayRef)
                    .map_err(|e| e.to_string())
            }
            Self::Json { shaped } => {
                let mut out = StringViewBuilder::with_capacity(cells);
                let items = match shaped {
                    true => json2_items(encoded, cells),
                    false => json_items(encoded, shape, cells),
                };
                for item in items? {
                    out.append_option(item);
                }
                Ok(Arc::new(out.finish()))
            }
            Self::Categories(categories) => {
                let codes = categories.decode(encoded)?;
                if codes.len() != cells {
                    return Err(format!("it holds {} codes instead of {cells}", codes.len()));
                }
                // numcodecs decodes codes without a label to empty strings. Each label is stored once, however many
                // cells have it.
                let labels = categories.labels.iter().map(String::as_str).chain([""]);
                let labels = StringViewArray::from_iter_values(labels);
                let none = categories.labels.len();
                let codes =
                    codes.map(|code| code.filter(|code| *code < none).unwrap_or(none) as u64);
                let codes = UInt64Array::from_iter_values(codes);
                take(&labels, &codes, None).map_err(|e| e.to_string())
            }
        }
    }

    /// Encodes the elements of a chunk, strings or bytes: the inverse of [`Items::decode`].
    ///
    /// # Errors
    /// A message, if the number of elements is wrong, an element is NULL, or the codec can't encode.
    pub(super) fn encode(&self, items: &dyn Array, shape: &[u64]) -> Result<Vec<u8>, String> {
        if checked_product(shape) != Some(items.len() as u64) {
            return Err(format!("{} elements aren't a chunk of the shape {shape:?}", items.len()));
        }
        if items.null_count() > 0 {
            return Err("an element is missing, which its codec can't say".to_owned());
        }
        match self {
            Self::Strings => {
                let texts = items.as_string_view_opt().ok_or("the elements aren't strings")?;
                vlen_bytes((0..texts.len()).map(|number| texts.value(number).as_bytes()))
            }
            Self::Bytes => {
                let bytes = items.as_binary_view_opt().ok_or("the elements aren't bytes")?;
                vlen_bytes((0..bytes.len()).map(|number| bytes.value(number)))
            }
            Self::Lists(_) | Self::Json { .. } | Self::Categories(_) => {
                Err("of the codecs of elements of any length, only vlen-utf8 and vlen-bytes are \
                     written"
                    .to_owned())
            }
        }
    }
}

/// Makes an array of one element, a fill value, from its bytes. A list is always empty.
///
/// # Errors
/// A message, if the bytes don't hold such an element.
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

#[cfg(test)]
mod tests {
    use arrow::array::BinaryViewArray;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_may_all_be_empty() {
        let lists = Items::Lists(ElementType::Int32);
        let encoded: Vec<u8> = [2_u32, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        let decoded = lists.decode(&encoded, &[2]).unwrap();
        assert_eq!((decoded.len(), decoded.as_list::<i32>().values().len()), (2, 0));
        let encoded: Vec<u8> = [2_u32, 4, 7, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(lists.decode(&encoded, &[2]).unwrap().as_list::<i32>().values().len(), 1);
        let halves: Vec<u8> =
            [1_u32, 2].iter().flat_map(|n| n.to_le_bytes()).chain([1, 2]).collect();
        assert!(lists.decode(&halves, &[1]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            texts in prop::collection::vec(".{0,30}", 0..100),
            bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..100),
        ) {
            let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(&texts));
            let bytes: ArrayRef = Arc::new(BinaryViewArray::from_iter_values(&bytes));
            for (codec, items) in [(Items::Strings, texts), (Items::Bytes, bytes)] {
                let len = items.len() as u64;
                let encoded = codec.encode(&items, &[len]).unwrap();
                prop_assert_eq!(&codec.decode(&encoded, &[len]).unwrap(), &items);
                prop_assert!(codec.encode(&items, &[len + 1]).is_err());
            }
        }
    }
}
