//! The plan of an aggregate over a Zarr scan.

mod arguments;
mod kernels;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    error::Result, physical_expr::PhysicalExpr, physical_expr_common::physical_expr::is_volatile,
    physical_plan::aggregates::AggregateExec,
};
use lsio_core::{
    Selection, Table,
    reduce::{Pencils, Wanted},
};

pub(super) use self::arguments::{
    Accumulated, Argument, ArgumentValues, Reduced, ResultSource, WEIGHTED,
};
use self::{arguments::with_argument, kernels::reduced};
use super::{
    cell_keys::CellKeys,
    keys::{CellGroups, GroupKeys},
    masks::{self, Weights},
    pencils::{PencilArgument, PencilStatistic, kept, small_groups, with_pencil},
};
use crate::{
    ZarrSource,
    expression::{Expression, Ranked, substituted, union},
    predicate::{ColumnPredicate, Predicate},
    refusal::Refusal,
    scan_rows::ScanRows,
};

/// Aggregate over a Zarr scan, in terms of the table's columns.
#[derive(Clone, Debug)]
pub(super) struct Aggregation {
    /// Scan of the arguments' columns.
    pub(super) source: ZarrSource,
    /// Keys that vary along coordinates.
    pub(super) keys: GroupKeys,
    /// Their positions among all keys.
    pub(super) key_positions: Vec<usize>,
    /// Keys that vary along data.
    pub(super) cell_keys: Option<CellKeys>,
    /// The groups, if planning knows them.
    pub(super) groups: Option<Arc<CellGroups>>,
    pub(super) arguments: Vec<Argument>,
    /// Arguments of which all values are kept.
    pub(super) pencils: Vec<PencilArgument>,
    pub(super) statistics: Vec<PencilStatistic>,
    /// Bytes up to which they are kept at a time; 0 is a part of the session's memory.
    pub(super) values_memory: usize,
    /// Functions computed by DataFusion's accumulators.
    pub(super) accumulated: Vec<Accumulated>,
    /// Results, in the order of the output.
    pub(super) functions: Vec<ResultSource>,
    /// Names of the functions.
    pub(super) names: Vec<String>,
    /// Conditions of FILTER clauses.
    pub(super) filters: Vec<Ranked>,
    /// Columns that may be decoded in pieces.
    pub(super) streamed: Vec<usize>,
    /// Predicates of the source that are evaluated here, piece by piece.
    pub(super) compared: Vec<ColumnPredicate>,
    /// Factor of each cell's count: indices of dimensions along which nothing varies.
    pub(super) weight: u64,
    /// Whether filters may drop rows of a tile.
    pub(super) masked: bool,
    pub(super) schema: SchemaRef,
    /// Whether the output is states, which an aggregate above merges.
    pub(super) states: bool,
    /// Positions of the output's columns in which NaN is NULL.
    pub(super) without_nan: Vec<usize>,
    /// Sums of weights that may cover other cells than the weighted values.
    pub(super) weights: Vec<Weights>,
}

