//! Durations in JSON as in tables and CSV; arrow writes six hours as `PT21600S`.

use std::sync::Arc;

use arrow::{
    array::Array,
    datatypes::{DataType, FieldRef},
    error::ArrowError,
    json::{Encoder, EncoderFactory, EncoderOptions, writer::NullableEncoder},
    util::display::ArrayFormatter,
};
use lsio_datafusion::text::formatter;

/// Encoders of durations as text in JSON.
pub(crate) fn encoders() -> Arc<dyn EncoderFactory> {
    Arc::new(DurationEncoders)
}

#[derive(Debug)]
struct DurationEncoders;

impl EncoderFactory for DurationEncoders {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !matches!(array.data_type(), DataType::Duration(_)) {
            return Ok(None);
        }
        let cells = DurationEncoder(formatter(array)?);
        Ok(Some(NullableEncoder::new(Box::new(cells), array.nulls().cloned())))
    }
}

/// Column of durations.
struct DurationEncoder<'a>(ArrayFormatter<'a>);

impl Encoder for DurationEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("\"{}\"", self.0.value(row)).as_bytes());
    }
}
