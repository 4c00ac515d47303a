//! Notes on weights that count where values are missing: `sum(t * w) / sum(w)` over masked cells.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use datafusion::{
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, CastExpr},
    },
    physical_expr_common::physical_expr::fmt_sql,
};

use super::{
    plan::{Argument, ArgumentValues, Reduced, ResultSource},
    state::ArgumentResults,
};
use crate::nan_as_null;

/// Two sums of an aggregate: one of products, the other of some of their factors.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    product: usize,
    weight: usize,
    /// Names of the product's remaining factors.
    value_name: String,
    weight_name: String,
    /// Cells with a weight and without a product.
    masked: Arc<AtomicU64>,
}

/// An argument of a sum.
struct Summed<'a> {
    position: usize,
    filter: Option<usize>,
    factors: Vec<&'a Arc<dyn PhysicalExpr>>,
}

/// Finds all pairs of a sum of products and a sum of weights.
pub(super) fn weights(arguments: &[Argument], functions: &[ResultSource]) -> Vec<Weights> {
    let is_summed = |position: usize| {
        functions.iter().any(|function| {
            matches!(*function, ResultSource::Reduced { argument, result: Reduced::Sum } if argument == position)
        })
    };
    let summed: Vec<Summed<'_>> = arguments
        .iter()
        .enumerate()
        .filter(|(position, _)| is_summed(*position))
        .filter_map(|(position, argument)| match &argument.values {
            ArgumentValues::Numbers { expr, .. } => {
                let factors = factors(expr.whole().expr());
                Some(Summed { position, filter: argument.filter, factors })
            }
            _ => None,
        })
        .collect();
    let mut pairs = Vec::new();
    for product in summed.iter().filter(|summed| summed.factors.len() > 1) {
        for weight in summed.iter().filter(|summed| summed.filter == product.filter) {
            let Some(rest) = without(&product.factors, &weight.factors) else { continue };
            pairs.push(Weights {
                product: product.position,
                weight: weight.position,
                value_name: written(&rest),
                weight_name: written(&weight.factors),
                masked: Arc::default(),
            });
        }
    }
    pairs
}

impl Weights {
    /// Resets the count of an earlier execution.
    pub(super) fn reset(&self) {
        self.masked.store(0, Ordering::Relaxed);
    }

    /// Counts cells by the states of the arguments.
    pub(super) fn count(&self, states: &[ArgumentResults]) {
        let count = |argument: usize| -> i64 {
            match states.get(argument) {
                Some(ArgumentResults::Numbers(states)) => states.counts.iter().sum(),
                _ => 0,
            }
        };
        let masked = u64::try_from(count(self.weight) - count(self.product)).unwrap_or(0);
        self.masked.fetch_add(masked, Ordering::Relaxed);
    }

    /// Note for the user, known when all rows are there.
    pub(super) fn note(&self) -> Option<String> {
        let masked = self.masked.load(Ordering::Relaxed);
        let (value, weight) = (&self.value_name, &self.weight_name);
        (masked > 0).then(|| {
            format!(
                "sum({weight}) counts the weight of {masked} cells where {value} is NULL: \
                 weighted_avg({value}, {weight}) leaves them out"
            )
        })
    }
}

/// Factors of a product, without casts.
fn factors(expr: &Arc<dyn PhysicalExpr>) -> Vec<&Arc<dyn PhysicalExpr>> {
    let expr = bare(expr);
    match expr.downcast_ref::<BinaryExpr>() {
        Some(product) if *product.op() == Operator::Multiply => {
            let mut all = factors(product.left());
            all.extend(factors(product.right()));
            all
        }
        _ => vec![expr],
    }
}

fn bare(expr: &Arc<dyn PhysicalExpr>) -> &Arc<dyn PhysicalExpr> {
    match (expr.downcast_ref::<CastExpr>(), nan_as_null::inside(expr)) {
        (Some(cast), _) => bare(cast.expr()),
        (_, Some(tested)) => bare(tested),
        (None, None) => expr,
    }
}

/// The factors without `others`; `None` if these aren't among them, or none is left.
fn without<'a>(
    all: &[&'a Arc<dyn PhysicalExpr>],
    others: &[&Arc<dyn PhysicalExpr>],
) -> Option<Vec<&'a Arc<dyn PhysicalExpr>>> {
    let mut rest = all.to_vec();
    for other in others {
        let position = rest.iter().position(|factor| factor.eq(other))?;
        rest.remove(position);
    }
    (!rest.is_empty()).then_some(rest)
}

fn written(factors: &[&Arc<dyn PhysicalExpr>]) -> String {
    let factors: Vec<_> =
        factors.iter().map(|factor| fmt_sql(factor.as_ref()).to_string()).collect();
    factors.join(" * ")
}
