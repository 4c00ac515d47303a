//! `make_timestamp`.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
};
use datafusion::common::{Result, exec_datafusion_err};

use super::{
    civil::CivilTime,
    columns::{self, GREGORIAN},
};

/// Timestamps from parts, or from microseconds since 1970.
pub(super) fn made(columns: &[ArrayRef], to: &DataType) -> Result<ArrayRef> {
    let [year, month, day, hour, minute, second] = columns else {
        let micros = columns.first().map(|micros| cast(micros, &DataType::Int64)).transpose()?;
        let micros =
            micros.ok_or_else(|| exec_datafusion_err!("make_timestamp lacks arguments"))?;
        return Ok(cast(&micros, to)?);
    };
    let integers = [year, month, day, hour, minute].map(|array| cast(array, &DataType::Int64));
    let seconds = cast(second, &DataType::Float64)?;
    let seconds = seconds.as_primitive::<Float64Type>();
    let mut parts = Vec::with_capacity(5);
    for integers in integers {
        parts.push(integers?.as_primitive::<Int64Type>().clone());
    }
    let make = |row: usize| -> Result<Option<CivilTime>> {
        if parts.iter().any(|part| part.is_null(row)) || seconds.is_null(row) {
            return Ok(None);
        }
        let values: Vec<i64> = parts.iter().map(|part| part.value(row)).collect();
        let second = seconds.value(row);
        let time = timestamp(&values, second).ok_or_else(|| {
            exec_datafusion_err!(
                "make_timestamp({}, {second}) is no time",
                values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )
        })?;
        Ok(Some(time))
    };
    let times = (0..seconds.len()).map(make).collect::<Result<Vec<_>>>()?;
    columns::write(&times, to, GREGORIAN)
}

#[expect(clippy::cast_possible_truncation, reason = "seconds are below 60")]
fn timestamp(values: &[i64], second: f64) -> Option<CivilTime> {
    let [year, month, day, hour, minute] = *values else { return None };
    let in_day = (0..24).contains(&hour) && (0..60).contains(&minute);
    if !in_day || !(0.0..60.0).contains(&second) {
        return None;
    }
    let midnight = CivilTime::midnight(year, u8::try_from(month).ok()?, u8::try_from(day).ok()?);
    midnight.day(GREGORIAN)?;
    let micros = (second * 1e6).round() as i64;
    Some(CivilTime { nanos: (hour * 60 + minute) * 60_000_000_000 + micros * 1_000, ..midnight })
}
