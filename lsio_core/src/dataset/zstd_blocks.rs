//! Frames of Zstandard, decompressed a block at a time into memory that stays in the processor's cache, and read from a
//! file as they are needed: neither the stored nor the decoded chunk is ever in memory as a whole.

use std::cell::RefCell;

use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name};

/// Bytes decompressed at a time. A multiple of every element's size.
const BLOCK: usize = 256 << 10;

/// Bytes of a chunk up to which it is decompressed at once: that takes less time, and as little memory as the window.
const AT_ONCE: u64 = 4 << 20;

/// Upper bound in bytes on the window of earlier values that is kept.
const WINDOW: u64 = 8 << 20;

/// Most bytes of a frame's header.
pub(crate) const HEADER: usize = 18;

/// Bytes read at a time, if they aren't in memory.
const INPUT: usize = 128 << 10;

/// Fills a buffer with the bytes from an offset on.
type ReadAt<'a> = dyn Fn(usize, &mut [u8]) -> Result<(), String> + 'a;

/// Encoded bytes of a chunk, in memory or as they are read.
#[derive(Clone, Copy)]
pub(crate) enum Encoded<'a> {
    Memory(&'a [u8]),
    File(&'a ReadAt<'a>),
}

/// A chunk that is being decompressed.
pub(crate) struct ZstdBlocks {
    context: Option<DCtx<'static>>,
    /// Decoded and encoded bytes of the chunk.
    len: usize,
    encoded: usize,
    /// Encoded bytes that were read from a file, and the offset of the first.
    input: Vec<u8>,
    input_start: usize,
    /// Number of encoded bytes that are used up.
    used: usize,
    /// Whether they end a frame.
    is_whole: bool,
    /// The block: its first decoded byte, and its number of bytes.
    start: usize,
    filled: usize,
}

/// What the header of a frame says, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    content: u64,
    window: u64,
}

thread_local! {
    /// Contexts to use again, with their windows: one for each column that is read at a time.
    static CONTEXTS: RefCell<Vec<DCtx<'static>>> = const { RefCell::new(Vec::new()) };
}

impl Frame {
    /// `None` if it isn't a frame that says how much it holds, or one that needs a dictionary (RFC 8878, 3.1.1.1).
    fn parse(header: &[u8]) -> Option<Self> {
        let (descriptor, mut rest) =
            header.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?.split_first()?;
        let is_single = descriptor & 0x20 != 0;
        if descriptor & 0b1011 != 0 {
            return None;
        }
        let mut window = 0;
        if !is_single {
            let (&byte, others) = rest.split_first()?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * u64::from(byte & 7);
            rest = others;
        }
        let (size, offset) = match descriptor >> 6 {
            0 if is_single => (1, 0),
            0 => return None,
            1 => (2, 256),
            2 => (4, 0),
            _ => (8, 0),
        };
        let mut content = [0; 8];
        content[..size].copy_from_slice(rest.get(..size)?);
        let content = u64::from_le_bytes(content).checked_add(offset)?;
        Some(Self { content, window: if is_single { content } else { window } })
    }
}

impl ZstdBlocks {
    /// Begins with a chunk of `len` decoded bytes in elements of `width`; `None` if it isn't a frame that is better
    /// decompressed in blocks. `head` are the first of its `encoded` bytes.
    pub(crate) fn new(head: &[u8], encoded: usize, len: usize, width: usize) -> Option<Self> {
        let frame = Frame::parse(head)?;
        let is_large = frame.content > AT_ONCE && frame.window <= WINDOW;
        let suits = is_large && frame.content == len as u64 && BLOCK.is_multiple_of(width.max(1));
        suits.then(|| Self {
            context: None,
            len,
            encoded,
            input: Vec::new(),
            input_start: 0,
            used: 0,
            is_whole: false,
            start: 0,
            filled: 0,
        })
    }

    /// Bytes of a block.
    pub(crate) fn block_len(&self) -> usize {
        BLOCK
    }

