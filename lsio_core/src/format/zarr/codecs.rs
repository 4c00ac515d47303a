//! The codecs of an array from Zarr's metadata. Each is either understood or refused with a reason: an array is listed
//! whatever its codecs are.

use serde_json::{Map, Value};

use crate::dataset::{
    checksum::Checked,
    codec_spec::{ByteOrder, CodecKind, CodecSpec, ShardSpec},
    compression::Compressor,
    dtype::ElementType,
    filters::{Categorize, Filter},
    items::Items,
    shard::IndexEncoding,
    whole_shard::MAX_DEPTH,
};

/// The most codecs of an array, or of the chunks in its shards.
const MAX_CODECS: usize = 32;

/// What the codecs of Zarr v2 metadata depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct V2Context<'a> {
    pub(crate) element: &'a ElementType,
    /// The order of bytes that the dtype tells.
    pub(crate) byte_order: ByteOrder,
    pub(crate) rank: usize,
    /// Whether netCDF's library wrote the array.
    pub(crate) is_nczarr: bool,
}

/// The codecs of Zarr v2 metadata: `order`, `dtype`, `filters` and `compressor`.
pub(crate) fn v2_codecs(metadata: &Map<String, Value>, context: V2Context<'_>) -> Vec<CodecSpec> {
    let refused = |reason: String| vec![CodecSpec::invalid("?", reason)];
    let is_reversed = match metadata.get("order") {
        None | Some(Value::Null) => false,
        Some(value) => match value.as_str() {
            Some("C") => false,
            Some("F") => true,
            _ => return refused(format!("the order {value} is neither C nor F")),
        },
    };
    let filters = match metadata.get("filters") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(filters)) => filters,
        Some(_) => return refused("filters are not a list".to_owned()),
    };
    if let Some(reason) = too_many(filters.len()) {
        return refused(reason);
    }
    let compressor = metadata.get("compressor").filter(|codec| !codec.is_null());
    let mut codecs = filters.iter().chain(compressor).peekable();
    let name = |codec: &Value| codec.get("id").and_then(Value::as_str).map(str::to_owned);
    let end = match v2_items(context.element, filters.first()) {
        Some(items) => {
            let name = codecs.next().and_then(name).unwrap_or_default();
            match items {
                Ok(items) => CodecSpec { name, kind: CodecKind::Items(items) },
                Err(reason) => CodecSpec::invalid(&name, reason),
            }
        }
        // It takes the elements themselves.
        None if filters.is_empty() && context.byte_order == ByteOrder::Little => {
            match codecs.peek().and_then(|codec| name(codec)).filter(|name| is_pcodec(name)) {
                Some(name) => {
                    codecs.next();
                    CodecSpec { name, kind: CodecKind::Pcodec }
                }
                None => CodecSpec::new("bytes", CodecKind::Bytes(Some(context.byte_order))),
            }
        }
        None => CodecSpec::new("bytes", CodecKind::Bytes(Some(context.byte_order))),
    };
    // Lists in lists are in the order of the array's own dimensions.
    let is_json = matches!(end.kind, CodecKind::Items(Items::Json { .. }));
    let mut out = Vec::with_capacity(filters.len() + 3);
    if is_reversed && context.rank > 1 && !is_json {
        let axes = (0..context.rank).rev().collect();
        out.push(CodecSpec::new("order", CodecKind::Transpose(axes)));
    }
    out.push(end);
    out.extend(codecs.map(|codec| v2_codec(codec, context)));
    out
}

/// A list of Zarr v3 codecs.
pub(crate) fn v3_codecs(codecs: &[Value], element: &ElementType, rank: usize) -> Vec<CodecSpec> {
    v3_nested(codecs, element, rank, 0)
}

/// The name of a codec of Zarr v3.
pub(crate) fn v3_name(codec: &Value) -> Option<&str> {
    match codec {
        Value::String(name) => Some(name),
        codec => codec.get("name")?.as_str(),
    }
}

/// A codec of Zarr v2 from bytes to bytes.
fn v2_codec(codec: &Value, context: V2Context<'_>) -> CodecSpec {
    let mut configuration = codec.as_object().cloned().unwrap_or_default();
    let Some(id) = codec.get("id").and_then(Value::as_str) else {
        return CodecSpec::invalid("?", "a codec has no id");
    };
    if id == "shuffle"
        && let Err(reason) = complete_shuffle(&mut configuration, context)
    {
        return CodecSpec::invalid(id, reason);
    }
    of_bytes(id, &configuration)
}

