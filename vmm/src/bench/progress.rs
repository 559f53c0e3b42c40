//! How far a benchmark has come, for somebody who waits for it. What measures calls a [`Progress`]
//! between its samples, never within one.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, c_int};

use crate::signals;

/// Somebody who is told how far a benchmark has come.
pub trait Progress {
    /// A part begins, named `what`, of `steps` steps.
    fn begin(&mut self, what: &str, steps: u64);
    /// A step of that part begins, concerned with `now`.
    fn step(&mut self, now: &str);
}

/// Nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _what: &str, _steps: u64) {}
    fn step(&mut self, _now: &str) {}
}

/// A line on stderr that is drawn again at every step and gone at the end, also at one by a signal;
/// nothing where stderr is no terminal. No thread of its own draws it, since that would be measured
/// too.
pub struct Bar(Option<Part>);

/// Takes the line away that the cursor is in.
const CLEAR: &[u8] = b"\r\x1b[K";

impl Bar {
    /// Nothing is drawn yet.
    #[must_use]
    pub fn on_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
                clear_before(signal);
            }
        }
        Self(None)
    }
}

/// Has `signal`, if it ends the process, take the line away first.
fn clear_before(signal: c_int) {
    if signals::is_ignored(signal).unwrap_or(true) {
        return;
    }
    let handler: extern "C" fn(c_int) = clear_and_end;
    // SAFETY: all zero is a `sigaction`: one without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: the call reads `action`, whose handler makes only calls that a handler may make. Where
    // it fails the line stays.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

/// The handler: as it is not set any more, the same signal once more ends the process when this
/// returns. A terminal that takes nothing does not hold up the end.
extern "C" fn clear_and_end(signal: c_int) {
    let mut stderr = libc::pollfd {
        fd: libc::STDERR_FILENO,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: `stderr` is the one structure that the call is told of, and `CLEAR` as long as the
    // other is; all calls are async-signal-safe.
    unsafe {
        if libc::poll(&raw mut stderr, 1, 0) == 1 {
            libc::write(stderr.fd, CLEAR.as_ptr().cast(), CLEAR.len());
        }
        libc::raise(signal);
    }
}

/// The part that is under way.
struct Part {
    bar: ProgressBar,
    /// How many steps have begun.
    begun: u64,
}

impl Progress for Bar {
    fn begin(&mut self, what: &str, steps: u64) {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        // A template that is wrong would be so for everybody: the default is drawn instead.
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        self.0 = Some(Part { bar, begun: 0 });
    }

    fn step(&mut self, now: &str) {
        if let Some(part) = &mut self.0 {
            part.bar.set_message(now.to_owned());
            part.bar.set_position(part.begun);
            part.begun += 1;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
