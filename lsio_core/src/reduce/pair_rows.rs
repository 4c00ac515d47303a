//! Pairs of rows of cells that have the same groups: added up over the rows, a few groups at a time, and merged into the
//! moments once.

use super::{
    arithmetic::Arithmetic,
    float_column::FloatValues,
    native::Native,
    pairs::{MomentSlices, PairSide},
};
use crate::simd::kernel;

/// Number of groups whose sums fit registers.
pub(super) const LANES: usize = 16;

/// Both sides of pairs, as they are stored.
#[derive(Clone, Copy)]
pub(super) enum StoredPairs<'a> {
    Singles(&'a [f32], &'a [f32]),
    Doubles(&'a [f64], &'a [f64]),
}

/// Sums over rows of the distances from the pairs of the first row, of their squares and products.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowSums {
    pub(crate) start: [[f64; LANES]; 2],
    pub(crate) distances: [[f64; LANES]; 2],
    pub(crate) squares: [[f64; LANES]; 2],
    pub(crate) products: [f64; LANES],
}

impl<'a> StoredPairs<'a> {
    /// `None` for sides that are computed, or have different types.
    pub(super) fn new([y, x]: &[PairSide<'a>; 2]) -> Option<Self> {
        match (stored(y)?, stored(x)?) {
            (FloatValues::Singles(ys), FloatValues::Singles(xs)) => Some(Self::Singles(ys, xs)),
            (FloatValues::Doubles(ys), FloatValues::Doubles(xs)) => Some(Self::Doubles(ys, xs)),
            _ => None,
        }
    }

    pub(super) fn get(&self, cell: usize) -> [f64; 2] {
        match self {
            Self::Singles(ys, xs) => [f64::from(ys[cell]), f64::from(xs[cell])],
            Self::Doubles(ys, xs) => [ys[cell], xs[cell]],
        }
    }
}

fn stored<'a>(side: &PairSide<'a>) -> Option<FloatValues<'a>> {
    let column = match side.expr {
        Arithmetic::Widen(of) => of.as_ref(),
        expr => expr,
    };
    match column {
        Arithmetic::Column(position) => side.columns.get(*position).map(|column| column.values),
        _ => None,
    }
}

impl RowSums {
    /// Whether the pairs of a lane have moments: none is NaN or infinite.
    pub(super) fn is_finite(&self, lane: usize) -> bool {
        (self.squares[0][lane] + self.squares[1][lane]).is_finite()
    }
}

kernel! {
    /// Adds up the pairs of some rows, of which `rows` are the first cells, in as many columns as there are lanes from
    /// `column` on.
    fn sum_rows<T: Native>(ys: &[T], xs: &[T], rows: &[usize], column: usize) -> RowSums {
        let lanes = |values: &[T], row: usize| -> [f64; LANES] {
            let own: Option<&[T; LANES]> = values.get(row + column..).and_then(<[T]>::first_chunk);
            own.map_or([f64::NAN; LANES], |own| own.map(T::to_double))
        };
        let mut sums = RowSums::default();
        let Some(first) = rows.first() else { return sums };
        let start = [lanes(ys, *first), lanes(xs, *first)];
        let [mut y_sum, mut x_sum, mut y_squares, mut x_squares, mut products] = [[0.0; LANES]; 5];
        for row in rows {
            let (y, x) = (lanes(ys, *row), lanes(xs, *row));
            for lane in 0..LANES {
                let (y, x) = (y[lane] - start[0][lane], x[lane] - start[1][lane]);
                y_sum[lane] += y;
                x_sum[lane] += x;
                y_squares[lane] += y * y;
                x_squares[lane] += x * x;
                products[lane] += y * x;
            }
        }
        sums.start = start;
        sums.distances = [y_sum, x_sum];
        sums.squares = [y_squares, x_squares];
        sums.products = products;
        sums
    }
}

kernel! {
    /// Merges the sums of `rows` rows, of the lanes from `first` on, into the moments at the same position. Leaves out
    /// lanes with a value that isn't finite.
    fn merge_rows(states: MomentSlices<'_>, sums: &RowSums, first: usize, rows: f64) {
        let MomentSlices { count, start, mean, squares, products } = states;
        let len = count.len().min(LANES - first);
        let [start_y, start_x] = start.map(|column| &mut column[..len]);
        let [mean_y, mean_x] = mean.map(|column| &mut column[..len]);
        let [squares_y, squares_x] = squares.map(|column| &mut column[..len]);
        let (count, products) = (&mut count[..len], &mut products[..len]);
        let (from_y, from_x) = (&sums.start[0][first..][..len], &sums.start[1][first..][..len]);
        let (sum_y, sum_x) =
            (&sums.distances[0][first..][..len], &sums.distances[1][first..][..len]);
        let (all_y, all_x) = (&sums.squares[0][first..][..len], &sums.squares[1][first..][..len]);
        let all = &sums.products[first..][..len];
        let share = 1.0 / rows;
        for i in 0..len {
            let is_finite = (all_y[i] + all_x[i]).is_finite();
            let (own_y, own_x) = (sum_y[i] * share, sum_x[i] * share);
            // Rounding may leave less than 0.
            let (more_y, more_x) =
                ((all_y[i] - sum_y[i] * own_y).max(0.0), (all_x[i] - sum_x[i] * own_x).max(0.0));
            let more = all[i] - sum_y[i] * own_x;
            let is_first = count[i] == 0.0;
            let total = count[i] + rows;
            let part = rows / total;
            let both = count[i] * part;
            let far_y = (from_y[i] - start_y[i]) + (own_y - mean_y[i]);
            let far_x = (from_x[i] - start_x[i]) + (own_x - mean_x[i]);
            let new_y = if is_first { own_y } else { mean_y[i] + far_y * part };
            let new_x = if is_first { own_x } else { mean_x[i] + far_x * part };
            let (far_y, far_x) = (if is_first { 0.0 } else { far_y }, if is_first { 0.0 } else { far_x });
            let new_squares_y = squares_y[i] + more_y + far_y * far_y * both;
            let new_squares_x = squares_x[i] + more_x + far_x * far_x * both;
            let new_products = products[i] + more + far_y * far_x * both;
            start_y[i] = if is_finite & is_first { from_y[i] } else { start_y[i] };
            start_x[i] = if is_finite & is_first { from_x[i] } else { start_x[i] };
            count[i] = if is_finite { total } else { count[i] };
            mean_y[i] = if is_finite { new_y } else { mean_y[i] };
            mean_x[i] = if is_finite { new_x } else { mean_x[i] };
            squares_y[i] = if is_finite { new_squares_y } else { squares_y[i] };
            squares_x[i] = if is_finite { new_squares_x } else { squares_x[i] };
            products[i] = if is_finite { new_products } else { products[i] };
        }
    }
}