impl Aggregation {
    /// Plans `aggregate` over `rows`. `schema` is that of the output: of states if `states` is set, of final
    /// values if not.
    pub(super) fn new(
        aggregate: &AggregateExec,
        rows: ScanRows,
        schema: SchemaRef,
        states: bool,
    ) -> Result<Self, Refusal> {
        let by = aggregate.group_expr();
        if by.has_grouping_set() {
            return Err(Refusal::unsupported("it has several grouping sets"));
        }
        let ScanRows { source, columns, filters } = rows;
        let (table, table_schema) = (Arc::clone(source.table()), Arc::clone(source.table_schema()));
        let over_table = |expr: &Arc<dyn PhysicalExpr>| -> Result<Ranked, Refusal> {
            let expr = substituted(expr, |column| columns.get(column.index()).cloned())?;
            match expr {
                Some(expr) if is_volatile(&expr) => Err(volatile(&expr)),
                Some(expr) => Ok(Ranked::new(expr, &table, &table_schema)?),
                None => Err(Refusal::unsupported("it names columns that its input lacks")),
            }
        };

        let (mut keys, mut key_positions, mut cell_keys) = (Vec::new(), Vec::new(), Vec::new());
        for (position, (expr, name)) in by.expr().iter().enumerate() {
            let key = over_table(expr)?;
            if varies_with_data(key.whole(), &table) {
                cell_keys.push((position, key, name.clone()));
            } else {
                keys.push((key.whole().clone(), name.clone()));
                key_positions.push(position);
            }
        }
        let cell_keys = if cell_keys.is_empty() { None } else { Some(CellKeys::new(cell_keys)?) };
        let mut conditions: Vec<Ranked> = Vec::new();
        let mut arguments: Vec<Argument> = Vec::new();
        let (mut pencils, mut statistics) = (Vec::new(), Vec::new());
        let mut accumulated = Vec::new();
        let mut functions = Vec::new();
        let mut small = None;
        let leaves_out_rows = !filters.is_empty() || source.leaves_out_rows();
        for (function, filter) in aggregate.aggr_expr().iter().zip(aggregate.filter_expr()) {
            let filter = match filter {
                None => None,
                Some(filter) => {
                    let filter = over_table(filter)?;
                    let same = |other: &Ranked| other.whole().expr().eq(filter.whole().expr());
                    let known = conditions.iter().position(same);
                    if known.is_none() {
                        conditions.push(filter);
                    }
                    Some(known.unwrap_or(conditions.len() - 1))
                }
            };
            // The order of WITHIN GROUP is an argument.
            let needs_order = function.order_sensitivity().hard_requires()
                && !function.fun().supports_within_group_clause();
            if needs_order && !function.order_bys().is_empty() {
                let reason = format!("{} wants its rows in order", function.name());
                return Err(Refusal::Unsupported(reason));
            }
            let mut exprs = function.expressions();
            exprs.extend(function.order_bys().iter().map(|order| Arc::clone(&order.expr)));
            let mut own = Vec::new();
            for expr in &exprs {
                own.push(over_table(expr)?);
            }
            let reduced = reduced(function, &own, &table, &table_schema)?;
            let reduced = reduced.and_then(|(values, result)| {
                let argument = with_argument(&mut arguments, values, filter)?;
                Some(ResultSource::Reduced { argument, result })
            });
            let mut are_small = || match small {
                Some(known) => Ok(known),
                None => small_groups(&keys, &source).inspect(|known| small = Some(*known)),
            };
            if let (None, false) = (&reduced, states)
                && let Some((argument, statistic)) = kept(function, &own, filter, &mut |compact| {
                    // Accumulators keep what filters leave, and compact ones less.
                    let keeps_less = compact || leaves_out_rows || filter.is_some();
                    Ok(!keeps_less || are_small()?)
                })?
            {
                let pencil = with_pencil(&mut pencils, argument);
                statistics.push(PencilStatistic { pencil, statistic });
                functions.push(ResultSource::Ordered(statistics.len() - 1));
                continue;
            }
            functions.push(reduced.unwrap_or_else(|| {
                let function = Arc::clone(function);
                accumulated.push(Accumulated { function, arguments: own, filter });
                ResultSource::Accumulated(accumulated.len() - 1)
            }));
        }
        let mut predicates = Vec::new();
        for filter in filters {
            if is_volatile(&filter) {
                return Err(volatile(&filter));
            }
            predicates.push(Predicate::new(filter, &table, &table_schema)?);
        }

        if let Some(keys) = &cell_keys {
            let reason = if aggregate.limit_options().is_some() {
                // DataFusion's aggregate stops at the first groups.
                Some("a LIMIT takes few of its groups")
            } else if !(accumulated.is_empty() && pencils.is_empty()) {
                Some("not all functions have kernels")
            } else {
                None
            };
            if let Some(reason) = reason {
                let names = keys.names();
                let reason = format!("GROUP BY {names} varies along all dimensions, and {reason}");
                return Err(Refusal::Unsupported(reason));
            }
        }
        let mut needed: Vec<usize> = Vec::new();
        let mut dims: Vec<usize> = Vec::new();
        let exprs = arguments
            .iter()
            .flat_map(|argument| argument.values.exprs())
            .chain(accumulated.iter().flat_map(|function: &Accumulated| &function.arguments))
            .chain(pencils.iter().map(|argument: &PencilArgument| &argument.expr))
            .chain(cell_keys.iter().flat_map(|keys: &CellKeys| &keys.exprs))
            .chain(&conditions);
        for expr in exprs {
            needed.extend(expr.whole().columns());
            dims.extend(expr.whole().dims());
        }
        for (key, _) in &keys {
            dims.extend(key.dims());
        }
        for filter in &predicates {
            dims.extend(filter.dims());
        }
        dims.extend(source.filter_dims());
        needed.sort_unstable();
        needed.dedup();
        let mut selection = source.selection().to_vec();
        let mut weight = 1;
        let (mut streamed, mut compared) = (Vec::new(), Vec::new());
        // Accumulators need every row, and so do values that are kept.
        if accumulated.is_empty() && pencils.is_empty() {
            weight = leave_out_dimensions(&mut selection, &dims);
            if !has_pairs_by_cell(&arguments, &keys, table.dims.len()) {
                (streamed, compared) = streams(&source, &needed, &predicates);
            }
            needed.extend(&streamed);
            needed.sort_unstable();
            needed.dedup();
        }
        let keys = GroupKeys::new(keys, &selection)?;
        // The error may come from a row that a filter drops when the query runs.
        let groups = keys.known(&table, &selection).map_err(|error| {
            Refusal::Unsupported(format!("GROUP BY can't be evaluated: {error}"))
        })?;
        let source = source.reading(needed, selection, predicates)?;
        let masked = source.leaves_out_rows();
        let weights = masks::weights(&arguments, &functions);
        Ok(Self {
            source,
            keys,
            key_positions,
            cell_keys,
            groups: groups.map(Arc::new),
            arguments,
            pencils,
            statistics,
            values_memory: 0,
            accumulated,
            functions,
            names: aggregate.aggr_expr().iter().map(|f| f.name().to_owned()).collect(),
            filters: conditions,
            streamed,
            compared,
            weight,
            masked,
            schema,
            states,
            without_nan: Vec::new(),
            weights,
        })
    }

