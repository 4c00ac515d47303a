//! Means, spreads and the relation of two numbers.

/// Moments of pairs of numbers, and the sum of the products of their distances from the means. As in
/// [`Moments`](super::Moments), means are stored as distances from one of the values.
#[derive(Clone, Copy, Debug, Default)]
pub struct PairMoments {
    /// Number of pairs.
    pub count: f64,
    /// A pair near the means.
    pub start: [f64; 2],
    /// Distances of the means from `start`.
    pub mean: [f64; 2],
    /// Sums of the squared distances from the means.
    pub squares: [f64; 2],
    /// Sum of the products of both distances from the means.
    pub products: f64,
}

/// Statistics of pairs `(y, x)`. `None` is NULL.
impl PairMoments {
    /// Covariance, with the divisor `count - less`; `None` unless there are more than `less` pairs.
    #[must_use]
    pub fn covariance(&self, less: f64) -> Option<f64> {
        (self.count > less).then(|| self.together() / (self.count - less))
    }

    /// Correlation; `None` where a side doesn't vary.
    #[must_use]
    pub fn correlation(&self) -> Option<f64> {
        let [y, x] = self.squares;
        // Takes the roots first: the product of the squares may overflow.
        let correlation = self.together() / (y.sqrt() * x.sqrt());
        (self.count > 1.0 && y != 0.0 && x != 0.0).then(|| match correlation.abs() > 1.0 {
            // Rounding may exceed 1.
            true => correlation.signum(),
            false => correlation,
        })
    }

    /// Slope of the line that fits the pairs best.
    #[must_use]
    pub fn slope(&self) -> Option<f64> {
        let [_, x] = self.squares;
        (self.count > 1.0 && x != 0.0).then(|| self.together() / x)
    }

    /// Value of that line at x = 0.
    #[must_use]
    pub fn intercept(&self) -> Option<f64> {
        let slope = self.slope()?;
        // (y₀ + ȳ) - slope (x₀ + x̄): the starts are large and few digits, the means small.
        Some((self.start[0] - slope * self.start[1]) + (self.mean[0] - slope * self.mean[1]))
    }

    /// Part of y's variance that the line explains; `None` where x doesn't vary, and 1 where only y doesn't, as in SQL.
    #[must_use]
    pub fn r2(&self) -> Option<f64> {
        let [y, x] = self.squares;
        if self.count < 2.0 || x == 0.0 {
            return None;
        }
        if y == 0.0 {
            return Some(1.0);
        }
        self.correlation().map(|correlation| correlation * correlation)
    }

    /// Sum of the squared distances of one side from its mean.
    #[must_use]
    pub fn squares(&self, side: usize) -> Option<f64> {
        (self.count > 0.0).then(|| self.squares[side])
    }

    /// Sum of the products of both distances from the means.
    #[must_use]
    pub fn products(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.together())
    }

    /// Adds a pair.
    ///
    /// Welford: Note on a Method for Calculating Corrected Sums of Squares and Products (1962).
    #[inline(always)]
    pub fn add(&mut self, pair: [f64; 2]) {
        if self.count == 0.0 {
            self.start = pair;
        }
        self.count += 1.0;
        let mut distance = [0.0; 2];
        let mut left = [0.0; 2];
        for side in 0..2 {
            let from_start = pair[side] - self.start[side];
            distance[side] = from_start - self.mean[side];
            self.mean[side] += distance[side] / self.count;
            left[side] = from_start - self.mean[side];
            self.squares[side] += distance[side] * left[side];
        }
        self.products += distance[0] * left[1];
    }

    /// Adds the pairs of another state.
    ///
    /// Chan, Golub and LeVeque: Updating Formulae and a Pairwise Algorithm for Computing Sample
    /// Variances (1979).
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        let count = self.count + other.count;
        let both = self.count * other.count / count;
        let distance: [f64; 2] = std::array::from_fn(|side| {
            (other.start[side] - self.start[side]) + (other.mean[side] - self.mean[side])
        });
        for (side, distance) in distance.into_iter().enumerate() {
            self.mean[side] += distance * (other.count / count);
            self.squares[side] += other.squares[side] + distance * distance * both;
        }
        self.products += other.products + distance[0] * distance[1] * both;
        self.count = count;
    }

    /// Sum of the products of both distances. With an infinity there are no distances, whichever pair comes first; its
    /// squares are NaN.
    fn together(&self) -> f64 {
        match self.squares.iter().any(|squares| squares.is_nan()) {
            true => f64::NAN,
            false => self.products,
        }
    }
}
