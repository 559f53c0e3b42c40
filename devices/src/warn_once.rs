//! A log line for each kind of misuse, once: a guest that repeats a mistake must not be able to
//! flood the log of the host.

use std::sync::atomic::{AtomicU32, Ordering};

/// Which kinds have been warned of, of at most 32.
#[derive(Debug, Default)]
pub(crate) struct WarnOnce(AtomicU32);

impl WarnOnce {
    /// Whether this is the first time that `kind`, a number below 32, is seen.
    pub(crate) fn first(&self, kind: u32) -> bool {
        let bit = 1_u32.wrapping_shl(kind);
        self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::WarnOnce;

    #[test]
    fn each_kind_is_reported_the_first_time_only() {
        let warned = WarnOnce::default();
        assert!(warned.first(3));
        assert!(!warned.first(3));
        assert!(warned.first(4));
    }
}
