//! Functions on times of any type, in any calendar and zone.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, TimeUnit},
};
use datafusion::{
    common::{Result, exec_datafusion_err, exec_err, plan_err},
    logical_expr::{
        ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature, Volatility, expr::ScalarFunction,
    },
    scalar::ScalarValue,
};
use lsio_core::dataset::calendar::Calendar;

use super::{
    civil::CivilTime,
    columns::{self, GREGORIAN, is_text, is_time, unit_nanos},
    format::TimeFormat,
    make::made,
    part::TimePart,
    rows::{count_durations, map, negated, pairs, parts, shifted, texts, unaware},
    steps::{CalendarBins, Unit, last_day, shift},
    words::Word,
};
use crate::schema::{CALENDAR, text_calendar};

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Function on times.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CivilFunction {
    name: &'static str,
    aliases: Vec<String>,
    word: Word,
    /// Calendar of text times, where their fields have none.
    calendar: Option<Calendar>,
    signature: Signature,
}

impl CivilFunction {
    pub(super) fn new(name: &'static str, aliases: &[&str], word: Word) -> Self {
        let aliases = aliases.iter().map(ToString::to_string).collect();
        let signature = Signature::variadic_any(Volatility::Immutable);
        Self { name, aliases, word, calendar: None, signature }
    }

