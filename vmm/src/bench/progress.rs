//! How far a benchmark has come, for somebody who waits for it. What measures calls a [`Progress`]
//! between its samples, never within one.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// A line on stderr that is drawn again at every step and gone at the end; nothing where stderr is
/// no terminal. No thread of its own draws it, since that would be measured too.
#[derive(Default)]
pub struct Bar(Option<Part>);

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
