//! Keeps the CPUs of the host out of their idle states while something is measured that sleeps and
//! is woken. Takes no time from any other thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use rustix::thread::CpuSet;

use super::error::{BenchError, cannot};
use crate::pin;

/// A thread on each CPU that this process may use, which spins when nobody else wants that CPU
/// (SCHED_IDLE); on one that is not, there is none to be kept awake for. Dropping this ends them.
pub struct Awake {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    /// Starts to keep the CPUs busy.
    ///
    /// # Errors
    /// Where there can be no threads for it.
    pub fn new() -> Result<Self, BenchError> {
        let mut awake = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        // SAFETY: the call takes no pointer.
        let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
        for cpu in 0..usize::try_from(cpus).unwrap_or(0).min(CpuSet::MAX_CPU) {
            let stop = Arc::clone(&awake.stop);
            let thread = Builder::new()
                .name("bench-awake".into())
                .spawn(move || {
                    let run_when_idle = run_when_idle(cpu);
                    while run_when_idle && !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
                .map_err(cannot("start a thread that keeps a CPU awake"))?;
            awake.threads.push(thread);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been reported by the hook that reports them all.
            let _ = thread.join();
        }
    }
}

/// Makes this thread one that runs on `cpu` when nobody else does; returns whether it is.
fn run_when_idle(cpu: usize) -> bool {
    let idle = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `idle`, and changes the scheduling of this thread alone.
    let lowered = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle) } == 0;
    lowered && pin::stay_on(cpu).is_ok()
}
