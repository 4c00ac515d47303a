//! Frames as ranges of positions.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, UInt64Array},
    compute::take,
};
use datafusion::logical_expr::{WindowFrame, WindowFrameUnits, window_state::WindowFrameContext};
use lsio_core::running::Frames;

use super::lines::Lines;
use crate::refusal::Refusal;

/// For each selected index of a window's dimension, its frame: a range of positions among the selected indices.
///
/// # Errors
/// [`Refusal::Unsupported`] if the frames aren't such ranges: the coordinate isn't in order, or partitions interleave.
pub(super) fn frames(lines: &Lines, frame: &Arc<WindowFrame>) -> Result<Frames, Refusal> {
    let len: usize = lines.partitions.iter().map(Vec::len).sum();
    let mut all = vec![0..0; len];
    for partition in &lines.partitions {
        let Some((low, high)) =
            partition.iter().min().copied().zip(partition.iter().max().copied())
        else {
            continue;
        };
        let is_run = high - low + 1 == partition.len();
        let ascends = partition.is_sorted();
        if !is_run {
            return Err(Refusal::unsupported("partitions interleave along its dimension"));
        }
        if !ascends && !partition.iter().rev().is_sorted() {
            return Err(Refusal::unsupported("the order of its rows is not that of an index"));
        }
        for (position, own) in partition.iter().zip(in_order(lines, partition, frame)?) {
            if own.start > own.end {
                return Err(Refusal::unsupported("a frame ends before it starts"));
            }
            all[*position] = match ascends {
                true => low + own.start..low + own.end,
                false => high + 1 - own.end..high + 1 - own.start,
            };
        }
    }
    Frames::new(all).map_err(|error| Refusal::Unsupported(error.to_string()))
}

/// Frames of the rows of a partition, in their order, as DataFusion has them.
fn in_order(
    lines: &Lines,
    partition: &[usize],
    frame: &Arc<WindowFrame>,
) -> Result<Vec<Range<usize>>, Refusal> {
    let has_offset = |bound: &datafusion::logical_expr::WindowFrameBound| {
        use datafusion::logical_expr::WindowFrameBound::{CurrentRow, Following, Preceding};
        match bound {
            CurrentRow => false,
            Preceding(offset) | Following(offset) => !offset.is_null(),
        }
    };
    let offsets = has_offset(&frame.start_bound) || has_offset(&frame.end_bound);
    if frame.units == WindowFrameUnits::Range && offsets && lines.order.len() != 1 {
        return Err(Refusal::unsupported("its RANGE is over a key that doesn't vary"));
    }
    if frame.units == WindowFrameUnits::Rows && !lines.unique && !is_whole(frame) {
        return Err(Refusal::unsupported("ORDER BY leaves rows of a partition in any order"));
    }
    if lines.order.is_empty() && frame.units != WindowFrameUnits::Rows {
        // Nothing that ORDER BY has varies within a partition: all of its rows are peers.
        if offsets {
            return Err(Refusal::unsupported("ORDER BY doesn't vary within a partition"));
        }
        return Ok(vec![0..partition.len(); partition.len()]);
    }
    let positions = UInt64Array::from_iter_values(partition.iter().map(|&p| p as u64));
    let columns = lines.order.iter().map(|key| take(&key.values, &positions, None));
    let columns: Vec<ArrayRef> =
        columns.collect::<Result<_, _>>().map_err(|error| Refusal::Failed(error.into()))?;
    let options = lines.order.iter().map(|key| key.options).collect();
    let mut context = WindowFrameContext::new(Arc::clone(frame), options);
    let mut last = 0..0;
    let mut all = Vec::with_capacity(partition.len());
    for row in 0..partition.len() {
        last = context
            .calculate_range(&columns, &last, partition.len(), row)
            .map_err(|error| Refusal::Unsupported(format!("its frames can't be found: {error}")))?;
        all.push(last.clone());
    }
    Ok(all)
}

/// Whether each frame is the whole partition.
pub(super) fn is_whole(frame: &WindowFrame) -> bool {
    frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded()
}
