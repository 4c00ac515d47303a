//! Suggestions for misspelled names.

/// The longest name that is compared, in characters: time grows with the square of the length.
const LONGEST: usize = 128;

/// The candidate most similar to `name`. `None` if no candidate is similar enough to be a likely misspelling.
pub fn closest<T: AsRef<str>>(name: &str, candidates: impl IntoIterator<Item = T>) -> Option<T> {
    let mut closest = None;
    let mut least = usize::MAX;
    for candidate in candidates {
        let distance = match likeness(name, candidate.as_ref()) {
            Some(distance) if distance < least => distance,
            _ => continue,
        };
        (closest, least) = (Some(candidate), distance);
    }
    closest
}

/// The distance between two names. `None` if they are too different for a misspelling.
fn likeness(name: &str, candidate: &str) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (lower(name), lower(candidate));
    let (short, long) = (a.len().min(b.len()), a.len().max(b.len()));
    if short == 0 || long > LONGEST {
        return None;
    }
    if a == b {
        // The names differ at most in letter case.
        return Some(0);
    }
    // Allows one slip per three characters, or a missing end of a longer name.
    let most = (long / 3).clamp(1, 4);
    if long - short <= most {
        let distance = distance(&a, &b);
        if distance <= most && distance < short {
            return Some(distance);
        }
    }
    (short >= 3 && (b.starts_with(&a) || a.starts_with(&b))).then_some(most + long - short)
}

fn lower(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect()
}

/// The edit distance: the number of characters to insert, delete, replace, or swap with a neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    // Three rows of the table of distances between prefixes of `a` and prefixes of `b`.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips() {
        let names =
            ["era5.zarr", "era5_land.zarr", "t2m", "temperature", "precipitation", "u10", "v10"];
        for (slip, meant) in [
            ("era5.zar", Some("era5.zarr")),
            ("ear5.zarr", Some("era5.zarr")),
            ("ERA5.zarr", Some("era5.zarr")),
            ("t2", Some("t2m")),
            ("T2M", Some("t2m")),
            ("temp", Some("temperature")),
            ("temperatur", Some("temperature")),
            ("tempertaure", Some("temperature")),
            ("precipitaton", Some("precipitation")),
            ("u100", Some("u10")),
            ("salinity", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(slip, names), meant, "{slip}");
        }
        assert_eq!(closest("std", ["sin", "stddev", "sqrt"]), Some("stddev"));
        assert_eq!(closest(&"a".repeat(10_000), [&*"a".repeat(10_001)]), None);
    }

    #[test]
    fn distances() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "xbc", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(&chars(a), &chars(b)), expected, "{a} {b}");
            assert_eq!(distance(&chars(b), &chars(a)), expected, "{b} {a}");
        }
    }
}
