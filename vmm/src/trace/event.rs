//! What is written down of a run as it happens: small values of one size, which borrow nothing. What
//! they mean together, and how they are shown, is not known here.

use std::thread::ThreadId;
use std::time::Instant;

use devices::virtio::block::stats::{DrainCause, RequestKind};

use crate::stats::exits::ExitKind;

/// Something that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds from the start of the trace; for what takes time, when it began.
    pub time: u64,
    /// What.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An exit, which has been handled unless the thread that did so ended with it.
    Exit {
        /// When it had been handled.
        end: u64,
        /// Which kind.
        kind: ExitKind,
        /// Where, for a kind that has an address.
        address: u64,
        /// How many bytes the guest wrote or was answered with.
        len: u32,
        /// The first 8 of them, little endian.
        value: u64,
    },
    /// A drain of a queue began.
    DrainBegins {
        /// What for.
        cause: DrainCause,
        /// The thread that drains.
        thread: ThreadId,
    },
    /// Entries of the available ring were taken.
    Taken {
        /// How many of them were refused.
        refused: u16,
    },
    /// A request is about to be answered, or a chain to be refused.
    Submitted {
        /// Head of its chain.
        head: u16,
        /// How many descriptors the chain has; 0 where it cannot be walked.
        descriptors: u16,
        /// First sector, where there is one.
        sector: Option<u64>,
        /// How many bytes of the disk it is about.
        bytes: u64,
    },
    /// It is in the used ring.
    Completed {
        /// Head of its chain.
        head: u16,
        /// What it was.
        kind: RequestKind,
        /// Whether the host failed it.
        failed: bool,
        /// The status byte, where there was room for one.
        status: Option<u8>,
        /// `used.len`.
        written: u32,
        /// Running index in the used ring.
        used: u16,
    },
    /// A drain ended.
    DrainEnds {
        /// Whether there is more to do.
        more: bool,
        /// Whether the driver is about to be interrupted.
        interrupts: bool,
    },
    /// The driver has been interrupted.
    Interrupted {
        /// Whether that was for used buffers; if not, DEVICE_NEEDS_RESET was set.
        used_buffer: bool,
    },
}

impl Event {
    /// What is in a place where there has been no event yet.
    pub const FILLER: Self = Self {
        time: u64::MAX,
        what: What::DrainEnds {
            more: false,
            interrupts: false,
        },
    };
}

/// The clock of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it started, in nanoseconds: enough for 584 years.
    #[must_use]
    pub fn now(self) -> u64 {
        let time = self.0.elapsed();
        time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
    }
}
