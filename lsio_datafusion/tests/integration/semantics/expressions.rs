//! Aggregates and filters of expressions: what they give follows from the expressions' values.

use super::{
    Asked, Findings,
    answers::{Cell, Column, is_right},
};

/// Compares aggregates, which may be off by the order in which they are summed.
pub fn compare_sums(
    findings: &mut Findings,
    asked: &Asked<'_>,
    column: &Column,
    expected: &[Cell],
) {
    findings.asked += 1;
    if column.cells.len() != expected.len() {
        findings.fault(asked, format!("{} rows for {}", column.cells.len(), expected.len()));
    }
    for (row, (actual, expected)) in column.cells.iter().zip(expected).enumerate() {
        let near = match (actual.number(), expected.number()) {
            (Some(a), Some(e)) => (a - e).abs() <= 1e-12 * e.abs(),
            _ => false,
        };
        if !near && !is_right(actual, &column.data_type, expected, 4) {
            let kind = &column.data_type;
            findings.fault(asked, format!("[{row}] ({kind}) {actual} for {expected}"));
        }
    }
}
