//! Details of a scan in `EXPLAIN`.

use lsio_core::read::DimOrder;

use super::ZarrSource;
use crate::predicate::Predicate;

impl ZarrSource {
    /// Reason why a filter isn't a selection.
    fn reason(&self, filter: &Predicate) -> &'static str {
        let local = |&position: &usize| !self.is_chunked(position);
        if !filter.columns().iter().all(local) {
            "on the values of chunks"
        } else if filter.dims().len() > 1 {
            "on several dimensions, before chunks are read"
        } else {
            "before chunks are read"
        }
    }

    /// Details that `EXPLAIN` shows, one for each line.
    pub(super) fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = Vec::new();
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        details.push(("columns", format!("[{}]", names.join(", "))));
        let dims = self.table.dims.iter();
        let grid: Vec<String> = dims.clone().map(|d| format!("{}={}", d.name, d.size)).collect();
        details.push(("grid", format!("[{}]", grid.join(", "))));
        let selected: Vec<String> = dims
            .zip(&self.spec.selection)
            .filter(|(dim, selection)| selection.len() < dim.size)
            .map(|(dim, selection)| {
                let ranges = selection.ranges().len();
                let parts = if ranges > 1 { format!(" in {ranges} ranges") } else { String::new() };
                format!("{}={}/{}{parts}", dim.name, selection.len(), dim.size)
            })
            .collect();
        let (wanted, all) = (self.chunks(), self.scan().map_or(0, |scan| scan.all_chunks()));
        if selected.is_empty() {
            details.push(("chunks", wanted.to_string()));
        } else {
            details.push(("selection", format!("[{}]", selected.join(", "))));
            details.push(("chunks", format!("{wanted}/{all}")));
        }
        for filter in &self.filters {
            details.push(("filter", format!("{} ({})", filter.expr(), self.reason(filter))));
        }
        for filter in &self.deferred {
            details.push(("filter", format!("{filter} (as far as known when the query runs)")));
        }
        if let Some(tiles) = &self.spec.tiles {
            details
                .push(("tiles", format!("{}..{} of {}", tiles.start, tiles.end, self.tiles.len())));
        }
        if !self.spec.order.is_empty() {
            let order: Vec<String> = self
                .spec
                .order
                .iter()
                .map(|&DimOrder { dim, reversed }| {
                    let from_end = if reversed { " from the end" } else { "" };
                    format!("{}{from_end}", self.table.dims[dim].name)
                })
                .collect();
            let sorted = if self.ordering.is_some() { ", sorted" } else { "" };
            details.push(("order", format!("[{}{sorted}]", order.join(", "))));
        }
        if let Some(limit) = self.spec.limit {
            details.push(("limit", limit.to_string()));
        }
        if !self.lookups.is_empty() {
            details.push(("looked up", format!("[{}]", self.lookups.join("; "))));
        }
        if !self.windows.is_empty() {
            details.push(("windows", format!("[{}]", self.windows.join("; "))));
        }
        if let Some(reason) = &self.window_refusal {
            details.push(("window not pushed down", reason.to_string()));
        }
        if let Some(reason) = &self.join_refusal {
            details.push(("join not pushed down", reason.to_string()));
        }
        if let Some(reason) = &self.refusal {
            details.push(("aggregate not pushed down", reason.to_string()));
        }
        details
    }
}
