//! CPU time of this process, all of its threads together, by where it was spent. Whose work that
//! was, whoever asks must know.
//!
//! How much it is in all, the kernel knows to the nanosecond. How it is split, a kernel with
//! CONFIG_TICK_CPU_ACCOUNTING estimates from where it finds the process at each tick (every 1 to 10
//! ms), one with CONFIG_VIRT_CPU_ACCOUNTING_GEN measures. Guest time is told in ticks of 10 ms, and
//! is what KVM calls so: one that interprets guests may not.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::ops::AddAssign;
use std::time::Duration;

use super::report::CpuSplit;

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In user space and in guests.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// In guests.
    pub guest: Duration,
}

impl CpuTime {
    /// All of the process up to this moment.
    ///
    /// # Errors
    /// There is no /proc, or the kernel does not tell.
    pub fn now() -> io::Result<Self> {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: it is room for what the call writes, and nothing else is written.
        if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zero is a `rusage`, and the call has filled it in.
        let usage = unsafe { usage.assume_init() };
        Ok(Self {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            guest: guest_time(&fs::read_to_string("/proc/self/stat")?)
                .ok_or(io::ErrorKind::InvalidData)?,
        })
    }

    /// What has come since it was `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            guest: self.guest.saturating_sub(earlier.guest),
        }
    }

    /// The share of one of `count`.
    #[must_use]
    pub fn per(self, count: u64) -> CpuSplit {
        let share = |time: Duration| time.as_nanos() as f64 / count.max(1) as f64;
        CpuSplit {
            guest: share(self.guest),
            kernel: share(self.system),
            vmm: share(self.user.saturating_sub(self.guest)),
        }
    }
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
        self.guest += other.guest;
    }
}

fn duration(time: libc::timeval) -> Duration {
    // Neither is ever negative.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// The guest time in /proc/PID/stat: field 43, of which the second, a name in parentheses, may hold
/// anything.
fn guest_time(stat: &str) -> Option<Duration> {
    let (_, from_third) = stat.rsplit_once(')')?;
    let ticks: u64 = from_third.split_whitespace().nth(43 - 3)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_secs(ticks) / u32::try_from(per_second).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_user_space_is_counted_as_such() {
        let before = CpuTime::now().unwrap();
        let mut time = CpuTime::default();
        // However long it takes to get the CPU for that.
        while time.user < Duration::from_millis(5) {
            std::hint::spin_loop();
            time = CpuTime::now().unwrap().since(before);
        }
        assert_eq!(CpuTime::default().since(time), CpuTime::default());
    }

    #[test]
    fn guest_time_is_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let stat = format!("1 (a ) b) {}", fields.join(" "));
        assert_eq!(guest_time(&stat), Some(Duration::from_millis(430)));
        assert_eq!(guest_time("1 (a) S 1"), None);
        assert_eq!(guest_time(""), None);
    }

    #[test]
    fn the_vmms_own_share_is_user_time_that_is_not_the_guests() {
        let micros = Duration::from_micros;
        let mut time = CpuTime {
            user: micros(30),
            system: micros(5),
            guest: micros(20),
        };
        time += time;
        let split = time.per(2);
        assert_eq!(
            (split.guest, split.kernel, split.vmm),
            (20_000.0, 5_000.0, 10_000.0)
        );
        assert_eq!(CpuTime::default().per(0), CpuSplit::default());
    }
}
