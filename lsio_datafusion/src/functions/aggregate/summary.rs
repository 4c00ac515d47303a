//! Summaries of a group's rows.

use std::{fmt::Debug, marker::PhantomData};

use lsio_core::reduce::{Moments, PairMoments};

/// Summary of rows of `K` numbers, stored as `W` doubles. Rows are added and summaries merged; nothing is
/// subtracted, so that no residue stays.
pub(crate) trait Summary<const K: usize, const W: usize>:
    Copy + Default + Debug + Send + Sync + 'static
{
    /// Adds a row.
    fn add(&mut self, row: [f64; K]);

    /// Adds the rows of another summary.
    fn merge(&mut self, other: &Self);

    /// Converts the summary to its state.
    fn to_doubles(self) -> [f64; W];

    /// The inverse of [`Summary::to_doubles`].
    fn from_doubles(doubles: [f64; W]) -> Self;
}

impl Summary<1, 4> for Moments {
    fn add(&mut self, [value]: [f64; 1]) {
        self.add(value);
    }

    fn merge(&mut self, other: &Self) {
        self.merge(other);
    }

    fn to_doubles(self) -> [f64; 4] {
        [self.count, self.start, self.mean, self.squares]
    }

    fn from_doubles([count, start, mean, squares]: [f64; 4]) -> Self {
        Self { count, start, mean, squares }
    }
}

impl Summary<2, 8> for PairMoments {
    fn add(&mut self, row: [f64; 2]) {
        self.add(row);
    }

    fn merge(&mut self, other: &Self) {
        self.merge(other);
    }

    fn to_doubles(self) -> [f64; 8] {
        let Self { count, start, mean, squares, products } = self;
        [count, start[0], start[1], mean[0], mean[1], squares[0], squares[1], products]
    }

    fn from_doubles(doubles: [f64; 8]) -> Self {
        let [count, start_y, start_x, mean_y, mean_x, squares_y, squares_x, products] = doubles;
        Self {
            count,
            start: [start_y, start_x],
            mean: [mean_y, mean_x],
            squares: [squares_y, squares_x],
            products,
        }
    }
}

/// Term that is summed for a row.
pub(super) trait Term<const K: usize>:
    Copy + Default + Debug + Send + Sync + 'static
{
    fn of(row: [f64; K]) -> f64;
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SingleValue;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Logarithm;

/// One of a pair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Side<const SIDE: usize>;

impl Term<1> for SingleValue {
    fn of([value]: [f64; 1]) -> f64 {
        value
    }
}

impl Term<1> for Logarithm {
    fn of([value]: [f64; 1]) -> f64 {
        value.ln()
    }
}

impl<const SIDE: usize> Term<2> for Side<SIDE> {
    fn of(row: [f64; 2]) -> f64 {
        row[SIDE]
    }
}

/// Number of values and their sum, with the error of its rounding.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums<T> {
    count: f64,
    sum: f64,
    lost: f64,
    term: PhantomData<T>,
}

impl<T> Sums<T> {
    pub(super) fn sum(&self) -> Option<f64> {
        // The rounding error of infinity is NaN.
        let sum = if self.sum.is_finite() { self.sum + self.lost } else { self.sum };
        (self.count > 0.0).then_some(sum)
    }

    pub(super) fn mean(&self) -> Option<f64> {
        self.sum().map(|sum| sum / self.count)
    }

    /// Knuth: The Art of Computer Programming, volume 2, theorem 4.2.2 B.
    fn add_exactly(&mut self, value: f64) {
        let sum = self.sum + value;
        let added = sum - self.sum;
        self.lost += (self.sum - (sum - added)) + (value - added);
        self.sum = sum;
    }
}

impl<T: Term<K>, const K: usize> Summary<K, 3> for Sums<T> {
    fn add(&mut self, row: [f64; K]) {
        self.count += 1.0;
        self.add_exactly(T::of(row));
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.add_exactly(other.sum);
        self.lost += other.lost;
    }

    fn to_doubles(self) -> [f64; 3] {
        [self.count, self.sum, self.lost]
    }

    fn from_doubles([count, sum, lost]: [f64; 3]) -> Self {
        Self { count, sum, lost, term: PhantomData }
    }
}

/// Number of values and their product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    count: f64,
    product: f64,
}

impl Default for Product {
    fn default() -> Self {
        Self { count: 0.0, product: 1.0 }
    }
}

impl Product {
    pub(super) fn product(&self) -> Option<f64> {
        (self.count > 0.0).then_some(self.product)
    }
}

impl Summary<1, 2> for Product {
    fn add(&mut self, [value]: [f64; 1]) {
        self.count += 1.0;
        self.product *= value;
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.product *= other.product;
    }

    fn to_doubles(self) -> [f64; 2] {
        [self.count, self.product]
    }

    fn from_doubles([count, product]: [f64; 2]) -> Self {
        Self { count, product }
    }
}

/// Sums of values times weights, and of the weights of values that aren't NULL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weighted {
    products: f64,
    weights: f64,
}

impl Weighted {
    /// NULL where the weights sum to 0.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.weights != 0.0).then(|| self.products / self.weights)
    }
}

impl Summary<2, 2> for Weighted {
    fn add(&mut self, [value, weight]: [f64; 2]) {
        self.products += value * weight;
        self.weights += weight;
    }

    fn merge(&mut self, other: &Self) {
        self.products += other.products;
        self.weights += other.weights;
    }

    fn to_doubles(self) -> [f64; 2] {
        [self.products, self.weights]
    }

    fn from_doubles([products, weights]: [f64; 2]) -> Self {
        Self { products, weights }
    }
}
