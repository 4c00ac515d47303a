//! Mean and variance of values.

/// Number of values, their mean, and the sum of the squared distances from the mean. The mean is stored as a distance
/// from `start`, one of the values: float64 has no number for 10⁹ and a thousandth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// Number of values.
    pub count: f64,
    /// A value near the mean.
    pub start: f64,
    /// Distance of the mean from `start`.
    pub mean: f64,
    /// Sum of the squared distances from the mean.
    pub squares: f64,
}

impl Moments {
    /// Adds a value.
    ///
    /// Welford: Note on a Method for Calculating Corrected Sums of Squares and Products (1962).
    #[inline(always)]
    pub fn add(&mut self, value: f64) {
        if self.count == 0.0 {
            self.start = value;
        }
        self.count += 1.0;
        let from_start = value - self.start;
        let distance = from_start - self.mean;
        self.mean += distance / self.count;
        self.squares += distance * (from_start - self.mean);
    }

    /// Adds the values of another state.
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
        let distance = (other.start - self.start) + (other.mean - self.mean);
        self.mean += distance * (other.count / count);
        self.squares += other.squares + distance * distance * (self.count * other.count / count);
        self.count = count;
    }

    /// Variance, with the divisor `count - less`; `None` unless there are more than `less` values.
    #[must_use]
    pub fn variance(&self, less: f64) -> Option<f64> {
        (self.count > less).then(|| self.squares / (self.count - less))
    }
}
