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
pub(super) const KNOWN: &[Known] = &[
    Known {
        case: "v2/vzarray_dtype_",
        reason: "a column of an unknown type is Null, and DataFusion says that it can't sum Null before \
                 anybody says why",
    },
    Known {
        case: "v2/vzarray_fill_value_long_text",
        reason: "the warning that a fill value is ignored quotes all of it",
    },
    Known {
        case: "v2/vzarray_fill_value_wide_object",
        reason: "the warning that a fill value is ignored quotes all of it",
    },
    Known {
        case: "v2/vzattrs_missing_value_wide_object",
        reason: "the warning that a fill value is ignored quotes all of it",
    },
    Known { case: "v2/zmetadata_metadata.v/.zarray.dtype_", reason: "as without .zmetadata" },
    Known { case: "v3/v_data_type_", reason: "as in v2" },
    Known { case: "consolidated/*metadata.v.data_type_", reason: "as in v2" },
    Known { case: "codecs/contradiction_raw_bits_huge", reason: "as in v2" },
    Known {
        case: "neighbours/type_1_",
        reason: "zarrs' words for a text of 2^30 characters are \"length_bytes overflow\"",
    },
    Known {
        case: "neighbours/*_13_*empty",
        reason: "zarrs' shuffle panics where the size of an element is 0; the panic is caught, and shown",
    },
    Known {
        case: "neighbours/*_14_*empty",
        reason: "zarrs' shuffle takes 2^64 steps where an element has as many bytes: the query never ends",
    },
    Known {
        case: "codecs/contradiction_fixed_text_huge",
        reason: "zarrs makes a fill value as long as the type says: the process aborts",
    },
];
