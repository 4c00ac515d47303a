//! Shape and chunks of an array from Zarr's metadata, parsed so that arrays can be listed that can't be decoded.

use serde_json::{Map, Value};

use crate::{
    dataset::{Layout, ZarrFormat},
    grid::{ChunkGrid, Edges},
};

/// Upper bound on the dimensions of an array.
const MAX_DIMENSIONS: usize = 64;

/// Facts that suffice to list an array.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) layout: Layout,
    /// Reason why chunks can't be found; the grid then has a single chunk.
    pub(super) problem: Option<String>,
}

impl Listing {
    /// # Errors
    /// A text with the missing or wrong field.
    pub(super) fn new(metadata: &Map<String, Value>, format: ZarrFormat) -> Result<Self, String> {
        let shape = sizes(metadata.get("shape")).ok_or("shape is not a list of sizes")?;
        if shape.len() > MAX_DIMENSIONS {
            let rank = shape.len();
            return Err(format!("it has {rank} dimensions, more than {MAX_DIMENSIONS}"));
        }
        let edges = match format {
            ZarrFormat::V2 => regular(metadata.get("chunks"), &shape),
            ZarrFormat::V3 => v3_edges(metadata, &shape),
        };
        // The shape alone suffices to list an array that can't be read.
        let (edges, problem) = match edges {
            Ok(edges) => (edges, None),
            Err(reason) => {
                let one = |size: &u64| Edges::Regular((*size).max(1));
                (shape.iter().map(one).collect(), Some(reason))
            }
        };
        let grid = ChunkGrid::with_edges(shape.clone(), edges).ok_or_else(|| {
            format!("the shape {shape:?} is too large, or its chunks don't cover it")
        })?;
        let dtype = match format {
            ZarrFormat::V2 => metadata.get("dtype"),
            ZarrFormat::V3 => metadata.get("data_type"),
        };
        let dtype = match dtype.ok_or("the data type is missing")? {
            Value::String(name) => name.clone(),
            Value::Object(object) => match object.get("name").and_then(Value::as_str) {
                Some(name) => name.to_owned(),
                None => Value::Object(object.clone()).to_string(),
            },
            other => other.to_string(),
        };
        let (codecs, inner_chunks) = match format {
            ZarrFormat::V2 => (v2_codecs(metadata), None),
            ZarrFormat::V3 => v3_codecs(metadata.get("codecs"), 0),
        };
        let chunks = grid.chunk_shape().to_vec();
        let layout = Layout { shape, chunks, inner_chunks, codecs, dtype, format, grid };
        Ok(Self { layout, problem })
    }
}

fn v3_edges(metadata: &Map<String, Value>, shape: &[u64]) -> Result<Vec<Edges>, String> {
    let grid = metadata.get("chunk_grid").ok_or("chunk_grid is missing")?;
    let name = grid.get("name").and_then(Value::as_str).unwrap_or_default();
    let setting = |key: &str| grid.get("configuration").and_then(|c| c.get(key));
    match name {
        "regular" => regular(setting("chunk_shape"), shape),
        // Chunks are cut off at the array's edge.
        "zarrs.regular_bounded" => {
            let bounded = |(edges, &size): (Edges, &u64)| match edges {
                Edges::Regular(chunk) if size % chunk != 0 => {
                    Edges::runs([(chunk, size / chunk), (size % chunk, 1)])
                }
                edges => Some(edges),
            };
            let edges = regular(setting("chunk_shape"), shape)?;
            let edges = edges.into_iter().zip(shape).map(bounded).collect::<Option<_>>();
            edges.ok_or_else(|| format!("the shape {shape:?} is too large"))
        }
        "rectilinear" | "rectangular" => {
            let kind = setting("kind").and_then(Value::as_str).unwrap_or("inline");
            if kind != "inline" {
                return Err(format!(
                    "the chunk grid '{name}' of the kind '{kind}' isn't supported"
                ));
            }
            let key = if name == "rectilinear" { "chunk_shapes" } else { "chunk_shape" };
            let dims = setting(key).and_then(Value::as_array);
            let dims = dims.ok_or_else(|| format!("the chunk grid's {key} is not a list"))?;
            if dims.len() != shape.len() {
                let rank = shape.len();
                return Err(format!("the chunk grid has {} dimensions, not {rank}", dims.len()));
            }
            dims.iter().zip(shape).map(|(sizes, size)| edges_of(sizes, *size)).collect()
        }
        _ => Err(format!("the chunk grid '{name}' isn't supported")),
    }
}

fn regular(chunks: Option<&Value>, shape: &[u64]) -> Result<Vec<Edges>, String> {
    let chunks = sizes(chunks).ok_or("the chunk shape is not a list of sizes")?;
    if chunks.len() != shape.len() {
        return Err(format!("the chunk shape {chunks:?} doesn't fit the shape {shape:?}"));
    }
    let edges = chunks.iter().zip(shape).map(|(&chunk, &size)| match (chunk, size) {
        // An empty dimension may have empty chunks: none is ever read.
        (0, 0) => Some(Edges::Regular(1)),
        (0, _) => None,
        (chunk, _) => Some(Edges::Regular(chunk)),
    });
    let edges = edges.collect::<Option<_>>();
    edges.ok_or_else(|| format!("the chunk shape {chunks:?} has a size of 0"))
}

