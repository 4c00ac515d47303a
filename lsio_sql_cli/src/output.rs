//! Results on standard output, in the requested format.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    time::Duration,
};

use arrow::json::{
    WriterBuilder as JsonWriterBuilder,
    writer::{JsonArray, JsonFormat, LineDelimited},
};
use clap::ValueEnum;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt as _;

use lsio_datafusion::text;

use crate::{Error, cell, table::TableWriter};

/// Standard output. If its reader has gone (`lsio … | head`), the program ends without an error.
pub(crate) struct Stdout;

impl io::Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        end_on_closed_pipe(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        end_on_closed_pipe(io::stdout().flush())
    }
}

fn end_on_closed_pipe<T>(result: io::Result<T>) -> io::Result<T> {
    if result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
    result
}

/// Writes a line to [`Stdout`], where `println!` would panic.
macro_rules! say {
    ($($argument:tt)*) => {
        std::io::Write::write_fmt(
            &mut $crate::output::Stdout,
            format_args!("{}\n", format_args!($($argument)*)),
        )?
    };
}
pub(crate) use say;

/// Format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table
    Automatic,
    /// A table of at most --maxrows rows
    Table,
    /// Comma-separated values with a header
    Csv,
    /// Tab-separated values with a header
    Tsv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    NdJson,
}

/// Upper bound on the rows that a table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaxRows {
    Limited(usize),
    Unlimited,
}

/// Settings for output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub format: OutputFormat,
    pub maxrows: MaxRows,
    pub quiet: bool,
    /// Whether a long query shows its progress, if standard error is a terminal.
    pub progress: bool,
}

/// Extent of a written result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub rows: usize,
    /// Whether rows were left out.
    pub cut: bool,
    /// Number of all rows, if known.
    pub total: Option<usize>,
}

impl Output {
    /// Whether a result's first rows may reach the terminal before its end.
    pub(crate) fn shows_rows_early(&self) -> bool {
        // A table is written at its end, and a file isn't the terminal. A pipe may lead to a pager.
        let is_table = matches!(self.format, OutputFormat::Table | OutputFormat::Automatic);
        let is_file = fs::metadata("/dev/stdout").is_ok_and(|stdout| stdout.is_file());
        !is_table && !is_file
    }

    /// Writes a result as it comes. Only tables are cut; `total` is the number of rows, if known in advance.
    pub(crate) async fn write(
        &self,
        mut stream: SendableRecordBatchStream,
        total: Option<usize>,
    ) -> Result<Written, Error> {
        let schema = stream.schema();
        let mut stdout = BufWriter::new(Stdout);
        match self.format {
            OutputFormat::Table | OutputFormat::Automatic => {
                drop(stdout);
                self.write_table(stream, total).await
            }
            OutputFormat::Csv | OutputFormat::Tsv => {
                let delimiter = if self.format == OutputFormat::Csv { b',' } else { b'\t' };
                text::csv::header(
                    &mut stdout,
                    schema.fields().iter().map(|field| field.name().as_str()),
                    delimiter,
                )?;
                let mut rows = 0;
                while let Some(batch) = stream.next().await {
                    let batch = batch?;
                    rows += batch.num_rows();
                    let mut lines = Vec::new();
                    text::csv::rows(&mut lines, &batch, delimiter)?;
                    stdout.write_all(&lines)?;
                    // Flushes, so that rows show as they come, and yields to Ctrl-C.
                    stdout.flush()?;
                    tokio::task::yield_now().await;
                }
                stdout.flush()?;
                Ok(Written { rows, cut: false, total: Some(rows) })
            }
            OutputFormat::Json => write_json::<JsonArray>(stdout, stream, "\n").await,
            OutputFormat::NdJson => write_json::<LineDelimited>(stdout, stream, "").await,
        }
    }

    async fn write_table(
        &self,
        mut stream: SendableRecordBatchStream,
        total: Option<usize>,
    ) -> Result<Written, Error> {
        let limit = match self.maxrows {
            MaxRows::Limited(rows) => rows,
            MaxRows::Unlimited => usize::MAX,
        };
        let mut table = TableWriter::new(stream.schema());
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let allowed = limit - rows;
            let shown = batch.slice(0, batch.num_rows().min(allowed));
            rows += shown.num_rows();
            table.add(shown).await?;
            if batch.num_rows() > allowed {
                // The rest isn't shown; it is counted as far as that takes no time.
                let left = batch.num_rows() - allowed;
                let total = match total {
                    Some(total) => Some(total),
                    None => count(&mut stream).await?.map(|more| rows + left + more),
                };
                drop(stream);
                table.finish().await?;
                return Ok(Written { rows, cut: true, total });
            }
        }
        drop(stream);
        table.finish().await?;
        Ok(Written { rows, cut: false, total: Some(rows) })
    }
}

/// Counts the remaining rows, if the end comes soon.
async fn count(stream: &mut SendableRecordBatchStream) -> Result<Option<usize>, Error> {
    /// Time worth waiting.
    const SOON: Duration = Duration::from_millis(50);

    let counted = async {
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch?.num_rows();
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(rows)
    };
    tokio::time::timeout(SOON, counted).await.ok().transpose()
}

async fn write_json<F: JsonFormat>(
    out: impl io::Write,
    mut stream: SendableRecordBatchStream,
    end: &str,
) -> Result<Written, Error> {
    // Writes NULL, so that every object has all keys.
    let mut writer = JsonWriterBuilder::new()
        .with_explicit_nulls(true)
        .with_encoder_factory(cell::encoders())
        .build::<_, F>(out);
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        writer.write(&batch)?;
        tokio::task::yield_now().await;
    }
    writer.finish()?;
    let mut out = writer.into_inner();
    write!(out, "{end}")?;
    out.flush()?;
    Ok(Written { rows, cut: false, total: Some(rows) })
}
