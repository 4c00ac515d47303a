//! Cases that fail, and why. A name that no longer fails makes the test fail, so that the list shrinks.

/// Cases that are known to fail.
pub(super) struct Known {
    /// What their names begin with; a `*` stands for anything.
    pub case: &'static str,
    /// Why they fail.
    #[expect(dead_code, reason = "for who reads this")]
    pub reason: &'static str,
}

impl Known {
    pub(super) fn names(&self, name: &str) -> bool {
        let mut rest = name;
        for (i, part) in self.case.split('*').enumerate() {
            match rest.find(part) {
                Some(at) if i > 0 || at == 0 => rest = &rest[at + part.len()..],
                _ => return false,
            }
        }
        true
    }
}

/// All of them.
pub(super) const KNOWN: &[Known] = &[];
