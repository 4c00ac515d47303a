//! What differs from numpy and DuckDB, and why. A difference that is gone is to be taken out.

/// A known difference.
pub(super) struct Known {
    /// The tests that find it.
    pub tests: &'static [&'static str],
    pub sql: &'static [&'static str],
    pub columns: &'static [&'static str],
    #[expect(dead_code, reason = "for people")]
    pub reason: &'static str,
}

impl Known {
    pub(super) fn is_of(&self, test: &str, sql: &str, column: &str) -> bool {
        self.tests.contains(&test) && self.sql.contains(&sql) && self.columns.contains(&column)
    }
}

/// All differences.
pub(super) fn known() -> impl Iterator<Item = &'static Known> {
    DIFFERENT.iter()
}

/// What is given otherwise.
const DIFFERENT: &[Known] = &[
    Known {
        tests: &["rows"],
        sql: &["abs({x})", "round({x}, -1)"],
        columns: &["int64"],
        reason: "what 64 bits can't hold ends the query",
    },
    Known {
        tests: &["rows"],
        sql: &["round({x}, -1)"],
        columns: &["uint64"],
        reason: "what 64 bits can't hold ends the query",
    },
    Known {
        tests: &["rows"],
        sql: &["TRY_CAST({x} AS INT)"],
        columns: &["text"],
        reason: "the text 1.5 is no integer, as in PostgreSQL; DuckDB rounds it",
    },
    Known {
        tests: &["constants"],
        sql: &["CASE {x} WHEN 0 THEN 10 WHEN 1 THEN 11 ELSE 12 END", "{x} = ANY([0.0, 0.7, 2.0])"],
        columns: &["float32", "float64"],
        reason: "DataFusion 55.2 folds constants, of which it compares the bits of -0.0, before our rule",
    },
    Known {
        tests: &["rows"],
        sql: &[
            "date_trunc('year', {x})",
            "time_bucket(INTERVAL '1 year', {x})",
            "{x} + INTERVAL '1 day'",
            "{x} + INTERVAL '1 month'",
            "{x} - INTERVAL '1 year'",
        ],
        columns: &["time_ns"],
        reason: "a result beyond the reach of nanoseconds, 1677 to 2262, ends the query",
    },
    Known {
        tests: &["rows"],
        sql: &["{x} - TIMESTAMP '2020-01-01'", "{x} - TIMESTAMP '2020-01-01' > INTERVAL '1 day'"],
        columns: &["time_ns"],
        reason: "a difference of more than 292 years in nanoseconds ends the query",
    },
    Known {
        tests: &["rows"],
        sql: &["date_bin(INTERVAL '10 days', {x}, TIMESTAMP '2000-01-01')"],
        columns: &["time_ns"],
        reason: "a time more than 292 years from the origin has no bin of nanoseconds",
    },
];