    /// The same aggregate over other indices.
    pub(super) fn over(&self, selection: Vec<Selection>) -> Result<Self> {
        let columns = self.source.output().to_vec();
        let source = self.source.clone().reading(columns, selection, Vec::new())?;
        Ok(Self { source, groups: None, ..self.clone() })
    }

    /// Whether there is a GROUP BY.
    pub(super) fn is_grouped(&self) -> bool {
        !self.keys.exprs.is_empty() || self.cell_keys.is_some()
    }

    /// Number of keys, which come first in the output.
    pub(super) fn key_count(&self) -> usize {
        let of_cells = self.cell_keys.as_ref().map_or(0, |keys| keys.positions.len());
        self.key_positions.len() + of_cells
    }

    /// Whether groups may have no rows.
    pub(super) fn counts_rows(&self) -> bool {
        self.masked || self.cell_keys.is_some()
    }

    /// Dimensions along which an argument is reduced: its own and those of the keys.
    pub(super) fn dims_of(&self, argument: &Argument) -> Vec<usize> {
        let keys = self.keys.dims();
        let exprs = argument.values.exprs();
        union(std::iter::once(keys.as_slice()).chain(exprs.iter().map(|e| e.whole().dims())))
    }

    /// Type of a column of the table.
    pub(super) fn data_type(&self, column: usize) -> DataType {
        self.source.table().columns[column].data_type()
    }

    /// Bytes of the values that are kept of one group, on average.
    pub(super) fn pencil_bytes(&self, groups: &CellGroups) -> usize {
        let cells = groups.cells() / groups.len().unwrap_or(usize::MAX).max(1);
        let bytes = |argument: &PencilArgument| {
            let width = argument.data_type.primitive_width().unwrap_or(8);
            Pencils::bytes(1, cells.max(1), width)
        };
        self.pencils.iter().map(bytes).fold(0, usize::saturating_add)
    }

