//! Index maps from the keys of a join.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray},
    compute::kernels::cmp::{eq, lt},
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use datafusion::{
    common::utils::normalize_float_zero,
    physical_expr::{PhysicalExpr, expressions::Column},
};
use lsio_core::{IndexMap, Selection};

use super::sides::PartnerPlan;
use crate::{
    ZarrSource,
    comparison::float_key_of,
    coordinates::evaluated,
    expression::{Expression, union},
    prepared::PreparedKey,
    refusal::Refusal,
};

/// Keys that are compared at a time.
const BATCH: usize = 1 << 16;

/// Equal keys of both sides, as expressions over their tables.
#[derive(Clone, Debug)]
pub(super) struct KeyPair {
    pub(super) anchor: Arc<dyn PhysicalExpr>,
    pub(super) partner: Arc<dyn PhysicalExpr>,
    /// Whether NULL equals NULL.
    pub(super) null_equals: bool,
}

/// What the keys say about the partner's grid.
#[derive(Debug)]
pub(super) struct KeyMaps {
    /// For each dimension of the partner, the map to its indices; `None` for a dimension that keys leave free.
    pub(super) maps: Vec<Option<IndexMap>>,
    /// Positions of the pairs that aren't in a map.
    pub(super) rest: Vec<usize>,
    /// The dimension in which several of the partner's indices have equal keys.
    pub(super) repeats: Option<usize>,
    /// Whether a key of the partner is NULL.
    pub(super) partner_nulls: bool,
    /// Whether a key of the anchor is NULL.
    pub(super) anchor_nulls: bool,
}

/// A pair as expressions that know their dimensions.
struct Pair {
    position: usize,
    anchor: Expression,
    partner: Expression,
    null_equals: bool,
}

impl KeyMaps {
    /// Finds the maps of a join's keys.
    ///
    /// # Errors
    /// [`Refusal::Unsupported`] with the reason why a map can't be found.
    pub(super) fn new(
        pairs: &[KeyPair],
        anchor: &ZarrSource,
        partner: &ZarrSource,
    ) -> Result<Self, Refusal> {
        let mut by_dim: Vec<Vec<Pair>> = Vec::new();
        by_dim.resize_with(partner.table().dims.len(), Vec::new);
        let mut rest = Vec::new();
        for (position, pair) in pairs.iter().enumerate() {
            let own = Arc::clone(&pair.anchor);
            let own = Expression::new(own, anchor.table(), anchor.table_schema())?;
            let other = Arc::clone(&pair.partner);
            let other = Expression::new(other, partner.table(), partner.table_schema())?;
            match *other.dims() {
                [dim]
                    if is_known(&other, partner)
                        && own.dims().len() <= 2
                        && is_known(&own, anchor) =>
                {
                    let null_equals = pair.null_equals;
                    by_dim[dim].push(Pair { position, anchor: own, partner: other, null_equals });
                }
                _ => rest.push(position),
            }
        }
        let mut found = Self {
            maps: Vec::new(),
            rest,
            repeats: None,
            partner_nulls: false,
            anchor_nulls: false,
        };
        for (dim, mut pairs) in by_dim.into_iter().enumerate() {
            // Index maps have two dimensions at most.
            let mut dims: Vec<usize> = Vec::new();
            pairs.retain(|pair| {
                let more = union([dims.as_slice(), pair.anchor.dims()].into_iter());
                let fits = more.len() <= 2;
                if fits {
                    dims = more;
                } else {
                    found.rest.push(pair.position);
                }
                fits
            });
            let selected = &partner.selection()[dim];
            let map = if !pairs.is_empty() {
                Some(found.map(&pairs, dims, dim, anchor, partner)?)
            } else if selected.len() <= 1 {
                // One index, which all cells meet.
                let index = selected.iter().next();
                Some(IndexMap::new(vec![], vec![], vec![index]))
            } else {
                None
            };
            found.maps.push(map);
        }
        found.rest.sort_unstable();
        Ok(found)
    }

