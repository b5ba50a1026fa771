//! Many measurements in a few numbers.
//! It does not know what was measured.

use serde::Serialize;

/// The spread of a sample, in the sample's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub count: usize,
    pub least: f64,
    /// A quarter is less.
    pub lower: f64,
    pub median: f64,
    /// A quarter is more.
    pub upper: f64,
    pub p99: f64,
    pub most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(sample: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = sample.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        Some(Self {
            count: sorted.len(),
            least: first,
            lower: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            upper: quantile(&sorted, 0.75),
            p99: quantile(&sorted, 0.99),
            most: last,
        })
    }
}

/// Between two neighbours it is in proportion.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sample is counted in thousands"
    )]
    let (below, position) = {
        let position = (sorted.len() - 1) as f64 * part;
        (position.floor() as usize, position)
    };
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}
