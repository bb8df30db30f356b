//! Several measurements of one thing: the median speaks for them, the range shows how far they lie apart.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One exact value, such as a size.
    pub fn exact(value: f64) -> Samples {
        Samples(vec![value])
    }

    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn median(&self) -> f64 {
        quantile(&self.sorted(), 0.5)
    }

    /// Smallest and largest.
    pub fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (quantile(&sorted, 0.0), quantile(&sorted, 1.0))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// The value below which the share of sorted values lies; between two values, the nearer one, and the middle for the median of an even
/// number. No values: not a number.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    if share == 0.5 { (sorted[at.floor() as usize] + sorted[at.ceil() as usize]) / 2.0 } else { sorted[(at.round() as usize).min(last)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let mut samples = Samples::default();
        assert!(samples.median().is_nan());
        [4.0, 1.0, 3.0, 2.0].into_iter().for_each(|value| samples.push(value));
        assert_eq!((samples.median(), samples.range(), samples.len()), (2.5, (1.0, 4.0), 4));
    }

    #[test]
    fn the_last_percent_is_what_p99_leaves_out() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&sorted, 0.99), 99.0);
        assert_eq!(quantile(&sorted, 1.0), 100.0);
    }
}
