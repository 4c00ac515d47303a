//! From an array's codecs to the chain that undoes them.

use super::{
    super::{
        codec_spec::{ByteOrder, CodecKind, CodecRefusal, CodecSpec},
        dtype::ElementType,
        items::Items,
        pcodec::Pcodec,
        whole_shard::WholeShard,
    },
    ArrayDecoder, ArrayStep, Chain, ElementLayout, Step,
};

impl Chain {
    /// The chain of an array's codecs, or of those inside its shards. `fill` are the bytes of the fill value.
    pub(crate) fn new(
        codecs: &[CodecSpec],
        element: &ElementType,
        rank: usize,
        fill: &[u8],
    ) -> Result<Self, CodecRefusal> {
        Self::nested(codecs, element, rank, fill, 0)
    }

    pub(crate) fn nested(
        codecs: &[CodecSpec],
        element: &ElementType,
        rank: usize,
        fill: &[u8],
        depth: usize,
    ) -> Result<Self, CodecRefusal> {
        let invalid = |reason: &str| CodecRefusal::Invalid(reason.to_owned());
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
                CodecKind::Bytes(order) => {
                    break (ArrayDecoder::Elements, swap_of(*order, element, width)?);
                }
                CodecKind::Pcodec if filters.is_empty() => {
                    innermost = Some(pcodec(element)?);
                    break (ArrayDecoder::Elements, 1);
                }
                CodecKind::Items(items) if filters.is_empty() => {
                    check_items(items, element, &codec.name)?;
                    break (ArrayDecoder::Items(items.clone()), 1);
                }
                CodecKind::Shard(shard) if filters.is_empty() => {
                    let shard = WholeShard::new(shard, element, rank, fill, depth)?;
                    break (ArrayDecoder::Shard(Box::new(shard)), 1);
                }
                CodecKind::Transpose(axes) => {
                    check_axes(axes, rank)?;
                    let order = axes.clone();
                    let width =
                        width.ok_or_else(|| invalid("what a filter made can't be transposed"))?;
                    filters.push(ArrayStep::Transpose { order, width });
                }
                CodecKind::Compressor(..) | CodecKind::Checksum(_) => {
                    return Err(CodecRefusal::Invalid(format!(
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
                    return Err(CodecRefusal::Unknown(codec.name.clone()));
                }
            }
        };
        let mut steps = codecs.map(Step::of).collect::<Result<Vec<_>, _>>()?;
        steps.reverse();
        steps.extend(innermost);
        let mut storage = ElementLayout { order, width: element.size().unwrap_or(1), swap: 1 };
        if filters.is_empty() {
            storage.swap = swap;
        } else if swap > 1 {
            filters.push(ArrayStep::Swap(swap));
        }
        filters.reverse();
        Ok(Self { storage, steps, end, filters })
    }
}

impl Step {
    /// The step that undoes a codec from bytes to bytes.
    fn of(codec: &CodecSpec) -> Result<Self, CodecRefusal> {
        match &codec.kind {
            CodecKind::Compressor(compressor, settings) => {
                Ok(Self::Decompress(*compressor, *settings))
            }
            CodecKind::Checksum(checked) => Ok(Self::Checksum(checked.clone())),
            CodecKind::Filter(filter) => Ok(Self::Filter(filter.clone())),
            CodecKind::Refused(refusal) => Err(refusal.clone()),
            _ => Err(CodecRefusal::Unknown(codec.name.clone())),
        }
    }
}

/// Fails if elements of this type aren't what the codec of this name makes bytes of.
fn check_items(items: &Items, element: &ElementType, name: &str) -> Result<(), CodecRefusal> {
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
    Err(CodecRefusal::Invalid(format!("the codec '{name}' doesn't make this data type")))
}

fn pcodec(element: &ElementType) -> Result<Step, CodecRefusal> {
    let pcodec = Pcodec::of(element).map(Step::Pcodec);
    pcodec.ok_or_else(|| CodecRefusal::Invalid("pcodec can't compress this data type".to_owned()))
}

/// The bytes to reverse at a time after the codec `bytes`.
fn swap_of(
    order: Option<ByteOrder>,
    element: &ElementType,
    width: Option<usize>,
) -> Result<usize, CodecRefusal> {
    let invalid = |reason: &str| CodecRefusal::Invalid(reason.to_owned());
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
fn check_axes(axes: &[usize], rank: usize) -> Result<(), CodecRefusal> {
    let mut seen = axes.to_vec();
    seen.sort_unstable();
    if seen.into_iter().eq(0..rank) {
        return Ok(());
    }
    Err(CodecRefusal::Invalid(format!(
        "the codec 'transpose' has an order that is none of {rank} dimensions"
    )))
}
