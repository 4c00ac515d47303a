//! Stores of every kind that zarr-python, tensorstore, xarray and numcodecs write, with the values that
//! those read: all must be equal, bit for bit where nothing is computed.
//!
//! `tests/fixtures/matrix.py` makes the stores, which lie in one zip file and are read there.

use std::path::{Path, PathBuf};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        DataType, Date32Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type, IntervalYearMonthType, TimeUnit, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
};
use lsio_core::{Dataset, Location, OpenOptions};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A type as the fixtures name it.
fn name(data_type: &DataType) -> String {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    match data_type {
        DataType::Timestamp(u, None) => format!("Timestamp({})", unit(u)),
        DataType::Duration(u) => format!("Duration({})", unit(u)),
        DataType::FixedSizeBinary(n) => format!("FixedSizeBinary({n})"),
        DataType::FixedSizeList(item, n) => {
            format!("FixedSizeList({}, {n})", name(item.data_type()))
        }
        DataType::List(item) => format!("List({})", name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{}: {}", f.name(), name(f.data_type()))).collect();
            format!("Struct({})", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// Values as the fixtures write them: floats as their bits.
fn values(array: &ArrayRef) -> Vec<Value> {
    macro_rules! numbers {
        ($t:ty) => {
            array.as_primitive::<$t>().iter().map(|v| json!(v)).collect()
        };
    }
    macro_rules! bits {
        ($t:ty, $width:expr) => {
            array
                .as_primitive::<$t>()
                .iter()
                .map(|v| v.map(|v| format!("0x{:0w$x}", v.to_bits(), w = $width)).into())
                .collect()
        };
    }
    let hex = |bytes: &[u8]| {
        format!("hex:{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
    };
    match array.data_type() {
        DataType::Boolean => array.as_boolean().iter().map(|v| json!(v)).collect(),
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        DataType::UInt32 => numbers!(UInt32Type),
        DataType::UInt64 => numbers!(UInt64Type),
        DataType::Date32 => numbers!(Date32Type),
        DataType::Float16 => bits!(Float16Type, 4),
        DataType::Float32 => bits!(Float32Type, 8),
        DataType::Float64 => bits!(Float64Type, 16),
        DataType::Interval(_) => numbers!(IntervalYearMonthType),
        DataType::Timestamp(..) | DataType::Duration(_) => {
            values(&arrow::compute::cast(array, &DataType::Int64).unwrap())
        }
        DataType::Utf8View => array.as_string_view().iter().map(|v| json!(v)).collect(),
        DataType::BinaryView => array.as_binary_view().iter().map(|v| json!(v.map(hex))).collect(),
        DataType::FixedSizeBinary(_) => {
            array.as_fixed_size_binary().iter().map(|v| json!(v.map(hex))).collect()
        }
        DataType::List(_) => {
            array.as_list::<i32>().iter().map(|v| json!(v.map(|v| values(&v)))).collect()
        }
        DataType::FixedSizeList(..) => {
            array.as_fixed_size_list().iter().map(|v| json!(v.map(|v| values(&v)))).collect()
        }
        DataType::Struct(fields) => {
            let columns: Vec<Vec<Value>> = array.as_struct().columns().iter().map(values).collect();
            (0..array.len())
                .map(|row| {
                    let cells = fields.iter().zip(&columns);
                    cells.map(|(f, column)| (f.name().clone(), column[row].clone())).collect()
                })
                .collect()
        }
        other => panic!("the type {other} has no form here"),
    }
}

/// Whether floats, given by their bits, are neighbours.
fn near(a: &Value, b: &Value, ulp: u64) -> bool {
    let bits = |v: &Value| {
        let bits = u64::from_str_radix(v.as_str()?.strip_prefix("0x")?, 16).ok()?;
        // Ordered as the numbers are.
        Some(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 })
    };
    a == b || bits(a).zip(bits(b)).is_some_and(|(a, b)| a.abs_diff(b) <= ulp)
}

async fn check(root: &str, case: &Value) -> Result<(), String> {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    let array = text("array");
    let (group, variable) = match array.rsplit_once('/') {
        Some((group, variable)) => (format!("/{group}"), variable),
        None => (String::new(), array),
    };
    let location = Location::parse(&format!("{root}/{}{group}", text("store")));
    let location = location.map_err(|e| e.to_string())?;
    let dataset =
        Dataset::open(&location, &OpenOptions::default()).await.map_err(|e| e.to_string())?;
    let variable = if variable.is_empty() { "value" } else { variable };
    let found = dataset.variables().iter().find(|(v, _)| v.name() == variable);
    let (variable, _) = found.ok_or("it isn't listed")?;
    if json!(variable.dims()) != case["dims"] {
        return Err(format!("dims {:?} instead of {}", variable.dims(), case["dims"]));
    }
    if json!(variable.shape()) != case["shape"] {
        return Err(format!("shape {:?} instead of {}", variable.shape(), case["shape"]));
    }
    let read = variable.read_all().await.map_err(|e| e.to_string())?;
    if name(read.data_type()) != text("type") || read.data_type() != variable.data_type() {
        return Err(format!("type {} instead of {}", name(read.data_type()), text("type")));
    }
    let (given, mut expected) = (values(&read), case["values"].as_array().unwrap().clone());
    if read.data_type() == &DataType::Boolean {
        // Other values that aren't numbers are never masked by Zarr's fill value.
        for masked in case["xarray_masks"].as_array().into_iter().flatten() {
            expected[usize::try_from(masked.as_u64().unwrap()).unwrap()] = Value::Null;
        }
    }
    let ulp = case["ulp"].as_u64().unwrap_or(0);
    let same = |(a, b): (&Value, &Value)| near(a, b, ulp);
    if given.len() == expected.len() && given.iter().zip(&expected).all(same) {
        return Ok(());
    }
    let head = |values: &[Value]| json!(values[..values.len().min(24)]).to_string();
    Err(format!("values {}\n    instead of {}", head(&given), head(&expected)))
}

#[tokio::test]
async fn stores_of_every_kind_are_read_as_other_tools_read_them() {
    let expected = std::fs::read_to_string(fixtures().join("matrix.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&expected).unwrap();
    let root =
        std::env::var("LSIO_MATRIX").map_or_else(|_| fixtures().join("matrix.zip"), PathBuf::from);
    let root = format!("{}/stores", root.display());
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for case in &cases {
        if let Err(reason) = check(&root, case).await {
            // With the feature `zfp`, two of them are left.
            let is_limit =
                ["needs the cargo feature", "isn't supported", "failed to create zfp stream"];
            if case["case"]["codec"] == "zfpy"
                && is_limit.iter().any(|limit| reason.contains(limit))
            {
                refused += 1;
                continue;
            }
            wrong.push(format!(
                "{}/{} {}\n    {reason}",
                case["store"], case["array"], case["case"]
            ));
        }
    }
    assert!(cases.len() > 500);
    assert!(
        wrong.is_empty(),
        "{} of {} ({refused} refused)\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
