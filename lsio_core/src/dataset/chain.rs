//! Chains of codecs, undone straight into buffers of the exact size.
//!
//! In the order of decoding a chain is: codecs from bytes to bytes; then what makes elements of bytes;
//! then filters, which change the elements. What is left to do with them, the order of dimensions and
//! of bytes, is told by [`Storage`] and done where values are picked, in the same pass.

use std::sync::Arc;

use arrow::buffer::Buffer;
use serde_json::{Map, Value};

use super::{
    checksum::Checked,
    compression::Compressor,
    decoding::StoredValues,
    dtype::ElementType,
    filters::{Categorize, Filter},
    items::Items,
    pcodec::Pcodec,
    whole_shard::WholeShard,
};
use crate::{
    Selection,
    grid::checked_product,
    read::{Axis, Gather},
    recycle::Recycler,
};

/// What is said of a chunk with more cells than memory can have.
const TOO_LARGE: &str = "its shape is too large";

/// The most codecs of an array.
const MAX_CODECS: usize = 32;

/// The bytes that a string may have on average, beyond the first [`TEXT_BYTES`] of a chunk.
const MEAN_STRING_BYTES: usize = 4 << 10;

/// The bytes that the strings of a chunk may have however few they are.
const TEXT_BYTES: usize = 64 << 20;

/// The bytes that the strings of a chunk may have however many they are.
const MAX_TEXT_BYTES: usize = 1 << 30;

/// What compressed bytes may have beyond those of the elements, where they are compressed twice.
const OVERHEAD_BYTES: usize = 1 << 20;

/// How the elements of a chunk lie in its decoded bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// The dimensions in the order of the bytes, slowest first. C order is 0, 1, ….
    pub(crate) order: Vec<usize>,
    /// The bytes of an element.
    pub(crate) width: usize,
    /// The bytes to reverse, so many at a time, to get to the machine's order; 1 for none.
    pub(crate) swap: usize,
}

impl Storage {
    /// C order, in the machine's order of bytes.
    pub(crate) fn native(rank: usize, width: usize) -> Self {
        Self { order: (0..rank).collect(), width, swap: 1 }
    }
}

/// How the decoded bytes of a chunk can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// They are stored as they are.
    Plain,
    /// Block by block.
    Blosc,
    /// All at once.
    Whole,
}

/// Why a chain can't be undone here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A codec that only zarrs may know.
    Unknown(String),
    /// A codec that can't be used, for a reason.
    Invalid(String),
}

/// A chain of codecs that is known here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chain {
    storage: Storage,
    /// From bytes to bytes, in the order of decoding.
    steps: Vec<Step>,
    end: End,
    /// From elements to elements, in the order of decoding.
    filters: Vec<ArrayStep>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Decompress(Compressor),
    Checksum(Checked),
    Filter(Filter),
    Pcodec(Pcodec),
}

/// What makes elements of bytes.
#[derive(Clone, Debug, PartialEq)]
enum End {
    /// They are the elements.
    Elements,
    Items(Items),
    Shard(Box<WholeShard>),
}

#[derive(Clone, Debug, PartialEq)]
enum ArrayStep {
    Filter(Filter),
    /// Reverses bytes, so many at a time.
    Swap(usize),
    /// From an order of dimensions to that of the array, for elements of so many bytes.
    Transpose {
        order: Vec<usize>,
        width: usize,
    },
}

