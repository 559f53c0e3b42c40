//! Latencies of requests, as many as there are, and their percentiles. How they were taken is not
//! its matter.

use hdrhistogram::Histogram;

use super::report::Latency;

/// How many decimal digits of a latency count: percentiles are right to within 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latencies, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Adds all of `others`.
    pub fn add(&mut self, others: &Self) {
        // Only a histogram that may not grow refuses a value.
        if let Err(error) = self.0.add(&others.0) {
            log::error!("cannot add latencies: {error:?}");
        }
    }

    /// What they come to; all 0 where there are none.
    #[must_use]
    pub fn summary(&self) -> Latency {
        Latency {
            count: self.0.len(),
            min: self.0.min(),
            p50: self.0.value_at_quantile(0.5),
            p99: self.0.value_at_quantile(0.99),
            p999: self.0.value_at_quantile(0.999),
            max: self.0.max(),
        }
    }
}

impl Extend<u64> for Latencies {
    fn extend<T: IntoIterator<Item = u64>>(&mut self, nanoseconds: T) {
        // It grows to hold any value; if it could not, the value would count as its largest.
        for value in nanoseconds {
            if self.0.record(value).is_err() {
                self.0.saturating_record(value);
            }
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let Ok(histogram) = Histogram::new(SIGNIFICANT_DIGITS) else {
            unreachable!("a histogram takes from 0 to 5 digits");
        };
        Self(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_none_all_figures_are_0() {
        assert_eq!(Latencies::default().summary(), Latency::default());
    }

    #[test]
    fn percentiles_are_right_to_within_a_thousandth() {
        let (mut latencies, mut others) = (Latencies::default(), Latencies::default());
        latencies.extend((1..=5_000).map(|n| n * 1_000));
        others.extend((5_001..=10_000).map(|n| n * 1_000));
        latencies.add(&others);
        let found = latencies.summary();
        assert_eq!(found.count, 10_000);
        for (found, real) in [
            (found.min, 1_000),
            (found.p50, 5_000_000),
            (found.p99, 9_900_000),
            (found.p999, 9_990_000),
            (found.max, 10_000_000),
        ] {
            assert!(found.abs_diff(real) * 1_000 <= real, "{found} for {real}");
        }
    }
}