    fn map(
        &mut self,
        pairs: &[Pair],
        dims: Vec<usize>,
        dim: usize,
        anchor: &ZarrSource,
        partner: &ZarrSource,
    ) -> Result<IndexMap, Refusal> {
        let exprs: Vec<&Expression> = pairs.iter().map(|pair| &pair.partner).collect();
        let partner_keys = without_negative_zero(evaluated(&exprs, &[dim], partner)?);
        let exprs: Vec<&Expression> = pairs.iter().map(|pair| &pair.anchor).collect();
        let anchor_keys = without_negative_zero(evaluated(&exprs, &dims, anchor)?);
        let sizes: Vec<u64> = dims.iter().map(|&d| anchor.table().dims[d].size).collect();
        let selected = &partner.selection()[dim];
        let nulls = |keys: &[ArrayRef]| keys.iter().any(|key| key.logical_null_count() > 0);
        let (partner_nulls, anchor_nulls) = (nulls(&partner_keys), nulls(&anchor_keys));
        self.partner_nulls |= partner_nulls;
        self.anchor_nulls |= anchor_nulls;
        let all = selected.len() == partner.table().dims[dim].size;
        if let ([own], [one], [other], true) =
            (dims.as_slice(), anchor_keys.as_slice(), partner_keys.as_slice(), all)
            && !partner_nulls
            && !anchor_nulls
            && is_same_order(one, other)
        {
            return Ok(IndexMap::same(*own, sizes[0]));
        }
        let null_equals: Vec<bool> = pairs.iter().map(|pair| pair.null_equals).collect();
        let mut known: HashMap<OwnedRow, u64> = HashMap::new();
        let mut repeats = false;
        let mut converter = converter(&partner_keys)?;
        for_each_key(&mut converter, &partner_keys, &null_equals, |index, key| {
            let index = index as u64;
            if let (Some(key), true) = (key, selected.within(&(index..index + 1)).len() == 1) {
                repeats |= known.insert(key, index).is_some();
            }
        })?;
        if repeats {
            self.repeats.get_or_insert(dim);
        }
        let mut indices = Vec::with_capacity(anchor_keys.first().map_or(0, |key| key.len()));
        for_each_key(&mut converter, &anchor_keys, &null_equals, |_, key| {
            indices.push(key.and_then(|key| known.get(&key).copied()));
        })?;
        Ok(IndexMap::new(dims, sizes, indices))
    }
}

/// Keys of rows of a plan.
#[derive(Debug)]
pub(super) struct PreparedKeys {
    pub(super) keys: Vec<PreparedKey>,
    /// Positions of the pairs that aren't keys.
    pub(super) rest: Vec<usize>,
}

/// Finds the keys by which the rows of a plan are looked up: all columns that no two rows have in common; where only the
/// rows can tell, all that are coordinates of the anchor.
///
/// # Errors
/// [`Refusal::Unsupported`] with the reason why they can't be.
pub(super) fn prepared_keys(
    pairs: &[KeyPair],
    anchor: &ZarrSource,
    partner: &PartnerPlan,
) -> Result<PreparedKeys, Refusal> {
    let mut keys = Vec::new();
    let mut used: Vec<usize> = Vec::new();
    let mut reason = None;
    for (position, pair) in pairs.iter().enumerate() {
        let column = key_column(&pair.partner);
        let is_wanted = match &partner.unique {
            Some(unique) => column.is_some_and(|column| unique.contains(&column)),
            // Rows with NULL keys don't count as equal there.
            None => !pair.null_equals,
        };
        // One key finds a column's row; a second one is a condition.
        let is_known = column.is_some()
            && used.iter().any(|&known| key_column(&pairs[known].partner) == column);
        if !is_wanted || is_known {
            continue;
        }
        match prepared_key(pair, anchor) {
            Ok(key) => {
                keys.push(key);
                used.push(position);
            }
            Err(Refusal::Unsupported(own)) => {
                reason.get_or_insert(own);
            }
            Err(failed) => return Err(failed),
        }
    }
    let is_key = |unique: &usize| {
        used.iter().any(|&position| key_column(&pairs[position].partner) == Some(*unique))
    };
    match &partner.unique {
        Some(unique) => {
            if let Some(&free) = unique.iter().find(|unique| !is_key(unique)) {
                let schema = partner.plan.schema();
                let name = schema.field(free).name();
                let several = || format!("{name} is no key, so rows may have several partners");
                return Err(Refusal::Unsupported(reason.unwrap_or_else(several)));
            }
        }
        None if keys.is_empty() => {
            let none = || "no key is a coordinate".to_owned();
            return Err(Refusal::Unsupported(reason.unwrap_or_else(none)));
        }
        None => {}
    }
    let rest = (0..pairs.len()).filter(|position| !used.contains(position)).collect();
    Ok(PreparedKeys { keys, rest })
}

