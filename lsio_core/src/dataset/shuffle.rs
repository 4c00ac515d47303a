//! The byte shuffle: splits elements into planes of bytes, and joins planes to elements.

use crate::simd::{Simd, kernel};

/// Decodes shuffled elements of `width` bytes to `out`, from the element `first` on. `planes` holds the first byte of
/// all elements, then the second byte of all elements, and so on. The length of `out` is a multiple of `width`. Leaves
/// `out` unchanged if it asks for elements beyond the planes.
pub(crate) fn unshuffle(planes: &[u8], width: usize, first: usize, out: &mut [u8]) {
    let width = width.max(1);
    let (all, len) = (planes.len() / width, out.len() / width);
    let plane = |number: usize| {
        let start = number * all + first;
        planes.get(start..start + len).filter(|_| first + len <= all).unwrap_or_default()
    };
    let simd = Simd::detect();
    match width {
        2 => simd.unshuffle_2(plane(0), plane(1), out.as_chunks_mut().0),
        4 => simd.unshuffle_4([0, 1, 2, 3].map(plane), out.as_chunks_mut().0),
        8 => simd.unshuffle_8([0, 1, 2, 3, 4, 5, 6, 7].map(plane), out.as_chunks_mut().0),
        _ => {
            for number in 0..width {
                for (element, byte) in out.chunks_exact_mut(width).zip(plane(number)) {
                    element[number] = *byte;
                }
            }
        }
    }
}

/// Splits elements of `width` bytes into planes: the first byte of all elements, then the second byte of all elements,
/// and so on. Omits trailing bytes that don't fill an element.
pub(crate) fn shuffle(elements: &[u8], width: usize) -> Vec<u8> {
    let width = width.max(1);
    let planes = (0..width)
        .flat_map(|number| elements.chunks_exact(width).map(move |element| element[number]));
    planes.collect()
}

kernel! {
    /// Elements of two bytes.
    fn unshuffle_2(low: &[u8], high: &[u8], out: &mut [[u8; 2]]) {
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            *out = [*low, *high];
        }
    }
}

kernel! {
    /// Elements of four bytes.
    fn unshuffle_4(planes: [&[u8]; 4], out: &mut [[u8; 4]]) {
        let [a, b, c, d] = planes;
        for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let word =
                u32::from(*a) | u32::from(*b) << 8 | u32::from(*c) << 16 | u32::from(*d) << 24;
            *out = word.to_le_bytes();
        }
    }
}

kernel! {
    /// Elements of eight bytes.
    fn unshuffle_8(planes: [&[u8]; 8], out: &mut [[u8; 8]]) {
        let [a, b, c, d, e, f, g, h] = planes;
        let low = a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| {
            u32::from(*a) | u32::from(*b) << 8 | u32::from(*c) << 16 | u32::from(*d) << 24
        });
        let high = e.iter().zip(f).zip(g).zip(h).map(|(((e, f), g), h)| {
            u32::from(*e) | u32::from(*f) << 8 | u32::from(*g) << 16 | u32::from(*h) << 24
        });
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            *out = (u64::from(low) | u64::from(high) << 32).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_put_together() {
        for width in [1, 2, 3, 4, 8, 12] {
            let elements = 1000;
            let data: Vec<u8> = (0..elements * width).map(|i| (i * 7 % 251) as u8).collect();
            let planes = shuffle(&data, width);
            for (i, byte) in data.iter().enumerate() {
                assert_eq!(planes[i % width * elements + i / width], *byte);
            }
            for (first, len) in [(0, 1000), (3, 129), (999, 1), (5, 0)] {
                let mut out = vec![0; len * width];
                unshuffle(&planes, width, first, &mut out);
                assert_eq!(out, data[first * width..(first + len) * width], "{width}");
            }
        }
    }
}
