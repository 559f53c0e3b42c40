//! Time as the story has it: it stands still while somebody watches, or the story would be one of its
//! own telling.

use std::time::Instant;

/// A clock that is stopped while what it times is looked at.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// How long it has stood still, in nanoseconds.
    stopped: u64,
    /// Where it stands, and since when.
    stands: Option<(u64, Instant)>,
}

impl Clock {
    /// A clock that runs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            stopped: 0,
            stands: None,
        }
    }

    /// Stops the clock, and returns where it stands, in nanoseconds.
    pub fn stop(&mut self) -> u64 {
        if let Some((moment, _)) = self.stands {
            return moment;
        }
        let now = Instant::now();
        let moment = nanoseconds(self.start, now).saturating_sub(self.stopped);
        self.stands = Some((moment, now));
        moment
    }

    /// Lets it go on.
    pub fn go(&mut self) {
        if let Some((_, since)) = self.stands.take() {
            self.stopped += nanoseconds(since, Instant::now());
        }
    }
}

fn nanoseconds(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_stands_still_while_it_is_stopped_and_never_goes_back() {
        let mut clock = Clock::new();
        std::thread::sleep(Duration::from_millis(2));
        let first = clock.stop();
        assert!(first >= 2_000_000);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(clock.stop(), first);
        clock.go();
        let second = clock.stop();
        assert!(
            second >= first && second - first < 50_000_000,
            "{first} {second}"
        );
    }
}