/// A compressor, a checksum, or a filter.
fn of_bytes(name: &str, configuration: &Map<String, Value>) -> CodecSpec {
    let kind = if let Some(compressor) = Compressor::of(name) {
        compressor.check(configuration).map(|()| CodecKind::Compressor(compressor))
    } else if let Some(checked) = Checked::of(name, Some(configuration)) {
        checked.map(CodecKind::Checksum)
    } else if let Some(filter) = Filter::of(name, configuration) {
        filter.map(CodecKind::Filter)
    } else {
        return CodecSpec::unknown(name);
    };
    match kind {
        Ok(kind) => CodecSpec::new(name, kind),
        Err(reason) => CodecSpec::invalid(name, reason),
    }
}

fn v3_nested(codecs: &[Value], element: &ElementType, rank: usize, depth: usize) -> Vec<CodecSpec> {
    if let Some(reason) = too_many(codecs.len()) {
        return vec![CodecSpec::invalid("?", reason)];
    }
    let mut is_array = true;
    let codec = |codec: &Value| {
        let spec = v3_codec(codec, element, rank, depth, is_array);
        is_array &= !matches!(
            spec.kind,
            CodecKind::Bytes(_) | CodecKind::Items(_) | CodecKind::Pcodec | CodecKind::Shard(_)
        );
        spec
    };
    codecs.iter().map(codec).collect()
}

/// `is_array` says whether no codec before it has made bytes of the elements.
fn v3_codec(
    codec: &Value,
    element: &ElementType,
    rank: usize,
    depth: usize,
    is_array: bool,
) -> CodecSpec {
    let Some(name) = v3_name(codec) else { return CodecSpec::invalid("?", "a codec has no name") };
    let configuration = codec.get("configuration").and_then(Value::as_object);
    let setting = |key: &str| configuration.and_then(|c| c.get(key)).filter(|v| !v.is_null());
    let kind = match name {
        "transpose" => transpose(setting("order"), rank).map(CodecKind::Transpose),
        // `endian` is what drafts of Zarr v3 called `bytes`.
        "bytes" | "endian" => byte_order(setting("endian")).map(CodecKind::Bytes),
        "vlen-utf8" => Ok(CodecKind::Items(Items::Strings)),
        "vlen-bytes" => Ok(CodecKind::Items(Items::Bytes)),
        "sharding_indexed" => shard(configuration, element, rank, depth)
            .map(|shard| CodecKind::Shard(Box::new(shard))),
        name if is_pcodec(name) && is_array => Ok(CodecKind::Pcodec),
        // Of the two codecs of this name, that of Zarr v3 has another order of bits.
        "packbits" if is_array => return CodecSpec::unknown(name),
        name => return of_bytes(name, &native_configuration(configuration, element)),
    };
    match kind {
        Ok(kind) => CodecSpec::new(name, kind),
        Err(reason) => CodecSpec::invalid(name, reason),
    }
}

/// The elements of any length of Zarr v2, which the first filter tells.
fn v2_items(element: &ElementType, filter: Option<&Value>) -> Option<Result<Items, String>> {
    let id = filter.and_then(|filter| filter.get("id")).and_then(Value::as_str);
    Some(Ok(match (element, id) {
        (ElementType::Utf8, Some("vlen-utf8")) => Items::Strings,
        (ElementType::Utf8, Some("json2")) => Items::Json { shaped: true },
        (ElementType::Utf8, Some("json")) => Items::Json { shaped: false },
        (ElementType::Utf8, Some("categorize")) => {
            let configuration = filter.and_then(Value::as_object);
            let categories = configuration.and_then(|c| Categorize::of("categorize", c));
            let categories =
                categories.unwrap_or_else(|| Err("the filter categorize has no labels".to_owned()));
            return Some(categories.map(Items::Categories));
        }
        (ElementType::Binary, Some("vlen-bytes")) => Items::Bytes,
        (ElementType::List(item), Some("vlen-array")) => Items::Lists(item.as_ref().clone()),
        _ => return None,
    }))
}

