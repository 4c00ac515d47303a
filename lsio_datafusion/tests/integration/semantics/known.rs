//! What differs from numpy and DuckDB, and why. A difference that is gone is to be taken out.

/// A known difference.
pub struct Known {
    /// The test that finds it.
    pub test: &'static str,
    pub sql: &'static str,
    pub columns: &'static [&'static str],
    #[expect(dead_code, reason = "for people")]
    pub reason: &'static str,
}

impl Known {
    pub fn is_of(&self, test: &str, sql: &str, column: &str) -> bool {
        self.test == test && self.sql == sql && self.columns.contains(&column)
    }
}

pub const KNOWN: &[Known] = &[];