fn prepared_key(pair: &KeyPair, anchor: &ZarrSource) -> Result<PreparedKey, Refusal> {
    let own = Arc::clone(&pair.anchor);
    let own = Expression::new(own, anchor.table(), anchor.table_schema())?;
    let dims = own.dims().to_vec();
    if dims.len() > 2 {
        let reason = format!("{} varies along more than two dimensions", own.expr());
        return Err(Refusal::Unsupported(reason));
    }
    let sizes = dims.iter().map(|&d| anchor.table().dims[d].size).collect();
    let Some(values) = evaluated(&[&own], &dims, anchor)?.pop() else {
        return Err(Refusal::unsupported("it has no keys"));
    };
    let (of_row, null_equals) = (Arc::clone(&pair.partner), pair.null_equals);
    Ok(PreparedKey { dims, sizes, values, of_row, null_equals })
}

/// The column whose values a key tells apart.
fn key_column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Some(column.index());
    }
    match float_key_of(expr) {
        Some(inner) => key_column(inner),
        None => None,
    }
}

fn is_known(expr: &Expression, source: &ZarrSource) -> bool {
    expr.columns().iter().all(|&position| source.table().columns[position].is_known())
}

fn without_negative_zero(keys: Vec<ArrayRef>) -> Vec<ArrayRef> {
    keys.iter().map(normalize_float_zero).collect()
}

/// Whether both have the same values, each larger or each smaller than the one before: then each index meets itself.
fn is_same_order(one: &ArrayRef, other: &ArrayRef) -> bool {
    let all =
        |mask: Result<BooleanArray, _>| mask.is_ok_and(|mask| mask.true_count() == mask.len());
    if one.len() != other.len() || one.data_type() != other.data_type() || !all(eq(one, other)) {
        return false;
    }
    let Some(pairs) = one.len().checked_sub(1) else { return true };
    let (before, after) = (one.slice(0, pairs), one.slice(1, pairs));
    all(lt(&before, &after)) || all(lt(&after, &before))
}

fn converter(keys: &[ArrayRef]) -> Result<RowConverter, Refusal> {
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    RowConverter::new(fields).map_err(|error| {
        Refusal::Unsupported(format!(
            "its keys can't be compared when the query is planned: {error}"
        ))
    })
}

/// Calls `f` with each index and its key; `None` for a key that equals no other.
fn for_each_key(
    converter: &mut RowConverter,
    keys: &[ArrayRef],
    null_equals: &[bool],
    mut f: impl FnMut(usize, Option<OwnedRow>),
) -> Result<(), Refusal> {
    let len = keys.first().map_or(0, |key| key.len());
    for start in (0..len).step_by(BATCH) {
        let size = BATCH.min(len - start);
        let part: Vec<ArrayRef> = keys.iter().map(|key| key.slice(start, size)).collect();
        let missing: Vec<_> = part
            .iter()
            .zip(null_equals)
            .filter(|(_, null_equals)| !**null_equals)
            .filter_map(|(key, _)| key.logical_nulls())
            .collect();
        let rows: Rows = converter.convert_columns(&part).map_err(|error| {
            Refusal::Unsupported(format!("its keys can't be compared: {error}"))
        })?;
        for index in 0..size {
            let missing = missing.iter().any(|nulls| nulls.is_null(index));
            f(start + index, (!missing).then(|| rows.row(index).owned()));
        }
    }
    Ok(())
}

/// The indices along each dimension of the anchor that have a partner, as far as single dimensions decide it.
pub(super) fn with_partner(selection: &[Selection], maps: &[IndexMap]) -> Vec<Selection> {
    let mut selection = selection.to_vec();
    for map in maps {
        if let ([dim], Some(present)) = (map.dims(), map.present()) {
            selection[*dim] = selection[*dim].intersect(&present);
        }
    }
    selection
}