    /// Decompresses the block with the byte `at` into `block`, which holds the last one. Returns the number of the block's
    /// bytes from there on.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt or can't be read.
    pub(crate) fn open(
        &mut self,
        at: usize,
        block: &mut [u8],
        encoded: Encoded<'_>,
    ) -> Result<usize, String> {
        if at >= self.len {
            return Err(format!("it has no byte {at}"));
        }
        if at < self.start {
            // From the beginning again.
            self.put_back();
            self.input.clear();
            (self.input_start, self.used, self.start, self.filled) = (0, 0, 0, 0);
            self.is_whole = false;
        }
        while at >= self.start + self.filled {
            self.start += self.filled;
            self.filled = 0;
            let wanted = BLOCK.min(self.len - self.start);
            self.decompress(&mut block[..wanted], encoded)?;
            self.filled = wanted;
            if self.start + wanted == self.len {
                self.end(encoded)?;
            }
        }
        Ok(self.start + self.filled - at)
    }

    /// Position of a byte in the block.
    pub(crate) fn within(&self, at: usize) -> usize {
        at.saturating_sub(self.start)
    }

    /// Fills `out`.
    fn decompress(&mut self, out: &mut [u8], encoded: Encoded<'_>) -> Result<(), String> {
        let len = out.len();
        let mut out = OutBuffer::around(out);
        while out.pos() < len {
            let before = out.pos();
            self.step(&mut out, encoded)?;
            if out.pos() < len && (self.is_whole || (out.pos() == before && self.is_used_up())) {
                let held = self.start + out.pos();
                return Err(format!("Zstd: it holds {held} bytes instead of {}", self.len));
            }
        }
        Ok(())
    }

    /// Checks that nothing but empty frames follows, and the frame's own checksum.
    fn end(&mut self, encoded: Encoded<'_>) -> Result<(), String> {
        let mut beyond = [0];
        while !(self.is_whole && self.is_used_up()) {
            let was_used_up = self.is_used_up();
            let mut out = OutBuffer::around(&mut beyond[..]);
            self.step(&mut out, encoded)?;
            if out.pos() > 0 || (was_used_up && !self.is_whole) {
                return Err(format!("Zstd: it holds other than {} bytes", self.len));
            }
        }
        self.put_back();
        Ok(())
    }

    /// Has the library go on with what it has not used up yet.
    fn step(&mut self, out: &mut OutBuffer<'_, [u8]>, encoded: Encoded<'_>) -> Result<(), String> {
        let (input, start) = match encoded {
            Encoded::Memory(all) => (all, 0),
            Encoded::File(read) => {
                if self.used == self.input_start + self.input.len() && !self.is_used_up() {
                    self.input_start = self.used;
                    self.input.resize(INPUT.min(self.encoded - self.used), 0);
                    read(self.used, &mut self.input)?;
                }
                (&self.input[..], self.input_start)
            }
        };
        let context = match &mut self.context {
            Some(context) => context,
            None => {
                let kept = CONTEXTS.with_borrow_mut(Vec::pop);
                let made = || DCtx::try_create().ok_or("there is no memory to decompress it");
                self.context.insert(kept.map_or_else(made, Ok)?)
            }
        };
        let mut input = InBuffer { src: input, pos: self.used - start };
        let left = context.decompress_stream(out, &mut input).map_err(|code| {
            let reason = get_error_name(code);
            format!("Zstd: it can't be decompressed to {} bytes: {reason}", self.len)
        })?;
        self.used = start + input.pos();
        self.is_whole = left == 0;
        Ok(())
    }

    fn is_used_up(&self) -> bool {
        self.used >= self.encoded
    }

    /// Keeps the context for the next frame.
    fn put_back(&mut self) {
        /// Contexts that a thread keeps.
        const KEPT: usize = 4;

        if let Some(mut context) = self.context.take()
            && context.reset(ResetDirective::SessionOnly).is_ok()
        {
            CONTEXTS.with_borrow_mut(|kept| {
                if kept.len() < KEPT {
                    kept.push(context);
                }
            });
        }
    }
}

