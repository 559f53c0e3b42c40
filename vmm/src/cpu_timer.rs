//! A timer of the CPU time of the thread that starts it: a vCPU that runs on and on leaves KVM_RUN now
//! and then, and one whose guest waits is left alone.

use std::io;
use std::mem;
use std::ptr;
use std::time::Duration;

use libc::c_int;

/// The timer, which interrupts its thread by a signal until this is dropped.
#[derive(Debug)]
pub struct CpuTimer(libc::timer_t);

impl CpuTimer {
    /// Sends `signal` to the calling thread each time that it has used another `period` of CPU time,
    /// of which that of a guest is a part. The host's clock tick may make it longer.
    ///
    /// # Errors
    /// The host has no timer for it.
    pub fn start(signal: c_int, period: Duration) -> io::Result<Self> {
        // SAFETY: all of it are integers and pointers, for which 0 is a value.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // Not libc's, which is a null pointer where it is linked statically: the standard library has a
        // weak reference to it.
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut id = ptr::null_mut();
        // SAFETY: both live until it returns, and are written by nobody else.
        check(unsafe { libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &mut event, &mut id) })?;
        let timer = Self(id);
        let period = libc::timespec {
            tv_sec: period.as_secs().cast_signed(),
            tv_nsec: period.subsec_nanos().into(),
        };
        let every = libc::itimerspec {
            it_interval: period,
            it_value: period,
        };
        // SAFETY: the timer is ours, the times are read, and nobody wants the ones before.
        check(unsafe { libc::timer_settime(timer.0, 0, &every, ptr::null_mut()) })?;
        Ok(timer)
    }
}

impl Drop for CpuTimer {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, and nobody has it after this.
        if let Err(error) = check(unsafe { libc::timer_delete(self.0) }) {
            log::error!("cannot delete the timer of a vCPU: {error}");
        }
    }
}

fn check(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[path = "cpu_timer_tests.rs"]
mod tests;
