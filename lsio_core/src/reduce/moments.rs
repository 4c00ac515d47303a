//! The mean and the spread of values.

/// The number of values, their mean, and the sum of the squared distances from it. The mean is told
/// from a start among the values: 10⁹ and a thousandth have no double of their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// The number of values.
    pub count: f64,
    /// A value near the mean.
    pub start: f64,
    /// The distance of the mean from the start.
    pub mean: f64,
    /// The sum of the squared distances from the mean.
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

    /// Adds the values of another.
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

    /// The variance, divided by what is less than the number of values by `less`.
    #[must_use]
    pub fn variance(&self, less: f64) -> Option<f64> {
        (self.count > less).then(|| self.squares / (self.count - less))
    }
}
