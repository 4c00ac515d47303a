//! Comma- and tab-separated values. NULL is nothing and the empty text `""`, as in DuckDB; arrow's writer
//! makes both alike.

use std::io::{self, Write};

use arrow::{
    array::{Array as _, RecordBatch},
    error::ArrowError,
};

use super::cells::formatter;

/// Writes the names of the columns.
///
/// # Errors
/// Those of `out`.
pub fn header<'a>(
    out: &mut impl Write,
    names: impl IntoIterator<Item = &'a str>,
    delimiter: u8,
) -> io::Result<()> {
    for (at, name) in names.into_iter().enumerate() {
        if at > 0 {
            out.write_all(&[delimiter])?;
        }
        field(out, name, delimiter)?;
    }
    out.write_all(b"\n")
}

/// Writes rows. Lists and structs are text, since CSV has neither.
///
/// # Errors
/// Those of `out`, or if a column is of a type that arrow can't write.
pub fn rows(out: &mut impl Write, batch: &RecordBatch, delimiter: u8) -> Result<(), ArrowError> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| Ok((column.logical_nulls(), formatter(column)?)))
        .collect::<Result<Vec<_>, ArrowError>>()?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (at, (nulls, cells)) in columns.iter().enumerate() {
            if at > 0 {
                out.write_all(&[delimiter])?;
            }
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            text.clear();
            cells.value(row).write(&mut text)?;
            field(out, &text, delimiter)?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Writes a text, quoted where necessary.
fn field(out: &mut impl Write, text: &str, delimiter: u8) -> io::Result<()> {
    let special = |byte: u8| byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r');
    if !text.is_empty() && !text.bytes().any(special) {
        return out.write_all(text.as_bytes());
    }
    write!(out, "\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, DictionaryArray, NullArray, StringArray},
        datatypes::Int32Type,
    };

    use super::*;

    fn csv(columns: Vec<ArrayRef>) -> String {
        let names = ["a", "b, c", ""];
        let batch = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
        let mut out = Vec::new();
        header(&mut out, batch.schema().fields().iter().map(|f| f.name().as_str()), b',').unwrap();
        rows(&mut out, &batch, b',').unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn null_is_not_the_empty_text() {
        let texts = [Some(""), None, Some("x"), Some("a \"b\""), Some("1,2"), Some("1\n2")];
        let plain = Arc::new(StringArray::from(texts.to_vec()));
        let dictionary: DictionaryArray<Int32Type> = texts.into_iter().collect();
        let nothing = Arc::new(NullArray::new(texts.len()));
        assert_eq!(
            csv(vec![plain, Arc::new(dictionary), nothing]),
            "a,\"b, c\",\"\"\n\"\",\"\",\n,,\nx,x,\n\"a \"\"b\"\"\",\"a \"\"b\"\"\",\n\"1,2\",\"1,2\",\n\
             \"1\n2\",\"1\n2\",\n"
        );
    }
}
