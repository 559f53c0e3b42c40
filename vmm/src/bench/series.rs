//! What measurements come to: order statistics, the mean, and how certain the mean is. Knows
//! nothing of what was measured.

use super::report::{Series, Summary};

impl Series {
    /// The series of `samples`, in the order in which they were made. Of none, all figures are 0.
    #[must_use]
    pub fn new(samples: Vec<f64>) -> Self {
        let summary = Summary::of(&samples);
        Self { samples, summary }
    }

    /// Each sample by that of `base` that was taken beside it, where that makes sense: what slows the
    /// host down for longer than both take is in both, and cancels out.
    #[must_use]
    pub fn ratio(&self, base: &Self) -> Option<Self> {
        let sound = base.samples.iter().all(|&base| base > 0.0);
        sound.then(|| self.beside(base, |value, base| value / base))?
    }

    /// By how much each sample is above that of `base` that was taken beside it.
    #[must_use]
    pub fn difference(&self, base: &Self) -> Option<Self> {
        self.beside(base, |value, base| value - base)
    }

    fn beside(&self, base: &Self, of: fn(f64, f64) -> f64) -> Option<Self> {
        let pairs = self.samples.iter().zip(&base.samples);
        let all = self.samples.len() == base.samples.len();
        all.then(|| Self::new(pairs.map(|(&value, &base)| of(value, base)).collect()))
    }
}

impl Summary {
    /// What `samples`, in any order, come to; 0 where there are none.
    ///
    /// The interval of the mean is Student's: exact for samples that are normally distributed, and
    /// near enough for many of any distribution. Of a single sample it is 0.
    #[must_use]
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (mean, mean_ci95) = mean_with_ci95(&sorted);
        Self {
            min: quantile(&sorted, 0.0),
            median: median(&sorted),
            p99: quantile(&sorted, 0.99),
            mean,
            mean_ci95,
        }
    }
}

/// The middle one of `sorted`, or the mean of the two in the middle; 0 where there are none.
#[must_use]
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len().is_multiple_of(2)) {
        (None, _) => 0.0,
        (Some(&upper), true) => {
            f64::midpoint(sorted.get(middle - 1).copied().unwrap_or(upper), upper)
        }
        (Some(&middle), false) => middle,
    }
}

/// The least of `sorted` that a share of `q` (0 to 1) of them do not exceed; 0 where there are none.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    // The nearest rank: a whole number from 0 to the length.
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Mean of `samples`, and half the width of its interval of confidence.
fn mean_with_ci95(samples: &[f64]) -> (f64, f64) {
    let count = samples.len();
    if count == 0 {
        return (0.0, 0.0);
    }
    let mean = samples.iter().sum::<f64>() / count as f64;
    if count == 1 {
        return (mean, 0.0);
    }
    let freedom = count - 1;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    let deviation = (squares / freedom as f64).sqrt();
    (mean, t95(freedom) * deviation / (count as f64).sqrt())
}

/// The value that Student's t with `freedom` degrees of freedom (1 or more) does not exceed in
/// magnitude with a probability of 95 %.
fn t95(freedom: usize) -> f64 {
    const FEW: [f64; 6] = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469];
    if let Some(&value) = FEW.get(freedom - 1) {
        return value;
    }
    // The first terms of the expansion in 1/freedom around the normal distribution; off by less
    // than 0.001 from 7 on.
    let z: f64 = 1.959_964;
    let v = freedom as f64;
    z + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v.powi(2))
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
