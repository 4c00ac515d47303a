//! The index of a shard (Zarr v3, `sharding_indexed`), checked before anything relies on it.

use std::num::NonZeroU64;

use serde_json::{Map, Value};
use zarrs::array::{CodecChain, CodecOptions, codec::ShardingCodec};

use super::codec::{Layout, MAX_CHUNK_BYTES};

/// Where the index of an array's shards is, and what is known of the chunks that it points to.
#[derive(Debug)]
pub(super) struct ShardIndex {
    chunks: Vec<NonZeroU64>,
    bytes: usize,
    at_end: bool,
    /// The most bytes that an inner chunk decodes to, if its outermost codec is zstd.
    zstd_bound: Option<u64>,
}

impl ShardIndex {
    /// `None` if the array isn't sharded, or its index is encoded in a way of its own: then zarrs
    /// alone knows where it is. `width` is the bytes of an element, if they don't vary.
    pub(super) fn new(
        metadata: &Map<String, Value>,
        layout: &Layout,
        width: Option<usize>,
    ) -> Option<Self> {
        let [codec] = metadata.get("codecs")?.as_array()?.as_slice() else { return None };
        let configuration = codec.get("configuration")?;
        let inner = layout.inner_chunks.as_ref()?;
        let chunks: Vec<NonZeroU64> = layout
            .chunks
            .iter()
            .zip(inner)
            .map(|(shard, chunk)| NonZeroU64::new(shard.checked_div(*chunk)?))
            .collect::<Option<_>>()?;
        let count = chunks.iter().try_fold(1_u64, |n, c| n.checked_mul(c.get()))?;
        let names: Vec<&str> = configuration
            .get("index_codecs")?
            .as_array()?
            .iter()
            .filter_map(|codec| codec.get("name")?.as_str())
            .collect();
        let checksum = match names.as_slice() {
            ["bytes"] => 0,
            ["bytes", "crc32c"] => 4,
            _ => return None,
        };
        let bytes = usize::try_from(count.checked_mul(16)?.checked_add(checksum)?).ok()?;
        let at_end = configuration.get("index_location").and_then(Value::as_str) != Some("start");
        let cells = inner.iter().try_fold(1_u64, |n, c| n.checked_mul(*c))?;
        let most = match width {
            // Checksums and the like come on top of the elements.
            Some(width) => cells.checked_mul(width as u64)?.checked_add(1_024)?,
            None => MAX_CHUNK_BYTES,
        };
        let zstd_bound = (layout.codecs.last().map(String::as_str) == Some("zstd")).then_some(most);
        Some(Self { chunks, bytes, at_end, zstd_bound })
    }

    /// Checks that all chunks lie inside the shard.
    ///
    /// # Errors
    /// A text that says what is wrong with the shard.
    pub(super) fn check(
        &self,
        codecs: &CodecChain,
        shard: &[u8],
        options: &CodecOptions,
    ) -> Result<(), String> {
        let codec = codecs.array_to_bytes_codec();
        let Some(codec) = codec.as_any().downcast_ref::<ShardingCodec>() else { return Ok(()) };
        let too_short =
            || format!("it has {} bytes, fewer than its index of {}", shard.len(), self.bytes);
        let start = if self.at_end { shard.len().checked_sub(self.bytes) } else { Some(0) };
        let index =
            start.and_then(|start| shard.get(start..start + self.bytes)).ok_or_else(too_short)?;
        let index = codec
            .decode_index(index, &self.chunks, options)
            .map_err(|e| format!("the index of the shard is corrupt: {e}"))?;
        for (number, entry) in index.chunks_exact(2).enumerate() {
            let [offset, size] = [entry[0], entry[1]];
            if offset == u64::MAX && size == u64::MAX {
                continue;
            }
            let range = offset
                .checked_add(size)
                .and_then(|end| Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?));
            let chunk = range.and_then(|range| shard.get(range)).ok_or_else(|| {
                format!(
                    "the index of the shard puts its chunk {number} at byte {offset} with {size} \
                     bytes, but the shard has {} bytes",
                    shard.len()
                )
            })?;
            if let Some(most) = self.zstd_bound {
                let bound = zstd::zstd_safe::decompress_bound(chunk);
                if !bound.is_ok_and(|bound| bound <= most) {
                    return Err(format!("chunk {number} of the shard is no zstd of its size"));
                }
            }
        }
        Ok(())
    }
}