    /// Bytes of the kernels' states of one group.
    pub(super) fn group_bytes(&self) -> usize {
        let arguments = self.arguments.iter().map(|argument| match &argument.values {
            ArgumentValues::Rows | ArgumentValues::Valid(_) => Wanted::default().bytes(0),
            ArgumentValues::Numbers { data_type, wanted, .. } => {
                wanted.bytes(data_type.primitive_width().unwrap_or(8))
            }
            ArgumentValues::Weighted { .. } => WEIGHTED.bytes(8),
            ArgumentValues::Pairs { wanted, .. } => wanted.bytes(),
            ArgumentValues::Buckets { buckets, .. } => 8 * buckets.count() as usize,
        });
        // Counts of rows are kept where filters drop rows, numbers of groups for accumulators.
        arguments.sum::<usize>()
            + 16 * usize::from(self.counts_rows())
            + 4 * self.accumulated.len().min(1)
    }
}

/// Whether a key is evaluated on each cell.
fn varies_with_data(key: &Expression, table: &Table) -> bool {
    let rank = table.dims.len();
    key.columns().iter().any(|&position| {
        let column = &table.columns[position];
        !column.is_local(rank, u64::MAX)
    })
}

fn volatile(expr: &Arc<dyn PhysicalExpr>) -> Refusal {
    Refusal::Unsupported(format!("{expr} is another value each time"))
}

/// Selects one index of each dimension along which nothing varies: all others give the same. Returns how
/// often each cell then counts.
fn leave_out_dimensions(selection: &mut [Selection], varying: &[usize]) -> u64 {
    let mut weight = 1_u64;
    for (dim, selection) in selection.iter_mut().enumerate() {
        if !varying.contains(&dim) && selection.len() > 1 {
            weight = weight.saturating_mul(selection.len());
            let first = selection.bounds().start;
            *selection = std::iter::once(first..first + 1).collect();
        }
    }
    weight
}

/// Whether pairs are grouped by cells side by side: the rows of a tile are then added up first, which are in memory only
/// if they aren't decoded in pieces.
fn has_pairs_by_cell(arguments: &[Argument], keys: &[(Expression, String)], rank: usize) -> bool {
    let dims = union(keys.iter().map(|(key, _)| key.dims()));
    let by_cell = dims.last().is_some_and(|last| last + 1 == rank) && dims.len() < rank;
    let is_pair = |argument: &Argument| matches!(argument.values, ArgumentValues::Pairs { .. });
    by_cell && arguments.iter().any(is_pair)
}

/// Columns that may be decoded in pieces, and the source's predicates that are evaluated there. There are
/// none unless all columns that are read chunk by chunk have all dimensions.
fn streams(
    source: &ZarrSource,
    needed: &[usize],
    predicates: &[Predicate],
) -> (Vec<usize>, Vec<ColumnPredicate>) {
    let chunked = needed.iter().copied().filter(|&column| source.is_chunked(column));
    let mut streamed: Vec<usize> = chunked.collect();
    let mut compared = Vec::new();
    // Predicates on columns that are read anyway leave out no chunk, so they may as well be evaluated piece
    // by piece.
    if predicates.is_empty()
        && let Some(all) = source.comparisons()
        && streamed.iter().all(|column| all.iter().any(|own| own.column == *column))
    {
        streamed.extend(all.iter().map(|own| own.column));
        compared = all;
    }
    streamed.sort_unstable();
    streamed.dedup();
    let table = source.table();
    let is_full = |&column: &usize| table.columns[column].dims.len() == table.dims.len();
    if !streamed.iter().all(is_full) {
        return (Vec::new(), Vec::new());
    }
    if compared.is_empty() {
        // Columns that are looked up or computed are in memory, whatever comes in pieces beside them.
        streamed.retain(|&column| table.columns[column].variable().is_some());
    }
    (streamed, compared)
}
