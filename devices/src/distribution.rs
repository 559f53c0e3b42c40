//! How a quantity is distributed: a histogram whose size depends on the range of the values and not
//! on their number. It does not know what the quantity is.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// How many decimal digits of a value count: what is told of values is right to within 1 %.
const SIGNIFICANT_DIGITS: u8 = 2;

/// A distribution of values, each known to within 1 %. It takes 2 KiB, and up to 60 KiB where
/// values are far apart.
#[derive(Clone)]
pub struct Distribution(Histogram<u64>);

impl Distribution {
    /// A distribution of no values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value`.
    pub fn record(&mut self, value: u64) {
        // It grows to hold any value; if it could not, the value would count as its largest.
        if self.0.record(value).is_err() {
            self.0.saturating_record(value);
        }
    }

    /// Adds `time`, in nanoseconds.
    pub fn record_time(&mut self, time: Duration) {
        self.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The mean of the values, 0 where there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The value that the share `quantile` of all values, from 0 to 1, does not exceed; 0 where
    /// there are no values.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The least value, 0 where there are none.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.count() == 0 { 0 } else { self.0.min() }
    }

    /// The largest value, 0 where there are none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// Adds all values of `other`.
    pub fn add(&mut self, other: &Self) {
        // Only a histogram that may not grow refuses a value.
        if let Err(error) = self.0.add(&other.0) {
            log::error!("cannot add distributions: {error:?}");
        }
    }
}

impl Default for Distribution {
    fn default() -> Self {
        let Ok(histogram) = Histogram::new(SIGNIFICANT_DIGITS) else {
            unreachable!("a histogram takes from 0 to 5 digits");
        };
        Self(histogram)
    }
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("max", &self.max())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Distribution {
        let mut distribution = Distribution::new();
        for value in values {
            distribution.record(value);
        }
        distribution
    }

    #[track_caller]
    fn assert_near(told: u64, real: u64) {
        assert!(told.abs_diff(real) * 100 <= real, "{told} for {real}");
    }

    #[test]
    fn without_values_everything_is_0() {
        let none = Distribution::new();
        assert_eq!((none.count(), none.quantile(0.5)), (0, 0));
        assert_eq!((none.min(), none.max()), (0, 0));
        assert_eq!(none.mean(), 0.0);
    }

    #[test]
    fn quantiles_are_right_to_within_one_percent_over_the_whole_range() {
        let values = of((1..=1000).map(|n| n * 1_000_000));
        assert_eq!(values.count(), 1000);
        assert_near(values.quantile(0.5), 500_000_000);
        assert_near(values.quantile(0.99), 990_000_000);
        assert_near(values.max(), 1_000_000_000);
        assert_near(of([u64::MAX]).max(), u64::MAX);
    }

    #[test]
    fn small_values_are_exact() {
        let values = of([2, 3, 3, 200]);
        assert_eq!(
            (values.min(), values.quantile(0.5), values.max()),
            (2, 3, 200)
        );
        assert_eq!(values.mean(), 52.0);
        assert_eq!(of([0, 5]).min(), 0);
    }

    #[test]
    fn times_are_in_nanoseconds() {
        let mut times = Distribution::new();
        times.record_time(Duration::from_micros(1));
        assert_near(times.max(), 1000);
        times.record_time(Duration::MAX);
        assert_near(times.max(), u64::MAX);
    }
}