    /// Calls the function with text in a calendar.
    pub(crate) fn call(
        name: &'static str,
        word: Word,
        calendar: Option<Calendar>,
        args: Vec<Expr>,
    ) -> Expr {
        let function = ScalarUDF::new_from_impl(Self { calendar, ..Self::new(name, &[], word) });
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))
    }

    /// Binds the function to a calendar of text times.
    pub(crate) fn bound(&self, calendar: Calendar) -> ScalarUDF {
        ScalarUDF::new_from_impl(Self {
            calendar: Some(calendar),
            aliases: self.aliases.clone(),
            signature: self.signature.clone(),
            ..*self
        })
    }

    /// Operation of the function.
    pub(crate) fn word(&self) -> Word {
        self.word
    }

    /// Whether it is bound to a calendar.
    pub(crate) fn is_bound(&self) -> bool {
        self.calendar.is_some()
    }

    /// Positions of the times among `count` arguments.
    pub(crate) fn times(&self, count: usize) -> &'static [usize] {
        self.word.times(count)
    }

    /// Calendar to compute in: that of the text times, else SQL's.
    fn calendar_of(&self, fields: &[FieldRef]) -> Calendar {
        let mut texts = self
            .word
            .times(fields.len())
            .iter()
            .filter_map(|at| fields.get(*at))
            .filter(|field| is_text(field.data_type()))
            .peekable();
        if texts.peek().is_none() {
            return GREGORIAN;
        }
        let stated = || texts.find_map(|field| Calendar::from_name(text_calendar(field)?));
        self.calendar.or_else(stated).unwrap_or(GREGORIAN)
    }

    /// # Errors
    /// If the arguments aren't what the function takes.
    fn check(&self, fields: &[FieldRef]) -> Result<()> {
        let (least, most) = self.word.arity().into_inner();
        let count = fields.len();
        let is_whole = self.word != Word::MakeTimestamp || count == 1 || count == 6;
        if count < least || count > most || !is_whole {
            let wanted = match (least, most) {
                (1, 6) => "1 or 6 arguments".to_owned(),
                (1, 1) => "1 argument".to_owned(),
                (least, most) if least == most => format!("{least} arguments"),
                (least, most) => format!("{least} to {most} arguments"),
            };
            return plan_err!("{} takes {wanted}, and not {count}", self.name);
        }
        for field in self.word.times(count).iter().filter_map(|at| fields.get(*at)) {
            let is_duration = matches!(field.data_type(), DataType::Duration(_));
            let takes = is_time(field.data_type()) || (is_duration && self.counts_durations());
            if !takes {
                return plan_err!(
                    "{} takes a time, and '{}' is of type {}",
                    self.name,
                    field.name(),
                    field.data_type()
                );
            }
        }
        Ok(())
    }

    fn counts_durations(&self) -> bool {
        match self.word {
            Word::Part(part) => part == TimePart::Epoch || part.duration_nanos().is_some(),
            _ => false,
        }
    }

    /// Type of the result. `constants` are the arguments that are constant.
    fn result(&self, fields: &[FieldRef], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
        let times = self.word.times(fields.len());
        let time = times.first().and_then(|at| fields.get(*at)).map(|field| field.data_type());
        let time = time.cloned().unwrap_or(MICROS);
        let interval = |at: usize| {
            let interval = constants.get(at).copied().flatten().and_then(|v| v.to_array().ok())?;
            columns::read_intervals(&interval).ok()?.first().copied().flatten()
        };
        Ok(match self.word {
            Word::Part(TimePart::Epoch) => DataType::Float64,
            Word::Part(_) | Word::Boundaries => DataType::Int64,
            Word::Complete if fields.len() == 3 => DataType::Int64,
            Word::DatePart => match TimePart::from_name(&self.text_of(constants.first())?)? {
                TimePart::Epoch => DataType::Float64,
                TimePart::Nanosecond => DataType::Int64,
                _ => DataType::Int32,
            },
            Word::Truncate | Word::Bin => written(&time),
            Word::Bucket if is_date(&time) => {
                match interval(0) {
                    // Bins of whole days start at dates.
                    Some(width) if width.nanoseconds == 0 => DataType::Date32,
                    _ => MICROS,
                }
            }
            Word::Bucket => written(&time),
            Word::Add | Word::Subtract | Word::Complete => match &time {
                DataType::Timestamp(unit, zone) => {
                    let step = match (interval(1), fields.get(1).map(|f| f.data_type())) {
                        (Some(interval), _) => interval.nanoseconds,
                        (None, Some(DataType::Duration(unit))) => unit_nanos(*unit),
                        (None, _) => 0,
                    };
                    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond];
                    let fits = |finer: &TimeUnit| {
                        unit_nanos(*finer) <= unit_nanos(*unit) && step % unit_nanos(*finer) == 0
                    };
                    let finer = units.into_iter().find(fits).unwrap_or(TimeUnit::Nanosecond);
                    DataType::Timestamp(finer, zone.clone())
                }
                time if is_date(time) => MICROS,
                time => written(time),
            },
            Word::Difference => DataType::Duration(TimeUnit::Microsecond),
            Word::LastDay if is_text(&time) && self.calendar_of(fields) != GREGORIAN => {
                DataType::Utf8View
            }
            Word::LastDay | Word::Date => DataType::Date32,
            Word::MakeTimestamp | Word::Strptime => MICROS,
            Word::Name(_) | Word::Strftime | Word::ToChar | Word::Text => DataType::Utf8View,
        })
    }

    fn text_of(&self, constant: Option<&Option<&ScalarValue>>) -> Result<String> {
        let text = constant.copied().flatten().and_then(|value| value.try_as_str().flatten());
        match text {
            Some(text) => Ok(text.to_owned()),
            None => plan_err!("the unit of {} must be a constant text", self.name),
        }
    }

    /// Computes the function. `args` are the arguments, `columns` the same as arrays.
    fn apply(
        &self,
        args: &[ColumnarValue],
        columns: &[ArrayRef],
        calendar: Calendar,
        to: &DataType,
    ) -> Result<ArrayRef> {
        let column = |at: usize| {
            columns.get(at).ok_or_else(|| exec_datafusion_err!("{} lacks arguments", self.name))
        };
        let times = self.word.times(columns.len());
        let read = |which: usize| {
            let at = times.get(which).copied().unwrap_or(0);
            columns::read(column(at)?, calendar)
        };
        match self.word {
            Word::Part(part) => {
                if let DataType::Duration(unit) = column(0)?.data_type() {
                    return count_durations(column(0)?, *unit, part);
                }
                parts(part, &read(0)?, calendar, to)
            }
            Word::DatePart => {
                let part = TimePart::from_name(&constant_text(args, 0, self.name)?)?;
                parts(part, &read(0)?, calendar, to)
            }
            Word::Truncate => {
                let unit = Unit::from_name(&constant_text(args, 0, self.name)?)?;
                map(&read(0)?, to, calendar, |time| {
                    let cut = unit.truncate(time, calendar)?;
                    Some(if matches!(unit, Unit::Nanos(_)) { cut } else { unaware(cut) })
                })
            }
            Word::Bin | Word::Bucket => self.bins(args, columns, &read(0)?, calendar, to),
            Word::Add | Word::Subtract => {
                shifted(&read(0)?, column(1)?, self.word == Word::Add, calendar, to)
            }
            Word::Complete if columns.len() == 2 => {
                shifted(&read(0)?, column(1)?, false, calendar, to)
            }
            Word::Difference => {
                let micros = pairs(&read(0)?, &read(1)?, calendar, |later, earlier| {
                    let nanos = later.nanos(calendar)? - earlier.nanos(calendar)?;
                    i64::try_from(nanos.div_euclid(1_000)).ok()
                })?;
                columns::durations(micros)
            }
            Word::Boundaries | Word::Complete => {
                let unit = Unit::from_name(&constant_text(args, 0, self.name)?)?;
                let counts = pairs(&read(0)?, &read(1)?, calendar, |from, to| match self.word {
                    Word::Boundaries => unit.boundaries(from, to, calendar),
                    _ => unit.complete(from, to, calendar),
                })?;
                Ok(Arc::new(Int64Array::from(counts)))
            }
            Word::LastDay => map(&read(0)?, to, calendar, |time| {
                let date = last_day(time.date, calendar);
                Some(CivilTime { date, nanos: 0, offset: 0 })
            }),
            Word::Text | Word::Date => columns::write(&read(0)?, to, calendar),
            Word::Name(name) => texts(&read(0)?, |time, out| {
                out.push_str(name.name().of(time, calendar)?);
                Ok(())
            }),
            Word::Strftime | Word::ToChar => {
                let form = constant_text(args, 1, self.name)?;
                let form = match self.word {
                    Word::Strftime => TimeFormat::strftime(&form)?,
                    _ => TimeFormat::postgres(&form)?,
                };
                texts(&read(0)?, |time, out| form.write(time, calendar, out))
            }
            Word::Strptime => {
                let form = constant_text(args, 1, self.name)?;
                let format = TimeFormat::strftime(&form)?;
                let texts = cast(column(0)?, &DataType::Utf8View)?;
                let parse = |text: &str| {
                    let time = format.parse(text);
                    time.ok_or_else(|| exec_datafusion_err!("'{text}' isn't of the form '{form}'"))
                };
                let times = texts.as_string_view().iter();
                let times = times.map(|text| text.map(parse).transpose());
                columns::write(&times.collect::<Result<Vec<_>>>()?, to, GREGORIAN)
            }
            Word::MakeTimestamp => made(columns, to),
        }
    }

    fn bins(
        &self,
        args: &[ColumnarValue],
        columns: &[ArrayRef],
        times: &[Option<CivilTime>],
        calendar: Calendar,
        to: &DataType,
    ) -> Result<ArrayRef> {
        let constant = |at: usize| match args.get(at) {
            Some(ColumnarValue::Array(_)) => {
                exec_err!("the arguments of {} other than the time must be constants", self.name)
            }
            _ => Ok(columns.get(at)),
        };
        let width = match constant(0)? {
            Some(width) => columns::read_intervals(width)?.first().copied().flatten(),
            None => None,
        };
        let Some(width) = width else {
            return exec_err!("the width of {} must be a constant interval", self.name);
        };
        let third = constant(2)?;
        let is_offset = third.is_some_and(|third| {
            matches!(third.data_type(), DataType::Interval(_) | DataType::Duration(_))
        });
        let (mut origin, mut offset) = match self.word {
            Word::Bin => (CivilTime::midnight(1970, 1, 1), None),
            _ if width.months != 0 => (CivilTime::midnight(2000, 1, 1), None),
            _ => (CivilTime::midnight(2000, 1, 3), None),
        };
        match third {
            Some(third) if is_offset => {
                offset = columns::read_intervals(third)?.first().copied().flatten();
            }
            Some(third) => match columns::read(third, calendar)?.first().copied().flatten() {
                Some(time) => origin = time,
                None => return exec_err!("the origin of {} must not be NULL", self.name),
            },
            None => {}
        }
        let bins = CalendarBins::new(width, origin, calendar)?;
        let hours = width.months == 0 && width.days == 0;
        map(times, to, calendar, |time| {
            let start = match offset {
                None => bins.start(time)?,
                Some(offset) => {
                    let back = shift(time, negated(offset)?, calendar)?;
                    shift(&bins.start(&back)?, offset, calendar)?
                }
            };
            Some(if hours { start } else { unaware(start) })
        })
    }
}

