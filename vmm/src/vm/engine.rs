//! Which engine a disk has: what was asked for, what there is to find out, and what is said of that. How
//! an engine works is not known here.

use std::io;

use devices::virtio::block::engine::trial::Trial;
use devices::virtio::block::{Block, BlockBackend};
use log::warn;

use crate::config::{DiskConfig, Engine};
use crate::logger::say;

/// The engine that `disk`, on `backend`, is to have. With engine=auto that is found out, and said on
/// stderr.
pub fn choose(disk: &DiskConfig, backend: &dyn BlockBackend) -> Engine {
    if disk.engine != Engine::Auto {
        return disk.engine;
    }
    let (engine, reason) = match Trial::new(backend) {
        Ok(trial) => judge(&trial),
        Err(error) => (Engine::Sync, format!("it could not be read ({error})")),
    };
    let (id, name) = (&disk.id, engine.name());
    say(&format!("disk '{id}': engine=auto chose {name}: {reason}"));
    engine
}

/// The engine for a disk that has been tried out, and why that one.
fn judge(trial: &Trial) -> (Engine, String) {
    let Trial { reads, median } = trial;
    let time = format!(
        "{reads} reads of 4 KiB took {:.1} us each",
        median.as_secs_f64() * 1e6
    );
    match trial.is_prompt() {
        true => (Engine::Sync, format!("{time}, as from the host's memory")),
        false => (Engine::IoUring, format!("{time}, which are waited for")),
    }
}

/// Has `block`, which is `disk`, transfer data by the engine that is `wanted`, and returns the one that
/// it has: system calls are what there is where there is no io_uring, which is said on stderr.
pub fn set(block: &mut Block, disk: &DiskConfig, wanted: Engine) -> Engine {
    if wanted != Engine::IoUring {
        return Engine::Sync;
    }
    match use_io_uring(block, disk.sqpoll) {
        Ok(()) => Engine::IoUring,
        Err(error) => {
            let (id, reason) = (&disk.id, io_uring_reason(&error));
            warn!("disk '{id}': engine=sync in place of io_uring: {reason}");
            Engine::Sync
        }
    }
}

#[cfg(feature = "io-uring")]
fn use_io_uring(block: &mut Block, sqpoll: bool) -> io::Result<()> {
    block.use_io_uring(sqpoll)
}

#[cfg(not(feature = "io-uring"))]
fn use_io_uring(_: &mut Block, _: bool) -> io::Result<()> {
    Err(io::Error::other("this vmm has been built without it"))
}

/// Why there is no io_uring, or it did not do its work.
pub fn io_uring_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has no io_uring".into(),
        Some(libc::EPERM) => {
            "io_uring is forbidden here (by seccomp, or by sysctl kernel.io_uring_disabled)".into()
        }
        Some(libc::ENOMEM) => "there is not enough memory that it may lock (see ulimit -l)".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn io_uring_that_is_missing_or_forbidden_is_told_in_words() {
        let reason = |errno| io_uring_reason(&io::Error::from_raw_os_error(errno));
        assert!(reason(libc::ENOSYS).contains("no io_uring"));
        assert!(reason(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(reason(libc::ENOMEM).contains("memory"));
        assert!(reason(libc::EIO).contains("Input/output error"));
    }

    #[test]
    fn a_disk_that_answers_at_once_is_left_to_system_calls_and_one_that_is_waited_for_is_not() {
        let trial = |nanoseconds| Trial {
            reads: 8,
            median: Duration::from_nanos(nanoseconds),
        };
        let (engine, reason) = judge(&trial(640));
        assert_eq!(engine, Engine::Sync);
        assert_eq!(
            reason,
            "8 reads of 4 KiB took 0.6 us each, as from the host's memory"
        );
        let (engine, reason) = judge(&trial(110_000));
        assert_eq!(engine, Engine::IoUring);
        assert_eq!(
            reason,
            "8 reads of 4 KiB took 110.0 us each, which are waited for"
        );
    }
}
