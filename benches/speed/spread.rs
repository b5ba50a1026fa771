//! The median and the spread of a sample.

#[derive(Clone, Copy)]
pub struct Spread {
    pub count: usize,
    pub lower_quartile: f64,
    pub median: f64,
    pub upper_quartile: f64,
    pub p99: f64,
}

impl Spread {
    /// `None` for an empty sample.
    pub fn of(mut sample: Vec<f64>) -> Option<Self> {
        sample.sort_by(f64::total_cmp);
        let last = sample.len().checked_sub(1)?;
        let percentile = |percent: usize| sample[last * percent / 100];
        Some(Self {
            count: sample.len(),
            lower_quartile: percentile(25),
            median: percentile(50),
            upper_quartile: percentile(75),
            p99: percentile(99),
        })
    }
}
