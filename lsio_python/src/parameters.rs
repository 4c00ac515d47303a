//! Python values as parameters of statements.

use datafusion::common::ScalarValue;
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBool, PyDate, PyDateTime, PyDelta, PyFloat, PyInt, PyString},
};

/// A Python value as a scalar.
///
/// # Errors
/// `TypeError` for values of other types.
pub(crate) fn scalar(value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    if value.is_none() {
        return Ok(ScalarValue::Null);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(ScalarValue::Boolean(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyInt>() {
        return match value.extract::<i64>() {
            Ok(number) => Ok(ScalarValue::Int64(Some(number))),
            Err(_) => Ok(ScalarValue::UInt64(Some(value.extract()?))),
        };
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(ScalarValue::Float64(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyString>() {
        return Ok(ScalarValue::Utf8(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyDelta>() {
        let micros = value.call_method1("__floordiv__", (micro(value.py())?,))?.extract()?;
        return Ok(ScalarValue::DurationMicrosecond(Some(micros)));
    }
    if value.is_instance_of::<PyDateTime>() || value.is_instance_of::<PyDate>() {
        // Days and clock as they are written; a time with a zone is told in UTC.
        let datetime = value.py().import("datetime")?;
        let utc = datetime.getattr("timezone")?.getattr("utc")?;
        let moment = if !value.is_instance_of::<PyDateTime>() {
            let midnight = datetime.getattr("time")?.getattr("min")?;
            datetime.getattr("datetime")?.call_method1("combine", (value, midnight))?
        } else if value.getattr("tzinfo")?.is_none() {
            value.clone()
        } else {
            let zone = [("tzinfo", value.py().None())];
            let moment = value.call_method1("astimezone", (&utc,))?;
            moment.call_method(
                "replace",
                (),
                Some(&pyo3::types::IntoPyDict::into_py_dict(zone, value.py())?),
            )?
        };
        let epoch = datetime.getattr("datetime")?.call1((1970, 1, 1))?;
        let since = moment.call_method1("__sub__", (epoch,))?;
        let micros = since.call_method1("__floordiv__", (micro(value.py())?,))?.extract()?;
        return Ok(ScalarValue::TimestampMicrosecond(Some(micros), None));
    }
    // numpy's datetime64, and the scalars of numpy and pandas.
    if let Ok(moment) = value.call_method1("astype", ("datetime64[us]",))
        && value
            .getattr("dtype")
            .and_then(|dtype| dtype.getattr("kind"))
            .is_ok_and(|kind| kind.eq("M").unwrap_or(false))
    {
        let micros = moment.call_method1("astype", ("int64",))?.call_method0("item")?.extract()?;
        return Ok(ScalarValue::TimestampMicrosecond(Some(micros), None));
    }
    if let Ok(item) = value.call_method0("item")
        && !item.get_type().is(value.get_type())
    {
        return scalar(&item);
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "a parameter can't be a {kind}: give a number, a text, a bool, a time or None"
    )))
}

/// A microsecond.
fn micro(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("datetime")?.getattr("timedelta")?.call1((0, 0, 1))
}