impl ScalarUDFImpl for CivilFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let field = |data_type: &DataType| Arc::new(Field::new("", data_type.clone(), true));
        let fields: Vec<FieldRef> = arg_types.iter().map(field).collect();
        self.result(&fields, &vec![None; fields.len()])
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.check(args.arg_fields)?;
        let to = self.result(args.arg_fields, args.scalar_arguments)?;
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let is_time = !matches!(self.word, Word::Name(_) | Word::Strftime | Word::ToChar);
        let calendar = self.calendar_of(args.arg_fields);
        let is_calendar_text = is_text(&to) && is_time;
        let mut field = Field::new(self.name, to, nullable);
        if is_calendar_text {
            let calendar = calendar.name().to_owned();
            field = field.with_metadata(HashMap::from([(CALENDAR.to_owned(), calendar)]));
        }
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_array = args.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_)));
        let rows = if is_array { args.number_rows } else { 1 };
        let columns: Vec<ArrayRef> = args
            .args
            .iter()
            .enumerate()
            .map(|(at, arg)| match arg {
                ColumnarValue::Array(array) => Ok(Arc::clone(array)),
                // A scalar is read once, unless it is paired with rows.
                ColumnarValue::Scalar(value) => {
                    let paired = self.word.times(args.args.len()).contains(&at)
                        || matches!(
                            self.word,
                            Word::Add | Word::Subtract | Word::Complete | Word::MakeTimestamp
                        );
                    value.to_array_of_size(if paired { rows } else { 1 })
                }
            })
            .collect::<Result<_>>()?;
        let calendar = self.calendar_of(&args.arg_fields);
        let result = self.apply(&args.args, &columns, calendar, args.return_field.data_type())?;
        if is_array {
            return Ok(ColumnarValue::Array(result));
        }
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
    }
}

/// Type of times computed from times of a type.
fn written(time: &DataType) -> DataType {
    match time {
        DataType::Null => MICROS,
        DataType::Date64 => DataType::Date32,
        time if is_text(time) => DataType::Utf8View,
        time => time.clone(),
    }
}

fn is_date(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64)
}

fn constant_text(args: &[ColumnarValue], at: usize, name: &str) -> Result<String> {
    let text = match args.get(at) {
        Some(ColumnarValue::Scalar(value)) => value.try_as_str().flatten(),
        _ => None,
    };
    match text {
        Some(text) => Ok(text.to_owned()),
        None => exec_err!("argument {} of {name} must be a constant text", at + 1),
    }
}