impl Drop for ZstdBlocks {
    fn drop(&mut self) {
        self.put_back();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: usize = (5 << 20) + 40;

    fn values() -> Vec<u8> {
        (0..LEN / 4).flat_map(|n| ((n * n % 1009) as u32).to_le_bytes()).collect()
    }

    /// The bytes that are read at these places, each with up to `most` bytes.
    fn read(encoded: &[u8], places: &[usize], is_file: bool) -> Result<Vec<Vec<u8>>, String> {
        let mut blocks =
            ZstdBlocks::new(&encoded[..HEADER.min(encoded.len())], encoded.len(), LEN, 4)
                .ok_or("it isn't read in blocks")?;
        let file = |at: usize, out: &mut [u8]| -> Result<(), String> {
            out.copy_from_slice(&encoded[at..][..out.len()]);
            Ok(())
        };
        let source = if is_file { Encoded::File(&file) } else { Encoded::Memory(encoded) };
        let mut block = vec![0; blocks.block_len()];
        let mut all = Vec::new();
        for &at in places {
            let len = blocks.open(at, &mut block, source)?;
            all.push(block[blocks.within(at)..][..len].to_vec());
        }
        Ok(all)
    }

    fn all_places() -> Vec<usize> {
        (0..LEN).step_by(BLOCK).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn blocks_are_those_of_the_whole(
            places in prop::collection::vec(0..LEN, 1..6),
            level in 1..7,
            is_file: bool,
        ) {
            let values = values();
            let encoded = zstd::bulk::compress(&values, level).unwrap();
            for (at, block) in places.iter().zip(read(&encoded, &places, is_file).unwrap()) {
                prop_assert!(!block.is_empty());
                prop_assert_eq!(&values[*at..][..block.len()], &block);
            }
            prop_assert_eq!(read(&encoded, &all_places(), is_file).unwrap().concat(), values);
        }
    }

    #[test]
    fn corrupt_bytes_are_errors_where_the_library_says_so() {
        let values = values();
        let mut encoder = zstd::bulk::Compressor::new(1).unwrap();
        encoder.include_checksum(true).unwrap();
        let good = encoder.compress(&values).unwrap();
        let mut broken: Vec<Vec<u8>> = [0, 3, 17, good.len() / 2, good.len() - 5, good.len() - 1]
            .map(|len| good[..len].to_vec())
            .into();
        for at in [5, 9, 20, good.len() / 3, good.len() - 2] {
            let mut other = good.clone();
            other[at] ^= 0x11;
            broken.push(other);
        }
        let more = |tail: &[u8]| [&good, tail].concat();
        broken.push(more(b"more"));
        broken.push(more(&zstd::bulk::compress(b"more", 1).unwrap()));
        // Frames without contents.
        let skipped = more(&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7]);
        let empty = more(&zstd::bulk::compress(b"", 1).unwrap());
        for encoded in broken.iter().chain([&good, &skipped, &empty]) {
            let head = &encoded[..HEADER.min(encoded.len())];
            if ZstdBlocks::new(head, encoded.len(), LEN, 4).is_none() {
                // Then it is decompressed as a whole.
                continue;
            }
            let whole =
                zstd::bulk::decompress(encoded, LEN + 1).ok().filter(|all| all.len() == LEN);
            for is_file in [false, true] {
                let read = read(encoded, &all_places(), is_file).map(|all| all.concat());
                assert_eq!(read.ok(), whole, "{} bytes", encoded.len());
            }
        }
    }

    #[test]
    fn frames_say_what_they_hold() {
        for (len, level) in [(0, 1), (200, 1), (300, 3), (70_000, 3), (3 << 20, 1), (20 << 20, 19)]
        {
            let encoded = zstd::bulk::compress(&vec![7; len], level).unwrap();
            let frame = Frame::parse(&encoded[..HEADER.min(encoded.len())]).unwrap();
            assert_eq!(frame.content, len as u64);
            assert!(frame.window >= frame.content.min(1 << 18), "{frame:?}");
        }
        let unknown = zstd::stream::encode_all(&[7; 1000][..], 1).unwrap();
        assert_eq!(Frame::parse(&unknown), None);
        assert_eq!(Frame::parse(&[]), None);
    }
}