/// Chunk sizes along a dimension: one size for all chunks, or a list of sizes and of pairs (size, number of chunks).
fn edges_of(sizes: &Value, size: u64) -> Result<Edges, String> {
    let wrong = || "the sizes of chunks in the chunk grid are wrong".to_owned();
    if let Some(chunk) = sizes.as_u64().filter(|chunk| *chunk > 0) {
        return Ok(Edges::Regular(chunk));
    }
    let sizes = sizes.as_array().ok_or_else(wrong)?;
    let runs = sizes.iter().map(|run| match run.as_array().map(Vec::as_slice) {
        Some([size, count]) => Some((size.as_u64()?, count.as_u64()?)),
        Some(_) => None,
        None => Some((run.as_u64()?, 1)),
    });
    let runs: Vec<(u64, u64)> = runs.collect::<Option<_>>().ok_or_else(wrong)?;
    let covered = runs.iter().fold(0_u64, |sum, (s, n)| sum.saturating_add(s.saturating_mul(*n)));
    if covered < size {
        return Err(format!("the chunks of the chunk grid cover {covered} of {size} indices"));
    }
    Edges::runs(runs).ok_or_else(wrong)
}

fn sizes(value: Option<&Value>) -> Option<Vec<u64>> {
    value?.as_array()?.iter().map(Value::as_u64).collect()
}

fn v2_codecs(metadata: &Map<String, Value>) -> Vec<String> {
    let filters = metadata.get("filters").and_then(Value::as_array).into_iter().flatten();
    let compressor = metadata.get("compressor").filter(|c| !c.is_null());
    filters.chain(compressor).map(|codec| codec_name(codec, "id")).collect()
}

fn v3_codecs(codecs: Option<&Value>, depth: usize) -> (Vec<String>, Option<Vec<u64>>) {
    let codecs = codecs.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let sharding = codecs
        .iter()
        .find(|codec| codec.get("name").and_then(Value::as_str) == Some("sharding_indexed"))
        .and_then(|codec| codec.get("configuration"));
    match sharding {
        Some(sharding) if depth < 8 => {
            let (inner, _) = v3_codecs(sharding.get("codecs"), depth + 1);
            (inner, sizes(sharding.get("chunk_shape")))
        }
        _ => (codecs.iter().map(|codec| codec_name(codec, "name")).collect(), None),
    }
}

/// Name of a codec; for blosc, with the name of the inner compressor.
fn codec_name(codec: &Value, key: &str) -> String {
    let name = match codec {
        Value::String(name) => name,
        codec => codec.get(key).and_then(Value::as_str).unwrap_or("?"),
    };
    let configuration = codec.get("configuration").unwrap_or(codec);
    match configuration.get("cname").and_then(Value::as_str) {
        Some(inner) => format!("{name}-{inner}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layout(shape: &[u64], grid: Value) -> Result<Listing, String> {
        let metadata = json!({
            "shape": shape, "chunk_grid": grid, "data_type": "int8", "codecs": [{"name": "bytes"}],
        });
        Listing::new(metadata.as_object().unwrap(), ZarrFormat::V3)
    }

    #[test]
    fn every_chunk_grid() {
        let regular = json!({"name": "regular", "configuration": {"chunk_shape": [4]}});
        assert_eq!(layout(&[10], regular).unwrap().layout.grid.len(), 3);
        let bounded =
            json!({"name": "zarrs.regular_bounded", "configuration": {"chunk_shape": [4]}});
        assert_eq!(layout(&[10], bounded).unwrap().layout.grid.shape_at(&[2]), [2]);
        let rectilinear = |sizes: Value| json!({"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": sizes}});
        let grid = layout(&[10, 7], rectilinear(json!([[[2, 3], 4], 3]))).unwrap().layout.grid;
        assert_eq!((grid.len(), grid.shape_at(&[3, 2])), (12, vec![4, 3]));
        let rectangular =
            json!({"name": "rectangular", "configuration": {"chunk_shape": [[5, 5, 5], 2]}});
        assert_eq!(layout(&[12, 2], rectangular).unwrap().layout.grid.len(), 3);
        for wrong in [
            rectilinear(json!([[2, 3], 3])),
            rectilinear(json!([[[2, 3, 1]], 3])),
            rectilinear(json!([[10, 0], 3])),
            rectilinear(json!([[[1_u64 << 40, 1_u64 << 40]], 3])),
            rectilinear(json!([10])),
            rectilinear(json!([-1, 3])),
            json!({"name": "other"}),
            json!({"name": "regular", "configuration": {"chunk_shape": [0, 1]}}),
            json!(null),
        ] {
            assert!(layout(&[10, 7], wrong.clone()).unwrap().problem.is_some(), "{wrong}");
        }
        // A run that stands for many chunks takes no memory.
        assert!(layout(&[1 << 40, 1], rectilinear(json!([[[1, 1_u64 << 40], 3], 1]))).is_ok());
        assert!(
            layout(&[1 << 40, 1 << 40], rectilinear(json!([[1_u64 << 40], [1_u64 << 40]])))
                .is_err()
        );
    }
}