/// Makes of an `elementsize` of 0 what whoever wrote it meant: netCDF's library an element of the array,
/// whatever it says, and numcodecs one byte, so that nothing is shuffled.
fn complete_shuffle(
    configuration: &mut Map<String, Value>,
    context: V2Context<'_>,
) -> Result<(), String> {
    let Some(size) = configuration.get_mut("elementsize") else { return Ok(()) };
    let V2Context { element, is_nczarr, .. } = context;
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
            return Err(format!(
                "its filter shuffle has an elementsize of 0, which means {own} bytes to netCDF's \
                 library and no shuffling to numcodecs, and its metadata don't say which of them \
                 wrote it: write {own} or 1 there"
            ));
        }
        Some(number) => *size = Value::from(number),
        None => {}
    }
    Ok(())
}

fn is_pcodec(name: &str) -> bool {
    name.strip_prefix("numcodecs.").unwrap_or(name) == "pcodec"
}

fn byte_order(endian: Option<&Value>) -> Result<Option<ByteOrder>, String> {
    match endian.map(Value::as_str) {
        None => Ok(None),
        Some(Some("big")) => Ok(Some(ByteOrder::Big)),
        Some(Some("little")) => Ok(Some(ByteOrder::Little)),
        Some(_) => Err("the codec 'bytes' has an unknown order (endian)".to_owned()),
    }
}

/// The order of a transposition, which may not be one of so many dimensions.
fn transpose(order: Option<&Value>, rank: usize) -> Result<Vec<usize>, String> {
    let axes = match order {
        // What a draft of the specification had.
        Some(Value::String(order)) if order == "C" => Some((0..rank).collect()),
        Some(Value::String(order)) if order == "F" => Some((0..rank).rev().collect()),
        Some(Value::Array(axes)) => {
            axes.iter().map(|axis| usize::try_from(axis.as_u64()?).ok()).collect()
        }
        _ => None,
    };
    axes.ok_or_else(|| {
        format!("the codec 'transpose' has an order that is none of {rank} dimensions")
    })
}

fn shard(
    configuration: Option<&Map<String, Value>>,
    element: &ElementType,
    rank: usize,
    depth: usize,
) -> Result<ShardSpec, String> {
    // One is divided by the grid.
    if depth > MAX_DEPTH {
        return Err(format!("shards are more than {MAX_DEPTH} deep"));
    }
    let setting = |key: &str| configuration.and_then(|c| c.get(key));
    let chunk_shape = setting("chunk_shape").and_then(Value::as_array);
    let chunk_shape =
        chunk_shape.and_then(|sizes| sizes.iter().map(Value::as_u64).collect::<Option<_>>());
    let chunk_shape = chunk_shape.ok_or("the chunk shape inside shards is wrong")?;
    let index = index_encoding(setting("index_codecs"), setting("index_location"))
        .ok_or("the index of shards is encoded in a way that isn't supported")?;
    let codecs = setting("codecs").and_then(Value::as_array).ok_or("shards have no codecs")?;
    let codecs = v3_nested(codecs, element, rank, depth + 1);
    Ok(ShardSpec { chunk_shape, index, codecs })
}

/// `None` if the index is encoded in a way that isn't known here.
fn index_encoding(codecs: Option<&Value>, location: Option<&Value>) -> Option<IndexEncoding> {
    let codecs = codecs?.as_array()?;
    let names = codecs.iter().map(v3_name).collect::<Option<Vec<_>>>()?;
    let checksum = match names.as_slice() {
        ["bytes" | "endian"] => false,
        ["bytes" | "endian", "crc32c"] => true,
        _ => return None,
    };
    let endian = codecs.first()?.get("configuration").and_then(|c| c.get("endian"));
    let at_end = match location.map(Value::as_str) {
        None | Some(Some("end")) => true,
        Some(Some("start")) => false,
        Some(_) => return None,
    };
    let is_big = endian.and_then(Value::as_str) == Some("big");
    let byte_order = if is_big { ByteOrder::Big } else { ByteOrder::Little };
    Some(IndexEncoding { at_end, byte_order, checksum })
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

fn too_many(codecs: usize) -> Option<String> {
    (codecs > MAX_CODECS).then(|| format!("it has {codecs} codecs, more than {MAX_CODECS}"))
}
