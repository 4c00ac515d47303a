//! Zarr stores as tables of Apache DataFusion.
//!
//! A Zarr group is a table with one row for each cell of its grid. One call,
//! [`with_zarr`](ZarrSessionBuilder::with_zarr), adds Zarr to a session; then there are three doors:
//!
//! - SQL: `SELECT avg(t2m) FROM 'store.zarr'`, `CREATE EXTERNAL TABLE … STORED AS ZARR`,
//! - DataFrames: [`ctx.read_zarr(…)`](ZarrSession::read_zarr),
//! - your own session's catalog: [`ctx.register_zarr(…)`](ZarrSession::register_zarr), or a
//!   [`ZarrTable`] wherever a `TableProvider` is wanted.
//!
//! `examples/` has a program for each.
//!
//! # What a query reads
//!
//! ```text
//! SQL / DataFrame
//!   │ ZarrTable      TableProvider: the columns, and the coordinates that the query names
//!   ▼
//! ZarrSource         DataSource in DataFusion's DataSourceExec: the columns' chunks, shared out
//!   │ lsio_core      fetch, decode, broadcast
//!   ▼
//! record batches
//! ```
//!
//! Counts, and minima and maxima of coordinates, come from exact statistics and read no chunk of data.
//! `EXPLAIN` shows what a scan reads:
//!
//! ```text
//! DataSourceExec: zarr='store.zarr', columns=[latitude, t2m], grid=[time=744, latitude=33, longitude=49], chunks=16
//! ```
//!
//! # What expressions mean
//!
//! In a session that knows Zarr, a query that reads a Zarr table
//!
//! - computes with integers of 64 bits: `b8 - b4` of uint16 bands can be negative, and
//!   `b8 / b4` is a double ([`WideIntegers`]),
//! - replaces computed NaN by NULL: `ln(-1)`, `0.0 / 0.0`, a mean of infinities of both signs
//!   ([`MissingValues`]),
//! - compares float32 columns with literals as numpy does: `latitude = 50.1` finds the row that
//!   `sel(latitude=50.1)` finds; and durations with intervals by their lengths
//!   ([`ComparedLiterals`]),
//! - rounds Float64 values of other tables that are compared with float32 columns, so that a station at 50.1
//!   matches the latitude 50.1 ([`FloatLabels`]),
//! - treats 0.0 and -0.0 as equal, also in joins, lists and windows ([`BothZeros`], [`FloatKeys`]),
//! - joins `LATERAL (… ORDER BY … LIMIT k)`, for the nearest or latest row ([`LimitedLaterals`]),
//! - computes `date_part`, `EXTRACT` and `date_trunc` of text times, in calendars that SQL doesn't have
//!   ([`CalendarFunctions`]),
//! - compares, truncates and bins times of any year: DataFusion's nanoseconds end in 2262 ([`DistantTimes`]),
//! - aggregates without losing digits, in groups and sliding windows ([`ExactAggregates`]),
//! - names the flags of CF variables: `flag_meaning(quality)` ([`FlagMeaning`]),
//! - notes at the scan where an aggregate counts values several times ([`RepeatedValueNotes`]).

mod aggregate;
mod analyze;
mod comparison;
mod config;
mod coordinates;
mod description;
mod error;
mod expression;
mod field_expr;
mod flags;
pub mod functions;
mod join;
pub mod meaning;
mod nan_as_null;
mod notes;
mod predicate;
mod prepared;
mod progress;
mod refusal;
mod register;
mod repeated_names;
mod scan;
mod scan_rows;
pub mod schema;
mod session_builder;
mod snapshot;
mod sql;
mod statistics;
mod table;
pub mod text;
mod walk;
mod window;
mod write;

pub use lsio_core;

pub use crate::{
    aggregate::{AggregatePushdown, ZarrAggregateExec},
    analyze::{
        CalendarFunctions, CastArguments, ComparedLiterals, CopiedTimes, DistantTimes,
        ExactAggregates, FloatLabels, LimitedLaterals, MissingValues, OrderedDurations,
        PartialTimes, WideIntegers,
    },
    comparison::{BothZeros, FloatKeys},
    config::{IoEngine, LsioConfig, PageCacheUse, SessionResources},
    description::{ErrorDescription, QueryErrorKind, describe},
    flags::FlagMeaning,
    join::JoinPushdown,
    notes::{RepeatedValueNotes, notes, result_notes},
    prepared::ZarrPrepareExec,
    progress::{ProgressWatch, QueryProgress},
    register::{ZarrSession, ZarrSessionBuilder, clarify, open_dataset},
    scan::{DatasetRef, ScanSpec, ZarrSource},
    session_builder::SessionBuilder,
    sql::plan_sql,
    table::ZarrTable,
};

/// Traits and types that a program needs in scope.
pub mod prelude {
    pub use lsio_core::OpenOptions;

    pub use crate::{ZarrSession, ZarrSessionBuilder};
}
