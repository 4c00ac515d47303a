//! Skewness and kurtosis, from the third and fourth moments.

use super::summary::Summary;

/// Number of values, and sums of the powers of their distances from the mean, which is stored relative to one
/// of the values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShapeMoments {
    count: f64,
    start: f64,
    mean: f64,
    squares: f64,
    cubes: f64,
    fourths: f64,
}

impl ShapeMoments {
    /// Skewness of a sample; scipy's with `bias=False`. NULL for fewer than three values or equal ones.
    pub(super) fn skewness(&self) -> Option<f64> {
        let n = self.count;
        (n > 2.0 && self.squares != 0.0).then(|| {
            let spread = self.squares / n;
            let skewness = self.cubes / n / (spread * spread.sqrt());
            skewness * (n * (n - 1.0)).sqrt() / (n - 2.0)
        })
    }

    /// Excess kurtosis of a population; scipy's. NULL for equal values.
    pub(super) fn kurtosis_pop(&self) -> Option<f64> {
        let varies = self.count > 1.0 && self.squares != 0.0;
        varies.then(|| self.count * (self.fourths / self.squares) / self.squares - 3.0)
    }

    /// Excess kurtosis of a sample; scipy's with `bias=False`. NULL for fewer than four values or equal ones.
    pub(super) fn kurtosis(&self) -> Option<f64> {
        let n = self.count;
        let excess = self.kurtosis_pop().filter(|_| n > 3.0)?;
        Some((n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * excess + 6.0))
    }
}

impl Summary<1, 6> for ShapeMoments {
    fn add(&mut self, [value]: [f64; 1]) {
        // Infinities have no distance, not even from each other.
        let squares = (value * 0.0).abs();
        self.merge(&Self { count: 1.0, start: value, squares, ..Self::default() });
    }

    /// Pébay: Formulas for Robust, One-Pass Parallel Computation of Covariances and Arbitrary-Order
    /// Statistical Moments (2008).
    fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.count, other.count);
        let n = a + b;
        let distance = (other.start - self.start) + (other.mean - self.mean);
        let step = distance / n;
        let square = distance * step * a * b;
        self.fourths += other.fourths
            + square * step * step * (a * a - a * b + b * b)
            + 6.0 * step * step * (a * a * other.squares + b * b * self.squares)
            + 4.0 * step * (a * other.cubes - b * self.cubes);
        self.cubes += other.cubes
            + square * step * (a - b)
            + 3.0 * step * (a * other.squares - b * self.squares);
        self.squares += other.squares + square;
        self.mean += step * b;
        self.count = n;
    }

    fn to_doubles(self) -> [f64; 6] {
        [self.count, self.start, self.mean, self.squares, self.cubes, self.fourths]
    }

    fn from_doubles([count, start, mean, squares, cubes, fourths]: [f64; 6]) -> Self {
        Self { count, start, mean, squares, cubes, fourths }
    }
}
