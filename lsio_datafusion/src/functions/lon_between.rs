//! `lon_between(longitude, west, east)`.

use std::sync::Arc;

use arrow::{
    array::{Array as _, AsArray as _, BooleanArray},
    datatypes::{DataType, Float32Type, Float64Type},
};
use datafusion::{
    common::{Result, exec_err, plan_err, utils::take_function_args},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};

/// Degrees of a circle of latitude.
const CIRCLE: f64 = 360.0;

/// Scalar function `lon_between(longitude, west, east)`: whether a longitude lies between `west` and `east`,
/// both included, going eastwards from `west`, also over the date line or Greenwich. Longitudes may be
/// counted from 0 to 360 or from -180 to 180, and the bounds in the other way.
///
/// Bounds are rounded to float32 for float32 longitudes, as literals beside them are.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LonBetween {
    signature: Signature,
}

impl Default for LonBetween {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for LonBetween {
    fn name(&self) -> &'static str {
        "lon_between"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [longitude, ..] = take_function_args::<3, _>(self.name(), types)?;
        if let Some(other) = types.iter().find(|found| !found.is_numeric() && !found.is_null()) {
            return plan_err!("lon_between(longitude, west, east) takes degrees, not {other}");
        }
        let longitude = match longitude {
            DataType::Float16 | DataType::Float32 => DataType::Float32,
            _ => DataType::Float64,
        };
        Ok(vec![longitude, DataType::Float64, DataType::Float64])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [longitude, west, east] = take_function_args(self.name(), &args.args)?;
        let is_scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let longitude = longitude.to_array(rows)?;
        let (west, east) = (west.to_array(rows)?, east.to_array(rows)?);
        let (west, east) = (west.as_primitive::<Float64Type>(), east.as_primitive::<Float64Type>());
        let bounds = west.iter().zip(east.iter());
        let within: BooleanArray = match longitude.data_type() {
            DataType::Float32 => longitude
                .as_primitive::<Float32Type>()
                .iter()
                .zip(bounds)
                .map(|(longitude, (west, east))| {
                    let rounded = |degrees: f64| f64::from(degrees as f32);
                    Some(is_within(f64::from(longitude?), west?, east?, rounded))
                })
                .collect(),
            DataType::Float64 => longitude
                .as_primitive::<Float64Type>()
                .iter()
                .zip(bounds)
                .map(|(longitude, (west, east))| Some(is_within(longitude?, west?, east?, |d| d)))
                .collect(),
            other => return exec_err!("lon_between takes longitudes in degrees, not {other}"),
        };
        Ok(if is_scalar {
            let within = (!within.is_null(0)).then(|| within.value(0));
            ColumnarValue::Scalar(ScalarValue::Boolean(within))
        } else {
            ColumnarValue::Array(Arc::new(within))
        })
    }
}

/// Whether a longitude lies between the bounds, after these are moved to its turn of the circle and rounded
/// to its type.
fn is_within(longitude: f64, west: f64, east: f64, rounded: impl Fn(f64) -> f64) -> bool {
    if !(longitude.is_finite() && west.is_finite() && east.is_finite()) {
        return false;
    }
    if east - west >= CIRCLE {
        return true;
    }
    // The first meridian of that longitude east of the western bound.
    let turns = ((west - east) / CIRCLE).ceil();
    let east = if turns == 0.0 { east } else { east + turns * CIRCLE };
    let turn = ((longitude - west) / CIRCLE).floor();
    [turn - 1.0, turn, turn + 1.0].into_iter().any(|turn| {
        let moved = |bound: f64| rounded(if turn == 0.0 { bound } else { bound + turn * CIRCLE });
        moved(west) <= longitude && longitude <= moved(east)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(longitude: f64, west: f64, east: f64) -> bool {
        is_within(longitude, west, east, |degrees| degrees)
    }

    #[test]
    fn bounds_are_met_in_either_convention() {
        assert!(
            within(359.0, 350.0, 10.0) && within(-1.0, 350.0, 10.0) && within(5.0, 350.0, 10.0)
        );
        assert!(
            within(350.0, -10.0, 10.0) && within(10.0, -10.0, 10.0) && within(0.0, -10.0, 10.0)
        );
        assert!(within(180.0, 170.0, -170.0) && within(-175.0, 170.0, -170.0));
        assert!(within(190.0, 170.0, -170.0) && within(190.0, 170.0, 190.0));
        assert!(
            !within(11.0, 350.0, 10.0)
                && !within(349.0, -10.0, 10.0)
                && !within(-169.0, 170.0, -170.0)
        );
    }

    #[test]
    fn a_whole_circle_holds_all_and_one_meridian_itself() {
        assert!(within(77.0, 0.0, 360.0) && within(300.0, -180.0, 180.0));
        assert!(within(370.0, 10.0, 10.0) && !within(11.0, 10.0, 10.0));
        assert!(!within(f64::NAN, 0.0, 360.0) && !within(1.0, f64::INFINITY, 0.0));
    }

    #[test]
    fn float32_longitudes_meet_rounded_bounds() {
        let rounded = |degrees: f64| f64::from(degrees as f32);
        assert!(is_within(f64::from(359.9_f32), -0.1, 0.1, rounded));
        assert!(is_within(f64::from(0.1_f32), -0.1, 0.1, rounded));
        assert!(is_within(f64::from(-0.1_f32), 359.9, 0.1, rounded));
    }
}
