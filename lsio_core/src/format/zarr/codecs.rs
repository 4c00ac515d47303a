//! Codecs of an array, from Zarr's metadata. Each codec is either understood or refused with a reason: an array is
//! listed whatever its codecs are.

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

/// Upper bound on the codecs of an array, or of the chunks in its shards.
const MAX_CODECS: usize = 32;

/// Facts about the array that the codecs of Zarr v2 metadata depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct V2Context<'a> {
    pub(crate) element: &'a ElementType,
    /// Byte order of the dtype.
    pub(crate) byte_order: ByteOrder,
    pub(crate) rank: usize,
    /// Whether netCDF's library wrote the array.
    pub(crate) is_nczarr: bool,
}

/// Codecs of Zarr v2 metadata: `order`, `dtype`, `filters` and `compressor`.
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
        // A compressor that takes the elements themselves, not bytes.
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
    // Nested lists are in the order of the array's own dimensions.
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

/// Codecs of a Zarr v3 list.
pub(crate) fn v3_codecs(codecs: &[Value], element: &ElementType, rank: usize) -> Vec<CodecSpec> {
    v3_nested(codecs, element, rank, 0)
}

/// Name of a Zarr v3 codec.
pub(crate) fn v3_name(codec: &Value) -> Option<&str> {
    match codec {
        Value::String(name) => Some(name),
        codec => codec.get("name")?.as_str(),
    }
}

/// A bytes-to-bytes codec of Zarr v2.
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
        compressor
            .settings(configuration)
            .map(|settings| CodecKind::Compressor(compressor, settings))
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

/// `is_array` tells that no earlier codec has encoded the elements to bytes.
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
        // Drafts of Zarr v3 called `bytes` `endian`.
        "bytes" | "endian" => byte_order(setting("endian")).map(CodecKind::Bytes),
        "vlen-utf8" => Ok(CodecKind::Items(Items::Strings)),
        "vlen-bytes" => Ok(CodecKind::Items(Items::Bytes)),
        "sharding_indexed" => shard(configuration, element, rank, depth)
            .map(|shard| CodecKind::Shard(Box::new(shard))),
        name if is_pcodec(name) && is_array => Ok(CodecKind::Pcodec),
        // Two codecs have this name; that of Zarr v3 has another order of bits.
        "packbits" if is_array => return CodecSpec::unknown(name),
        name => return of_bytes(name, &native_configuration(configuration, element)),
    };
    match kind {
        Ok(kind) => CodecSpec::new(name, kind),
        Err(reason) => CodecSpec::invalid(name, reason),
    }
}

/// Elements of variable length in Zarr v2, identified by the first filter.
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

/// Replaces an `elementsize` of 0 by its writer's meaning: for netCDF's library the array's element size, whatever the
/// number is; for numcodecs one byte, so that nothing is shuffled.
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

/// Order of a transposition; an error if it isn't a permutation of `rank` dimensions.
fn transpose(order: Option<&Value>, rank: usize) -> Result<Vec<usize>, String> {
    let axes = match order {
        // Values from a draft of the specification.
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
    // The grid itself handles one level.
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

/// `None` if the index has an unknown encoding.
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

/// Configuration of a Zarr v3 codec in native byte order: decoded elements are native, whatever byte order they were
/// written in. The array's type supplies keys that are left out.
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
