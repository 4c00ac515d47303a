//! Tables on the terminal, of any length in bounded memory.

use std::{
    fmt::Write as _,
    io::{BufWriter, Write as _},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef, util::display::ArrayFormatter};
use unicode_width::UnicodeWidthStr as _;

use lsio_datafusion::text;

use crate::{Error, output::Stdout};

/// Bytes of the first rows, which determine the widths of the columns.
const FIRST: usize = 64 << 20;

/// Writer of a table: buffers the first rows for the widths of the columns, then writes rows as they come.
/// Wider cells stick out.
pub(crate) struct TableWriter {
    schema: SchemaRef,
    /// Buffered rows.
    first: Vec<RecordBatch>,
    bytes: usize,
    /// Widths of the columns, once the header is written.
    widths: Option<Vec<usize>>,
}

impl TableWriter {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, first: Vec::new(), bytes: 0, widths: None }
    }

    /// Adds rows.
    pub(crate) async fn add(&mut self, batch: RecordBatch) -> Result<(), Error> {
        if let Some(widths) = &self.widths {
            return write(&batch, widths).await;
        }
        // A slice keeps its whole array in memory.
        self.bytes = self.bytes.saturating_add(batch.get_array_memory_size());
        self.first.push(batch);
        if self.bytes > FIRST { self.begin().await } else { Ok(()) }
    }

    /// Writes buffered rows and the last line.
    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        if self.widths.is_none() {
            self.begin().await?;
        }
        let mut line = String::new();
        rule(&mut line, self.widths.as_deref().unwrap_or_default());
        Stdout.write_all(line.as_bytes())?;
        Ok(Stdout.flush()?)
    }

    /// Writes the header and the first rows.
    async fn begin(&mut self) -> Result<(), Error> {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let mut widths: Vec<usize> = names.iter().map(|name| width(name)).collect();
        let mut text = String::new();
        for batch in &self.first {
            for (column, widest) in batch.columns().iter().zip(&mut widths) {
                let cells = text::formatter(column)?;
                for row in 0..batch.num_rows() {
                    text.clear();
                    cells.value(row).write(&mut text)?;
                    *widest = (*widest).max(width(&text));
                }
            }
            tokio::task::yield_now().await;
        }
        let mut header = String::new();
        rule(&mut header, &widths);
        row(&mut header, &names, &widths);
        rule(&mut header, &widths);
        Stdout.write_all(header.as_bytes())?;
        for batch in std::mem::take(&mut self.first) {
            write(&batch, &widths).await?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

async fn write(batch: &RecordBatch, widths: &[usize]) -> Result<(), Error> {
    write_rows(batch, widths)?;
    // Yields to Ctrl-C.
    tokio::task::yield_now().await;
    Ok(())
}

fn write_rows(batch: &RecordBatch, widths: &[usize]) -> Result<(), Error> {
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| text::formatter(column)).collect::<Result<_, _>>()?;
    let mut cells = vec![String::new(); columns.len()];
    let mut out = BufWriter::new(Stdout);
    let mut line = String::new();
    for at in 0..batch.num_rows() {
        for (cell, column) in cells.iter_mut().zip(&columns) {
            cell.clear();
            column.value(at).write(cell)?;
        }
        line.clear();
        row(&mut line, &cells, widths);
        out.write_all(line.as_bytes())?;
    }
    Ok(out.flush()?)
}

/// Width of a text on the terminal, that of its longest line.
fn width(text: &str) -> usize {
    text.split('\n').map(|line| line.width()).max().unwrap_or(0)
}

/// `+---+---+`
fn rule(out: &mut String, widths: &[usize]) {
    for width in widths {
        let _ = write!(out, "+{:-<1$}", "", width + 2);
    }
    out.push_str(if widths.is_empty() { "++\n" } else { "+\n" });
}

/// `| a | b |`, over several lines if a cell has several.
fn row<T: AsRef<str>>(out: &mut String, cells: &[T], widths: &[usize]) {
    let lines = cells.iter().map(|cell| cell.as_ref().split('\n').count()).max().unwrap_or(1);
    for line in 0..lines {
        for (cell, wide) in cells.iter().zip(widths) {
            let text = cell.as_ref().split('\n').nth(line).unwrap_or_default();
            let _ = write!(out, "| {text}{:1$} ", "", wide.saturating_sub(text.width()));
        }
        out.push_str("|\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        let mut out = String::new();
        let widths = [width("é\nab"), width("日本")];
        assert_eq!(widths, [2, 4]);
        rule(&mut out, &widths);
        row(&mut out, &["é\nab", "日本"], &widths);
        row(&mut out, &["wide", ""], &widths);
        assert_eq!(out, "+----+------+\n| é  | 日本 |\n| ab |      |\n| wide |      |\n");
    }
}
