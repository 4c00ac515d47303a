//! Chains of codecs, undone straight into buffers of the exact size.
//!
//! In the order of decoding a chain is: codecs from bytes to bytes; then what makes elements of bytes;
//! then filters, which change the elements. What is left to do with them, the order of dimensions and
//! of bytes, is told by [`Storage`] and done where values are picked, in the same pass.

use std::sync::Arc;

use arrow::buffer::Buffer;

use super::{
    checksum::Checked,
    codec_spec::{ByteOrder, CodecKind, CodecSpec, Refusal},
    compression::Compressor,
    decoding::StoredValues,
    dtype::ElementType,
    filters::Filter,
    gather::{Axis, Gather},
    items::Items,
    pcodec::Pcodec,
    whole_shard::WholeShard,
};
use crate::{Selection, grid::checked_product, recycle::Recycler};

/// What is said of a chunk with more cells than memory can have.
const TOO_LARGE: &str = "its shape is too large";

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

/// A chain of codecs that is known here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
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
    /// The chain of an array's codecs, or of those inside its shards. `fill` are the bytes of the fill value.
    pub(crate) fn new(
        codecs: &[CodecSpec],
        element: &ElementType,
        rank: usize,
        fill: &[u8],
    ) -> Result<Self, Refusal> {
        Self::nested(codecs, element, rank, fill, 0)
    }

    pub(super) fn nested(
        codecs: &[CodecSpec],
        element: &ElementType,
        rank: usize,
        fill: &[u8],
        depth: usize,
    ) -> Result<Self, Refusal> {
        let invalid = |reason: &str| Refusal::Invalid(reason.to_owned());
        let mut codecs = codecs.iter().peekable();
        // Transpositions before all else are left to whoever picks values.
        let mut order: Vec<usize> = (0..rank).collect();
        while let Some(CodecSpec { kind: CodecKind::Transpose(axes), .. }) = codecs.peek() {
            check_axes(axes, rank)?;
            // Dimension i of what is stored is dimension axes[i] of what was given.
            order = axes.iter().map(|&axis| order[axis]).collect();
            codecs.next();
        }
        let mut filters = Vec::new();
        let mut innermost = None;
        let mut width = element.size();
        let (end, swap) = loop {
            let codec = codecs.next().ok_or_else(|| {
                invalid("the codecs have none that makes bytes of an array, such as 'bytes'")
            })?;
            match &codec.kind {
                CodecKind::Refused(refusal) => return Err(refusal.clone()),
                CodecKind::Bytes(order) => break (End::Elements, swap_of(*order, element, width)?),
                CodecKind::Pcodec if filters.is_empty() => {
                    innermost = Some(pcodec(element)?);
                    break (End::Elements, 1);
                }
                CodecKind::Items(items) if filters.is_empty() => {
                    check_items(items, element, &codec.name)?;
                    break (End::Items(items.clone()), 1);
                }
                CodecKind::Shard(shard) if filters.is_empty() => {
                    let shard = WholeShard::new(shard, element, rank, fill, depth)?;
                    break (End::Shard(Box::new(shard)), 1);
                }
                CodecKind::Transpose(axes) => {
                    check_axes(axes, rank)?;
                    let order = axes.clone();
                    let width =
                        width.ok_or_else(|| invalid("what a filter made can't be transposed"))?;
                    filters.push(ArrayStep::Transpose { order, width });
                }
                CodecKind::Compressor(_) | CodecKind::Checksum(_) => {
                    return Err(Refusal::Invalid(format!(
                        "the codec '{}' stands where there is still an array: before it, a codec \
                         that makes bytes of it, such as 'bytes', is missing",
                        codec.name
                    )));
                }
                CodecKind::Filter(filter) => {
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
                    filters.push(ArrayStep::Filter(filter.clone()));
                }
                CodecKind::Pcodec | CodecKind::Items(_) | CodecKind::Shard(_) => {
                    return Err(Refusal::Unknown(codec.name.clone()));
                }
            }
        };
        let mut steps = codecs.map(Step::of).collect::<Result<Vec<_>, _>>()?;
        steps.reverse();
        steps.extend(innermost);
        let mut storage = Storage { order, width: element.size().unwrap_or(1), swap: 1 };
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
    /// The step that undoes a codec from bytes to bytes.
    fn of(codec: &CodecSpec) -> Result<Self, Refusal> {
        match &codec.kind {
            CodecKind::Compressor(compressor) => Ok(Self::Decompress(*compressor)),
            CodecKind::Checksum(checked) => Ok(Self::Checksum(checked.clone())),
            CodecKind::Filter(filter) => Ok(Self::Filter(filter.clone())),
            CodecKind::Refused(refusal) => Err(refusal.clone()),
            _ => Err(Refusal::Unknown(codec.name.clone())),
        }
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

/// Fails if elements of this type aren't what the codec of this name makes bytes of.
fn check_items(items: &Items, element: &ElementType, name: &str) -> Result<(), Refusal> {
    let fits = match items {
        Items::Strings | Items::Json { .. } | Items::Categories(_) => *element == ElementType::Utf8,
        Items::Bytes => *element == ElementType::Binary,
        Items::Lists(item) => {
            matches!(element, ElementType::List(own) if own.as_ref() == item)
        }
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("the codec '{name}' doesn't make this data type")))
}

fn pcodec(element: &ElementType) -> Result<Step, Refusal> {
    let pcodec = Pcodec::of(element).map(Step::Pcodec);
    pcodec.ok_or_else(|| Refusal::Invalid("pcodec can't compress this data type".to_owned()))
}

/// The bytes to reverse at a time after the codec `bytes`.
fn swap_of(
    order: Option<ByteOrder>,
    element: &ElementType,
    width: Option<usize>,
) -> Result<usize, Refusal> {
    let invalid = |reason: &str| Refusal::Invalid(reason.to_owned());
    let Some(size) = element.size() else {
        return Err(invalid(
            "the codec 'bytes' can't hold elements of any length, as its data type has them: \
             vlen-utf8 and vlen-bytes do",
        ));
    };
    // Filters may have made other elements, which are plain numbers.
    let unit = if width == Some(size) { element.number_size() } else { width.unwrap_or(1) };
    match order {
        // Only single bytes have no order; structures tell that of their fields.
        None if unit == 1 => Ok(1),
        None => Err(invalid("the codec 'bytes' doesn't say in which order they are (endian)")),
        Some(ByteOrder::Big) if matches!(element, ElementType::Struct(_)) => {
            Err(invalid("structures in big-endian order aren't supported"))
        }
        Some(order) => Ok(if order.is_native() { 1 } else { unit }),
    }
}

/// Fails if this isn't an order of the dimensions.
fn check_axes(axes: &[usize], rank: usize) -> Result<(), Refusal> {
    let mut seen = axes.to_vec();
    seen.sort_unstable();
    if seen.into_iter().eq(0..rank) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "the codec 'transpose' has an order that is none of {rank} dimensions"
    )))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::zarr::codecs::{V2Context, v2_codecs, v3_codecs};

    fn v3(codecs: &Value) -> Result<Chain, Refusal> {
        from_v3(codecs, &ElementType::Float32, 3, &[0; 4])
    }

    fn from_v3(
        codecs: &Value,
        element: &ElementType,
        rank: usize,
        fill: &[u8],
    ) -> Result<Chain, Refusal> {
        Chain::new(&v3_codecs(codecs.as_array().unwrap(), element, rank), element, rank, fill)
    }

    fn from_v2(metadata: &Value, context: V2Context<'_>) -> Result<Chain, Refusal> {
        let codecs = v2_codecs(metadata.as_object().unwrap(), context);
        Chain::new(&codecs, context.element, context.rank, &[])
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
            let byte_order = if big_endian { ByteOrder::Big } else { ByteOrder::Little };
            let element = &ElementType::Int16;
            from_v2(&metadata, V2Context { element, byte_order, rank: 2, is_nczarr: false })
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
        let strings = from_v3(&json!([bytes]), &ElementType::Utf8, 1, &[]);
        assert!(matches!(strings, Err(Refusal::Invalid(reason)) if reason.contains("vlen-utf8")));
        assert!(v2(json!({"order": "K"}), false).is_err());
    }

    #[test]
    fn elements_of_no_bytes_are_shuffled_by_netcdf_alone() {
        let shuffle = |size: Value, element: &ElementType, is_nczarr: bool| {
            let metadata = json!({"filters": [{"id": "shuffle", "elementsize": size}]});
            let byte_order = ByteOrder::Little;
            let chain = from_v2(&metadata, V2Context { element, byte_order, rank: 1, is_nczarr })?;
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
        let chain = from_v3(&codecs, &element, 2, &[0]).unwrap();
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
        let chain = from_v3(
            &json!([
                {"name": "numcodecs.delta", "configuration": {"dtype": "<i2", "astype": "<i2"}},
                {"name": "transpose", "configuration": {"order": [1, 0]}},
                {"name": "bytes", "configuration": {"endian": "big"}},
                "zstd", "zstd",
            ]),
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