impl Chain {
    /// The chain of Zarr v2 metadata. `big_endian` is the order of bytes that the dtype tells, and
    /// `is_nczarr` whether netCDF's library wrote the array.
    pub(super) fn from_v2(
        metadata: &Map<String, Value>,
        element: &ElementType,
        big_endian: bool,
        rank: usize,
        is_nczarr: bool,
    ) -> Result<Self, Refusal> {
        let mut order: Vec<usize> = (0..rank).collect();
        match metadata.get("order") {
            None | Some(Value::Null) => {}
            Some(value) => match value.as_str() {
                Some("C") => {}
                Some("F") => order.reverse(),
                _ => return Err(Refusal::Invalid(format!("the order {value} is neither C nor F"))),
            },
        }
        let no_filters = Vec::new();
        let filters = match metadata.get("filters") {
            None | Some(Value::Null) => &no_filters,
            Some(filters) => filters
                .as_array()
                .ok_or_else(|| Refusal::Invalid("filters are not a list".to_owned()))?,
        };
        let compressor = metadata.get("compressor").filter(|codec| !codec.is_null());
        let mut codecs = filters.iter().chain(compressor);
        too_many(filters.len())?;
        let end = match Items::of_v2(element, filters.first())? {
            Some(items) => {
                codecs.next();
                End::Items(items)
            }
            None => End::Elements,
        };
        let steps = codecs.map(|codec| {
            let mut configuration = codec.as_object().cloned().unwrap_or_default();
            let id = codec.get("id").and_then(Value::as_str);
            let id = id.ok_or_else(|| Refusal::Invalid("a codec has no id".to_owned()))?;
            if is_pcodec(id) && !big_endian && filters.is_empty() {
                return pcodec(element);
            }
            if id == "shuffle" {
                complete_shuffle(&mut configuration, element, is_nczarr)?;
            }
            Step::of(id, Some(&configuration))
        });
        let mut steps = steps.collect::<Result<Vec<_>, _>>()?;
        steps.reverse();
        let mut storage = storage(element, order, big_endian);
        if matches!(end, End::Items(Items::Json { .. })) {
            // Lists in lists, in the order of the array's own dimensions.
            storage.order.sort_unstable();
        }
        Ok(Self { storage, steps, end, filters: Vec::new() })
    }

    /// The chain of a list of Zarr v3 codecs. `fill` are the bytes of the fill value.
    pub(super) fn from_v3(
        codecs: &[Value],
        element: &ElementType,
        rank: usize,
        fill: &[u8],
    ) -> Result<Self, Refusal> {
        Self::nested(codecs, element, rank, fill, 0)
    }

