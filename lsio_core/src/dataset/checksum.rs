//! Checksums of four bytes, before or behind what they are of.

use std::ops::Range;

/// The bytes of a checksum.
const LEN: usize = 4;

/// A way to sum up bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Crc32,
    Crc32c,
    Adler32,
    /// That of HDF5.
    Fletcher32,
    /// That of HDF5's metadata.
    JenkinsLookup3 {
        initval: u32,
        /// What is summed up before the content.
        prefix: Vec<u8>,
    },
}

/// Where a checksum stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Start,
    End,
}

/// A checksum that stands beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) checksum: Checksum,
    pub(crate) place: Place,
}

impl Checked {
    /// What Zarr v3 and shards have.
    pub(crate) const CRC32C: Self = Self { checksum: Checksum::Crc32c, place: Place::End };

    /// The bytes that it adds.
    pub(crate) fn bytes(&self) -> usize {
        LEN
    }

    /// Where the content is, if the checksum is that of it.
    ///
    /// # Errors
    /// A text, if it isn't.
    pub(crate) fn content(&self, bytes: &[u8]) -> Result<Range<usize>, String> {
        let split = match self.place {
            Place::Start => bytes.split_first_chunk::<LEN>().map(|(sum, content)| (content, sum)),
            Place::End => bytes.split_last_chunk::<LEN>(),
        };
        let (content, sum) = split.ok_or("it is too short for its checksum")?;
        if self.checksum.sum(content) != u32::from_le_bytes(*sum) {
            let name = self.checksum.name();
            return Err(format!("its checksum ({name}) doesn't fit: the bytes were changed"));
        }
        Ok(match self.place {
            Place::Start => LEN..bytes.len(),
            Place::End => 0..content.len(),
        })
    }

    /// The content with its checksum.
    pub(crate) fn add_to(&self, content: &[u8]) -> Vec<u8> {
        let sum = self.checksum.sum(content).to_le_bytes();
        match self.place {
            Place::Start => [&sum, content].concat(),
            Place::End => [content, &sum].concat(),
        }
    }
}

impl Checksum {
    fn name(&self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Adler32 => "adler32",
            Self::Fletcher32 => "fletcher32",
            Self::JenkinsLookup3 { .. } => "jenkins_lookup3",
        }
    }

    fn sum(&self, bytes: &[u8]) -> u32 {
        match self {
            Self::Crc32 => crc32fast::hash(bytes),
            Self::Crc32c => crc32c::crc32c(bytes),
            Self::Adler32 => adler2::adler32_slice(bytes),
            Self::Fletcher32 => fletcher32(bytes),
            Self::JenkinsLookup3 { initval, prefix } => lookup3(prefix, bytes, *initval),
        }
    }
}

/// Two sums of 16 bits, of the words and of the first sums, where carries are added again.
fn fletcher32(bytes: &[u8]) -> u32 {
    /// So many words can be summed up twice before 32 bits overflow.
    const WORDS: usize = 360;
    fn fold(sum: u32) -> u32 {
        (sum & 0xffff) + (sum >> 16)
    }
    let (mut first, mut second) = (0_u32, 0_u32);
    for block in bytes.chunks(2 * WORDS) {
        let (words, odd) = block.as_chunks::<2>();
        for word in words {
            first += u32::from(u16::from_be_bytes(*word));
            second += first;
        }
        // Only the last block has one; the sums then have room for one word more.
        if let [byte] = odd {
            first += u32::from(*byte) << 8;
            second += first;
        }
        (first, second) = (fold(first), fold(second));
    }
    fold(second) << 16 | fold(first)
}

/// Bob Jenkins' hash: three words of state, which twelve bytes are added to and mixed into at a time.
fn lookup3(prefix: &[u8], content: &[u8], initval: u32) -> u32 {
    let len = prefix.len() + content.len();
    let [mut a, mut b, mut c] = [0xdead_beef_u32.wrapping_add(len as u32).wrapping_add(initval); 3];
    if len == 0 {
        return c;
    }
    let mut bytes = prefix.iter().chain(content).copied();
    let mut left = len;
    loop {
        let mut block = [0; 12];
        for (to, byte) in block.iter_mut().zip(&mut bytes) {
            *to = byte;
        }
        let [x, y, z] = words(&block);
        a = a.wrapping_add(x);
        b = b.wrapping_add(y);
        c = c.wrapping_add(z);
        if left <= 12 {
            break;
        }
        left -= 12;
        // Each step takes one word from another, whose rotated bits go in as well.
        for (number, rotation) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
            let (to, from, third) = match number % 3 {
                0 => (&mut a, &mut c, b),
                1 => (&mut b, &mut a, c),
                _ => (&mut c, &mut b, a),
            };
            *to = to.wrapping_sub(*from) ^ from.rotate_left(rotation);
            *from = from.wrapping_add(third);
        }
    }
    for (number, rotation) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (to, from) = match number % 3 {
            0 => (&mut c, b),
            1 => (&mut a, c),
            _ => (&mut b, a),
        };
        *to = (*to ^ from).wrapping_sub(from.rotate_left(rotation));
    }
    c
}

/// Three words in little-endian order.
fn words(block: &[u8; 12]) -> [u32; 3] {
    let (words, _) = block.as_chunks::<4>();
    [words[0], words[1], words[2]].map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::codec_cases, *};

    const NAMES: [&str; 5] = ["crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"];

    #[test]
    fn sums_are_those_of_numcodecs() {
        for case in codec_cases::of(&NAMES) {
            let checked = Checked::of(case.codec, Some(case.configuration)).unwrap().unwrap();
            let content = checked.content(&case.encoded).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(case.encoded[content], case.decoded(), "{case}");
            assert_eq!(case.encoded.len(), case.decoded().len() + checked.bytes());
            assert_eq!(checked.add_to(&case.decoded()), case.encoded, "{case}");
            let prefixed = Checked::of(&format!("numcodecs.{}", case.codec), None).unwrap();
            assert!(prefixed.is_ok());

            for at in 0..case.encoded.len() {
                let mut changed = case.encoded.clone();
                changed[at] ^= 16;
                assert!(checked.content(&changed).is_err(), "{case}");
            }
            for len in 0..4 {
                assert!(checked.content(&case.encoded[..len]).is_err(), "{case}");
            }
        }
    }

    #[test]
    fn what_is_said_of_them() {
        let of = |name: &str, configuration: Value| {
            Checked::of(name, Some(configuration.as_object().unwrap()))
        };
        assert_eq!(of("crc32c", json!({})), Some(Ok(Checked::CRC32C)));
        assert_eq!(of("numcodecs.crc32c", json!({"location": null})), Some(Ok(Checked::CRC32C)));
        assert_eq!(of("zlib", json!({})), None);
        assert!(of("crc32", json!({"location": "middle"})).unwrap().is_err());
        assert!(of("adler32", json!({"location": 1})).unwrap().is_err());
        assert!(of("jenkins_lookup3", json!({"initval": -1})).unwrap().is_err());
        assert!(of("jenkins_lookup3", json!({"prefix": [256]})).unwrap().is_err());
        assert!(of("jenkins_lookup3", json!({"prefix": "AAA="})).unwrap().is_err());
    }

    #[test]
    fn errors_name_the_sum() {
        let error = Checked::CRC32C.content(&[0; 10]).unwrap_err();
        assert_eq!(error, "its checksum (crc32c) doesn't fit: the bytes were changed");
    }
}
