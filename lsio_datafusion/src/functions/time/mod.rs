//! Functions on times of any type: timestamps of every unit and zone, dates, and texts in calendars that
//! SQL doesn't know.

mod civil;
mod columns;
mod format;
mod function;
mod make;
mod parse;
mod part;
mod planner;
mod rows;
mod steps;
mod words;
mod zones;

pub(crate) use self::{
    civil::{CivilTime, Precision},
    columns::{is_text, is_time},
    function::CivilFunction,
    planner::TimePlanner,
    words::{Word, functions},
};