    pub(super) fn nested(
        codecs: &[Value],
        element: &ElementType,
        rank: usize,
        fill: &[u8],
        depth: usize,
    ) -> Result<Self, Refusal> {
        too_many(codecs.len())?;
        let invalid = |reason: &str| Refusal::Invalid(reason.to_owned());
        let mut codecs = codecs.iter().peekable();
        // Transpositions before all else are left to whoever picks values.
        let mut order: Vec<usize> = (0..rank).collect();
        while let Some(codec) = codecs.next_if(|codec| name(codec) == Some("transpose")) {
            let axes = axes(codec, rank)?;
            // Dimension i of what is stored is dimension axes[i] of what was given.
            order = axes.iter().map(|&axis| order[axis]).collect();
        }
        let mut filters = Vec::new();
        let mut innermost = None;
        let mut width = element.size();
        let (end, swap) = loop {
            let codec = codecs.next().ok_or_else(|| {
                invalid("the codecs have none that makes bytes of an array, such as 'bytes'")
            })?;
            let name = name(codec).ok_or_else(|| invalid("a codec has no name"))?;
            let configuration = codec.get("configuration").and_then(Value::as_object);
            match (name, element) {
                // `endian` is what drafts of Zarr v3 called `bytes`.
                ("bytes" | "endian", element) if element.size().is_some() => {
                    break (End::Elements, swap_of(codec, element, width)?);
                }
                (name, element) if is_pcodec(name) && filters.is_empty() => {
                    innermost = Some(pcodec(element)?);
                    break (End::Elements, 1);
                }
                ("vlen-utf8" | "vlen-bytes", element) if filters.is_empty() => {
                    break (End::Items(Items::of_v3(name, element)?), 1);
                }
                ("sharding_indexed", _) if filters.is_empty() => {
                    let shard = WholeShard::new(codec, element, rank, fill, depth)?;
                    break (End::Shard(Box::new(shard)), 1);
                }
                ("transpose", _) => {
                    let order = axes(codec, rank)?;
                    let width =
                        width.ok_or_else(|| invalid("what a filter made can't be transposed"))?;
                    filters.push(ArrayStep::Transpose { order, width });
                }
                // Of the two codecs of this name, that of Zarr v3 has another order of bits.
                ("packbits", _) => return Err(Refusal::Unknown(name.to_owned())),
                ("bytes" | "endian", _) => {
                    return Err(invalid(
                        "the codec 'bytes' can't hold elements of any length, as its data type has \
                         them: vlen-utf8 and vlen-bytes do",
                    ));
                }
                _ if is_of_bytes(name) => {
                    return Err(Refusal::Invalid(format!(
                        "the codec '{name}' stands where there is still an array: before it, a codec \
                         that makes bytes of it, such as 'bytes', is missing"
                    )));
                }
                _ => {
                    let configuration = native_configuration(configuration, element);
                    let filter = Filter::of(name, &configuration);
                    let filter = filter.ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
                    let filter = filter.map_err(Refusal::Invalid)?;
                    width = width.and_then(|width| {
                        let len = |cells: usize| filter.encoded_len(width.checked_mul(cells)?);
                        match (len(1), len(2), len(3)) {
                            (Some(one), Some(two), Some(three))
                                if two.checked_sub(one) == Some(one) && three - two == one =>
                            {
                                Some(one)
                            }
                            // It takes several elements at a time: bytes are what is left.
                            _ => None,
                        }
                    });
                    filters.push(ArrayStep::Filter(filter));
                }
            }
        };
        let mut steps = codecs
            .map(|codec| {
                let name = name(codec).ok_or_else(|| invalid("a codec has no name"))?;
                let configuration = codec.get("configuration").and_then(Value::as_object);
                Step::of(name, Some(&native_configuration(configuration, element)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        steps.reverse();
        steps.extend(innermost);
        let mut storage = storage(element, order, false);
        if filters.is_empty() {
            storage.swap = swap;
        } else if swap > 1 {
            filters.push(ArrayStep::Swap(swap));
        }
        filters.reverse();
        Ok(Self { storage, steps, end, filters })
    }

    /// Whether there is nothing to undo.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.is_direct()
    }

    /// How the decoded bytes can be had.
    pub(super) fn stream(&self) -> Stream {
        match self.steps.as_slice() {
            _ if !self.is_direct() => Stream::Whole,
            [] => Stream::Plain,
            [Step::Decompress(Compressor::Blosc)] => Stream::Blosc,
            _ => Stream::Whole,
        }
    }

    /// How elements lie in the decoded bytes.
    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The most bytes that a chunk of this shape takes on the way, stored or in between.
    ///
    /// # Errors
    /// A text, if that is more than can be counted or a filter can't have made the elements.
    pub(super) fn most_bytes(&self, shape: &[u64]) -> Result<usize, String> {
        const FAULT: &str = "its filters don't fit the chunks";

        let cells = cells(shape)?;
        let lens = self.filter_lens(cells)?;
        let mut len = lens[0];
        let mut most = lens.into_iter().max().unwrap_or(len);
        match &self.end {
            End::Elements => {}
            End::Items(_) => return Ok(text_bytes(cells)),
            End::Shard(shard) => {
                let shape = transposed(shape, &self.storage.order);
                most = most.max(shard.most_bytes(&shape, len));
            }
        }
        for step in self.steps.iter().rev() {
            match step {
                Step::Decompress(_) | Step::Pcodec(_) => break,
                step => len = step.encoded_len(len).ok_or(FAULT)?,
            }
            most = most.max(len);
        }
        Ok(most)
    }

    /// The bytes that each filter gets, in the order of decoding, and then those of the elements of so
    /// many cells.
    fn filter_lens(&self, cells: usize) -> Result<Vec<usize>, String> {
        let len = cells.checked_mul(self.storage.width).ok_or(TOO_LARGE)?;
        let mut lens = vec![len; self.filters.len() + 1];
        for (number, filter) in self.filters.iter().enumerate().rev() {
            let encoded_len = match filter {
                ArrayStep::Filter(filter) => filter.encoded_len(lens[number + 1]),
                ArrayStep::Swap(_) | ArrayStep::Transpose { .. } => Some(lens[number + 1]),
            };
            lens[number] = encoded_len.ok_or("a filter can't have made its elements")?;
        }
        Ok(lens)
    }

    fn is_direct(&self) -> bool {
        self.end == End::Elements && self.filters.is_empty()
    }

    /// Undoes everything but what [`Storage`] tells, for a chunk of this shape.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt, or are those of more or fewer elements.
    pub(super) fn decode(
        &self,
        encoded: Buffer,
        shape: &[u64],
        recycler: &Arc<Recycler>,
    ) -> Result<StoredValues, String> {
        let cells = cells(shape)?;
        // What follows sees the chunk after the transpositions that are left to whoever picks values.
        let shape: Vec<u64> = match &self.end {
            End::Items(_) => shape.to_vec(),
            _ => transposed(shape, &self.storage.order),
        };
        let lens = self.filter_lens(cells)?;
        let (expected, most) = match &self.end {
            End::Elements => (Some(lens[0]), lens[0]),
            End::Shard(shard) => (None, shard.most_bytes(&shape, lens[0])),
            End::Items(_) => (None, text_bytes(cells)),
        };
        let bytes = self.undo_steps(encoded, expected, most, recycler)?;
        let mut elements = match &self.end {
            End::Elements => {
                if bytes.len() != lens[0] {
                    return Err(format!("it holds {} bytes instead of {}", bytes.len(), lens[0]));
                }
                bytes
            }
            End::Items(items) => return items.decode(&bytes, &shape).map(StoredValues::Items),
            End::Shard(shard) => match shard.decode(&bytes, &shape, recycler)? {
                StoredValues::Fixed(elements) => elements,
                items => return Ok(items),
            },
        };
        // What each transposition between filters was given, from the first to the last.
        let mut shapes = Vec::new();
        let mut given = shape;
        for filter in self.filters.iter().rev() {
            if let ArrayStep::Transpose { order, .. } = filter {
                let next = transposed(&given, order);
                shapes.push(std::mem::replace(&mut given, next));
            }
        }
        for (filter, len) in self.filters.iter().zip(&lens[1..]) {
            let mut out = recycler.take(*len);
            match filter {
                ArrayStep::Filter(filter) => filter.decode(&elements, &mut out)?,
                ArrayStep::Swap(width) => {
                    out.copy_from_slice(&elements);
                    out.chunks_exact_mut(*width).for_each(<[u8]>::reverse);
                }
                ArrayStep::Transpose { order, width } => {
                    let given = shapes.pop().unwrap_or_default();
                    if elements.len() != out.len() {
                        return Err("a filter made too few elements".to_owned());
                    }
                    let storage = Storage { order: order.clone(), width: *width, swap: 1 };
                    let all: Vec<Selection> = given.iter().map(|s| Selection::all(*s)).collect();
                    let axes = all.iter().enumerate();
                    let axes: Vec<Axis<'_>> =
                        axes.map(|(axis, wanted)| Axis { axis, wanted, start: 0 }).collect();
                    Gather::new(&given, &storage, &axes).copy(&elements, &mut out);
                }
            }
            elements = out.freeze();
        }
        Ok(StoredValues::Fixed(elements))
    }

    fn undo_steps(
        &self,
        encoded: Buffer,
        expected: Option<usize>,
        most: usize,
        recycler: &Arc<Recycler>,
    ) -> Result<Buffer, String> {
        // What each step has to make, as far as that is known.
        let mut lens = vec![expected; self.steps.len()];
        for (number, step) in self.steps.iter().enumerate().skip(1).rev() {
            lens[number - 1] = lens[number].and_then(|len| step.encoded_len(len));
        }
        let most = most.saturating_mul(2).saturating_add(OVERHEAD_BYTES);
        let mut bytes = encoded;
        for (step, len) in self.steps.iter().zip(lens) {
            bytes = match (step, len) {
                (Step::Checksum(checked), _) => {
                    let content = checked.content(&bytes)?;
                    bytes.slice_with_length(content.start, content.len())
                }
                (Step::Decompress(compressor), Some(len)) => {
                    let mut out = recycler.take(len);
                    compressor.decompress_into(&bytes, &mut out)?;
                    out.freeze()
                }
                (Step::Decompress(compressor), None) => {
                    Buffer::from(compressor.decompress(&bytes, most)?)
                }
                (Step::Pcodec(pcodec), len) => {
                    let len = len.ok_or("pcodec isn't the innermost codec")?;
                    pcodec.decompress(&bytes, len)?
                }
                (Step::Filter(filter), len) => {
                    // Filters whose bytes can be any keep their number.
                    let len = len.unwrap_or(bytes.len());
                    let mut out = recycler.take(len);
                    filter.decode(&bytes, &mut out)?;
                    out.freeze()
                }
            };
        }
        Ok(bytes)
    }
}

impl Step {
    fn of(name: &str, configuration: Option<&Map<String, Value>>) -> Result<Self, Refusal> {
        if let Some(compressor) = Compressor::of(name) {
            let configuration = configuration.cloned().unwrap_or_default();
            compressor.check(&configuration).map_err(Refusal::Invalid)?;
            return Ok(Self::Decompress(compressor));
        }
        if let Some(checked) = Checked::of(name, configuration) {
            return checked.map(Self::Checksum).map_err(Refusal::Invalid);
        }
        if let Some(filter) = Filter::of(name, configuration.unwrap_or(&Map::new())) {
            return filter.map(Self::Filter).map_err(Refusal::Invalid);
        }
        Err(Refusal::Unknown(name.to_owned()))
    }

    /// The bytes that it makes of so many; `None` if that varies.
    fn encoded_len(&self, len: usize) -> Option<usize> {
        match self {
            Self::Decompress(_) | Self::Pcodec(_) => None,
            Self::Checksum(checked) => len.checked_add(checked.bytes()),
            Self::Filter(filter) => filter.encoded_len(len),
        }
    }
}

impl Items {
    /// Those of Zarr v2, which the first filter tells.
    fn of_v2(element: &ElementType, filter: Option<&Value>) -> Result<Option<Self>, Refusal> {
        let id = filter.and_then(|filter| filter.get("id")).and_then(Value::as_str);
        let configuration = filter.and_then(Value::as_object);
        let categories = || {
            let categories = configuration.and_then(|c| Categorize::of("categorize", c));
            let categories =
                categories.unwrap_or_else(|| Err("the filter categorize has no labels".to_owned()));
            categories.map(Items::Categories).map_err(Refusal::Invalid)
        };
        Ok(Some(match (element, id) {
            (ElementType::Utf8, Some("vlen-utf8")) => Self::Strings,
            (ElementType::Utf8, Some("json2")) => Self::Json { shaped: true },
            (ElementType::Utf8, Some("json")) => Self::Json { shaped: false },
            (ElementType::Utf8, Some("categorize")) => categories()?,
            (ElementType::Binary, Some("vlen-bytes")) => Self::Bytes,
            (ElementType::List(item), Some("vlen-array")) => Self::Lists(item.as_ref().clone()),
            _ => return Ok(None),
        }))
    }

    fn of_v3(name: &str, element: &ElementType) -> Result<Self, Refusal> {
        match (name, element) {
            ("vlen-utf8", ElementType::Utf8) => Ok(Self::Strings),
            ("vlen-bytes", ElementType::Binary) => Ok(Self::Bytes),
            _ => Err(Refusal::Invalid(format!("the codec '{name}' doesn't make this data type"))),
        }
    }
}

/// Whether a codec makes bytes of bytes.
fn is_of_bytes(name: &str) -> bool {
    Compressor::of(name).is_some() || Checked::of(name, None).is_some()
}

/// Makes of an `elementsize` of 0 what whoever wrote it meant: netCDF's library an element of the array,
/// whatever it says, and numcodecs one byte, so that nothing is shuffled.
fn complete_shuffle(
    configuration: &mut Map<String, Value>,
    element: &ElementType,
    is_nczarr: bool,
) -> Result<(), Refusal> {
    let Some(size) = configuration.get_mut("elementsize") else { return Ok(()) };
    // netCDF's library writes numbers as texts; numcodecs can't read them.
    let text = size.as_str().and_then(|text| text.parse::<u64>().ok());
    let (number, is_nczarr) = (size.as_u64().or(text), is_nczarr || text.is_some());
    let own = element.size().unwrap_or(1);
    match number {
        Some(0) if is_nczarr || own == 1 => *size = Value::from(own),
        // Types that netCDF doesn't have.
        Some(0) if !element.is_number() || *element == ElementType::Float16 => {
            *size = Value::from(1);
        }
        Some(0) => {
            return Err(Refusal::Invalid(format!(
                "its filter shuffle has an elementsize of 0, which means {own} bytes to netCDF's \
                 library and no shuffling to numcodecs, and its metadata don't say which of them \
                 wrote it: write {own} or 1 there"
            )));
        }
        Some(number) => *size = Value::from(number),
        None => {}
    }
    Ok(())
}

fn is_pcodec(name: &str) -> bool {
    name.strip_prefix("numcodecs.").unwrap_or(name) == "pcodec"
}

fn pcodec(element: &ElementType) -> Result<Step, Refusal> {
    let pcodec = Pcodec::of(element).map(Step::Pcodec);
    pcodec.ok_or_else(|| Refusal::Invalid("pcodec can't compress this data type".to_owned()))
}

/// The bytes to reverse at a time after the codec `bytes`.
fn swap_of(codec: &Value, element: &ElementType, width: Option<usize>) -> Result<usize, Refusal> {
    let invalid = |reason: &str| Refusal::Invalid(reason.to_owned());
    // Filters may have made other elements, which are plain numbers.
    let unit = if width == element.size() { element.number_size() } else { width.unwrap_or(1) };
    let endian = codec.get("configuration").and_then(|c| c.get("endian")).filter(|e| !e.is_null());
    let big_endian = match endian.map(Value::as_str) {
        Some(Some("big")) => true,
        Some(Some("little")) => false,
        // Only single bytes have no order; structures tell that of their fields.
        None if unit == 1 => return Ok(1),
        None => {
            return Err(invalid("the codec 'bytes' doesn't say in which order they are (endian)"));
        }
        Some(_) => return Err(invalid("the codec 'bytes' has an unknown order (endian)")),
    };
    if matches!(element, ElementType::Struct(_)) && big_endian {
        return Err(invalid("structures in big-endian order aren't supported"));
    }
    Ok(if big_endian == cfg!(target_endian = "big") { 1 } else { unit })
}

/// The configuration of a codec of Zarr v3: elements are in the machine's order whatever the order was
/// when they were written, and what isn't said follows from the array's type.
fn native_configuration(
    configuration: Option<&Map<String, Value>>,
    element: &ElementType,
) -> Map<String, Value> {
    let mut configuration = configuration.cloned().unwrap_or_default();
    for value in configuration.values_mut() {
        if let Some(dtype) = value.as_str().and_then(|text| text.strip_prefix('>')) {
            *value = Value::from(format!("<{dtype}"));
        }
    }
    configuration.retain(|_, value| !value.is_null());
    if let Some(dtype) = element.numpy_name() {
        for key in ["dtype", "decode_dtype"] {
            configuration.entry(key).or_insert_with(|| Value::from(dtype));
        }
    }
    if let Some(size) = element.size() {
        configuration.entry("elementsize").or_insert_with(|| Value::from(size));
    }
    configuration
}

/// The order of a transposition.
fn axes(codec: &Value, rank: usize) -> Result<Vec<usize>, Refusal> {
    let order = codec.get("configuration").and_then(|c| c.get("order"));
    let axes: Option<Vec<usize>> = match order {
        // What a draft of the specification had.
        Some(Value::String(order)) if order == "C" => Some((0..rank).collect()),
        Some(Value::String(order)) if order == "F" => Some((0..rank).rev().collect()),
        Some(Value::Array(axes)) => {
            axes.iter().map(|axis| usize::try_from(axis.as_u64()?).ok()).collect()
        }
        _ => None,
    };
    let is_permutation = |axes: &Vec<usize>| {
        let mut seen = axes.clone();
        seen.sort_unstable();
        seen == (0..rank).collect::<Vec<_>>()
    };
    axes.filter(is_permutation).ok_or_else(|| {
        Refusal::Invalid(format!(
            "the codec 'transpose' has an order that is none of {rank} dimensions"
        ))
    })
}

/// The cells of a chunk of this shape.
fn cells(shape: &[u64]) -> Result<usize, String> {
    let cells = checked_product(shape).and_then(|cells| usize::try_from(cells).ok());
    cells.ok_or_else(|| TOO_LARGE.to_owned())
}

/// The sizes of dimensions in another order.
fn transposed(shape: &[u64], order: &[usize]) -> Vec<u64> {
    order.iter().filter_map(|&axis| shape.get(axis).copied()).collect()
}

/// The most bytes that so many strings may have.
pub(super) fn text_bytes(cells: usize) -> usize {
    cells.saturating_mul(MEAN_STRING_BYTES).saturating_add(TEXT_BYTES).min(MAX_TEXT_BYTES)
}

fn too_many(codecs: usize) -> Result<(), Refusal> {
    if codecs <= MAX_CODECS {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("it has {codecs} codecs, more than {MAX_CODECS}")))
}

fn storage(element: &ElementType, order: Vec<usize>, big_endian: bool) -> Storage {
    let width = element.size().unwrap_or(1);
    let swap = if big_endian == cfg!(target_endian = "big") { 1 } else { element.number_size() };
    Storage { order, width, swap }
}

/// The name of a codec of Zarr v3.
pub(super) fn name(codec: &Value) -> Option<&str> {
    match codec {
        Value::String(name) => Some(name),
        codec => codec.get("name")?.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn v3(codecs: &Value) -> Result<Chain, Refusal> {
        Chain::from_v3(codecs.as_array().unwrap(), &ElementType::Float32, 3, &[0; 4])
    }

    #[test]
    fn which_chains_are_known() {
        let bytes = json!({"name": "bytes", "configuration": {"endian": "big"}});
        let chain = v3(&json!([
            {"name": "transpose", "configuration": {"order": [1, 2, 0]}},
            {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
            bytes, "crc32c", {"name": "blosc"}, {"name": "crc32c"},
        ]))
        .unwrap();
        // The second transposition undoes the first.
        assert_eq!(*chain.storage(), Storage { order: vec![0, 1, 2], width: 4, swap: 4 });
        assert_eq!(chain.steps.len(), 3);
        assert_eq!(chain.stream(), Stream::Whole);
        assert_eq!(v3(&json!([bytes, "blosc"])).unwrap().stream(), Stream::Blosc);
        assert_eq!(v3(&json!([bytes])).unwrap().stream(), Stream::Plain);
        assert!(v3(&json!([bytes, {"name": "zstd"}, {"name": "gzip"}])).is_ok());
        for invalid in [
            json!([{"name": "transpose", "configuration": {"order": [0, 0, 1]}}, bytes]),
            json!([{"name": "bytes"}]),
            json!([]),
            json!([{"name": "bytes", "configuration": {"endian": "middle"}}]),
            json!([bytes, 3]),
            json!(vec![bytes.clone(); 40]),
        ] {
            assert!(matches!(v3(&invalid), Err(Refusal::Invalid(_))), "{invalid}");
        }
        let unknown = v3(&json!([bytes, {"name": "imagecodecs_jpeg2k"}]));
        assert_eq!(unknown, Err(Refusal::Unknown("imagecodecs_jpeg2k".to_owned())));
        let v2 = |metadata: Value, big_endian| {
            let metadata = metadata.as_object().unwrap();
            Chain::from_v2(metadata, &ElementType::Int16, big_endian, 2, false)
        };
        let chain = v2(json!({"order": "F", "compressor": {"id": "zlib"}}), true).unwrap();
        assert_eq!(*chain.storage(), Storage { order: vec![1, 0], width: 2, swap: 2 });
        assert!(v2(json!({"filters": [{"id": "shuffle"}]}), false).is_ok());
        assert!(v2(json!({"filters": {}}), false).is_err());
        let drafts = v3(&json!([
            {"name": "transpose", "configuration": {"order": "F"}},
            {"name": "endian", "configuration": {"endian": "big"}},
        ]));
        assert_eq!(*drafts.unwrap().storage(), Storage { order: vec![2, 1, 0], width: 4, swap: 4 });
        for (codecs, text) in [
            (json!(["zstd"]), "such as 'bytes', is missing"),
            (json!(["crc32c", bytes]), "such as 'bytes', is missing"),
        ] {
            let Err(Refusal::Invalid(reason)) = v3(&codecs) else { panic!("{codecs}") };
            assert!(reason.contains(text), "{reason}");
        }
        let strings = Chain::from_v3(&[bytes], &ElementType::Utf8, 1, &[]);
        assert!(matches!(strings, Err(Refusal::Invalid(reason)) if reason.contains("vlen-utf8")));
        assert!(v2(json!({"order": "K"}), false).is_err());
    }

    #[test]
    fn elements_of_no_bytes_are_shuffled_by_netcdf_alone() {
        let shuffle = |size: Value, element: &ElementType, is_nczarr: bool| {
            let metadata = json!({"filters": [{"id": "shuffle", "elementsize": size}]});
            let chain =
                Chain::from_v2(metadata.as_object().unwrap(), element, false, 1, is_nczarr)?;
            let [Step::Filter(Filter::Shuffle { elementsize })] = chain.steps.as_slice() else {
                panic!()
            };
            Ok::<_, Refusal>(*elementsize)
        };
        let (int, byte) = (ElementType::Int32, ElementType::Int8);
        assert_eq!(shuffle(json!(0), &int, true), Ok(4));
        assert_eq!(shuffle(json!("0"), &int, false), Ok(4));
        assert_eq!(shuffle(json!("2"), &int, false), Ok(2));
        assert_eq!(shuffle(json!(0), &byte, false), Ok(1));
        let complex = ElementType::Complex(Box::new(ElementType::Float32));
        assert_eq!(shuffle(json!(0), &complex, false), Ok(1));
        let refused = shuffle(json!(0), &int, false);
        assert!(
            matches!(&refused, Err(Refusal::Invalid(reason)) if reason.contains("write 4 or 1")),
            "{refused:?}"
        );
    }

    #[test]
    fn sizes_and_checksums_are_checked() {
        let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
        let recycler = Arc::new(Recycler::default());
        let chain = v3(&json!([bytes, "crc32c", "zstd", "crc32c"])).unwrap();
        let sum = |content: &[u8]| [content, &crc32c::crc32c(content).to_le_bytes()].concat();
        let content: Vec<u8> = (0..200).collect();
        let encoded = sum(&zstd::bulk::compress(&sum(&content), 1).unwrap());
        let decode = |encoded: &[u8], cells: u64| match chain.decode(
            Buffer::from(encoded),
            &[1, cells, 1],
            &recycler,
        )? {
            StoredValues::Fixed(elements) => Ok(elements.to_vec()),
            StoredValues::Items(_) => Err("items".to_owned()),
        };
        assert_eq!(decode(&encoded, 50).unwrap(), content);
        assert!(decode(&encoded, 49).is_err());
        assert!(decode(&encoded, 51).is_err());
        assert!(decode(&[], 50).is_err());
        for at in 0..encoded.len() {
            let mut changed = encoded.clone();
            changed[at] ^= 16;
            assert!(decode(&changed, 50).is_err(), "{at}");
        }
    }

    #[test]
    fn shards_lie_as_the_transpositions_before_them_say() {
        let recycler = Arc::new(Recycler::default());
        let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
        let codecs = json!([
            {"name": "transpose", "configuration": {"order": [1, 0]}},
            {"name": "sharding_indexed", "configuration": {
                "chunk_shape": [2, 1], "codecs": [bytes], "index_codecs": [bytes],
            }},
        ]);
        let element = ElementType::UInt8;
        let chain = Chain::from_v3(codecs.as_array().unwrap(), &element, 2, &[0]).unwrap();
        // 0 1 2 3 / 4 5 6 7, as zarr-python stores it: a column of the transposed pairs a chunk.
        let mut shard = vec![0_u8, 1, 4, 5, 2, 3, 6, 7];
        shard.extend([0_u64, 2, 2, 2, 4, 2, 6, 2].iter().flat_map(|n| n.to_le_bytes()));
        let decoded = chain.decode(Buffer::from(shard), &[2, 4], &recycler).unwrap();
        let StoredValues::Fixed(elements) = decoded else { panic!() };
        assert_eq!(chain.storage().order, [1, 0]);
        assert_eq!(elements.as_slice(), [0, 4, 1, 5, 2, 6, 3, 7]);
    }

    #[test]
    fn elements_are_compressed_twice_and_transposed_between_filters() {
        let recycler = Arc::new(Recycler::default());
        let chain = Chain::from_v3(
            json!([
                {"name": "numcodecs.delta", "configuration": {"dtype": "<i2", "astype": "<i2"}},
                {"name": "transpose", "configuration": {"order": [1, 0]}},
                {"name": "bytes", "configuration": {"endian": "big"}},
                "zstd", "zstd",
            ])
            .as_array()
            .unwrap(),
            &ElementType::Int16,
            2,
            &[0; 2],
        )
        .unwrap();
        // 1 2 3 / 4 5 6 as differences is all ones, but for what the transposition moves: none.
        let ones: Vec<u8> = [1_i16; 6].iter().flat_map(|v| v.to_be_bytes()).collect();
        let once = zstd::bulk::compress(&ones, 1).unwrap();
        let twice = Buffer::from(zstd::bulk::compress(&once, 1).unwrap());
        let StoredValues::Fixed(elements) = chain.decode(twice, &[2, 3], &recycler).unwrap() else {
            panic!()
        };
        let expected: Vec<u8> = (1..=6_i16).flat_map(i16::to_ne_bytes).collect();
        assert_eq!(elements.as_slice(), expected);
    }
}
