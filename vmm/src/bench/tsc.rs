//! How fast the TSC of a guest counts, as whoever interprets its times must know. Interprets none.

use std::time::Duration;

use spec::bench::{Command, Kind};

use super::error::BenchError;
use super::floor::Floor;

/// How long the guest counts at least for a sample, and how long it may take.
const TIME: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(10);
const SAMPLES: u32 = 5;

/// Frequency of the TSC of a guest such as that of `floor`, in kHz: KVM's figure, or that of
/// [`khz_by_clock`] where KVM has none.
///
/// # Errors
/// As for [`khz_by_clock`].
pub fn khz(floor: &mut Floor) -> Result<u32, BenchError> {
    match floor.tsc_khz() {
        Some(khz) => Ok(khz),
        None => khz_by_clock(floor),
    }
}

/// The same by the host's clock. What the guest counts lies within what the clock measures, so that
/// whatever disturbs the guest makes its TSC look slow: the fastest of some samples is nearest.
///
/// # Errors
/// Where the guest does not come back from an empty loop.
pub fn khz_by_clock(floor: &mut Floor) -> Result<u32, BenchError> {
    let mut command = Command::new(Kind::Empty, 1000);
    let (mut fastest, mut samples) = (0.0, 0);
    while samples < SAMPLES {
        let done = floor.control.perform(&command, LIMIT)?;
        if done.wall < TIME {
            command.iterations = command.iterations.saturating_mul(4);
            continue;
        }
        let khz = done.outcome.ticks as f64 / done.wall.as_secs_f64() / 1e3;
        fastest = f64::max(fastest, khz);
        samples += 1;
    }
    Ok(fastest as u32)
}
