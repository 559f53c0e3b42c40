//! One request while it is followed: its steps so far, and where its parts are. What happened is
//! told by the recorder; here it is put in order, with the time and the memory of each step.

use spec::block::{HEADER_SIZE, status};
use spec::queue::{DescFlags, Descriptor};
use vm_memory::GuestMemoryMmap;

use super::areas::{Areas, Parts};
use super::handler::{Entry, Handler};
use super::story::{Act, Code, Event, Operation, Role, Side, Snapshot, Step};
use super::symbols::Symbols;

/// How many steps are kept at most: a story has some twenty.
const STEPS_MAX: usize = 64;

/// A request that is not told to its end yet.
#[derive(Debug)]
pub struct OpenAct {
    /// What there is of it.
    pub act: Act,
    /// The head of its chain.
    pub head: u16,
    /// Where its parts are.
    pub parts: Parts,
    /// How far it has come.
    pub progress: Progress,
    /// Where on the disk it is, in bytes, where it is sound.
    pub position: Option<u64>,
    /// Whether the exit is over in which the device has served it.
    pub resumed: bool,
    /// How the guest came into its handler.
    pub entry: Option<Entry>,
    /// Where the guest goes on.
    pub awake: Option<Awake>,
    /// Whether an exit is to come that acknowledges the device's interrupt for it.
    pub acknowledged: bool,
    begun: u64,
    /// When the last step was that has a time.
    last: u64,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// The device has it.
    #[default]
    Submitted,
    /// It is in the used ring.
    Used,
    /// The driver has been told, or did not want to be.
    Told,
    /// The driver is in its handler.
    Handled,
    /// It has acknowledged the interrupt.
    Acknowledged,
}

/// The guest, when it leaves for the first time after a request is over.
#[derive(Debug)]
pub struct Awake {
    /// When.
    pub at: u64,
    /// Where it is.
    pub code: Code,
    /// The queue at that moment.
    pub areas: Areas,
}

impl OpenAct {
    /// A request for `operation`, whose chain begins at `head`, and which began at the moment
    /// `begun` with what `before` shows.
    #[must_use]
    pub fn new(
        (operation, sector, len): (Operation, u64, u64),
        head: u16,
        parts: Parts,
        (begun, before): (u64, Snapshot),
    ) -> Self {
        Self {
            act: Act {
                operation,
                sector,
                len,
                before,
                steps: Vec::new(),
            },
            head,
            parts,
            progress: Progress::Submitted,
            position: None,
            resumed: false,
            entry: None,
            awake: None,
            acknowledged: false,
            begun,
            last: begun,
        }
    }

    /// Adds a step, with what `after` shows, at the moment `at`, if it has been timed.
    pub fn push(&mut self, side: Side, at: Option<u64>, event: Event, after: Snapshot) {
        if self.act.steps.len() >= STEPS_MAX {
            return;
        }
        self.act.steps.push(Step {
            side,
            at_ns: at.map(|at| at.saturating_sub(self.begun)),
            since_ns: at.map(|at| at.saturating_sub(self.last)),
            event,
            after,
        });
        if let Some(at) = at {
            self.last = at;
        }
    }

    /// As `push`, with the memory as it is now.
    pub fn push_now(
        &mut self,
        side: Side,
        at: Option<u64>,
        event: Event,
        (areas, memory): (&Areas, &GuestMemoryMmap),
    ) {
        let after = areas.show(memory, &self.parts);
        self.push(side, at, event, after);
    }

    /// Whether the device serves this request when it serves a chain from `head`, which may be
    /// another's later.
    #[must_use]
    pub fn is_served(&self, head: u16) -> bool {
        self.head == head && self.progress == Progress::Submitted
    }

    /// Whether whoever waits for it can go on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let last = match self.acknowledged {
            true => Progress::Acknowledged,
            false => Progress::Told,
        };
        self.progress >= last
    }

    /// How long after the beginning the moment `at` is.
    #[must_use]
    pub fn since_begun(&self, at: u64) -> u64 {
        at.saturating_sub(self.begun)
    }

    /// What the last step shows, or the beginning.
    #[must_use]
    pub fn shown(&self) -> &Snapshot {
        let last = self.act.steps.last();
        last.map_or(&self.act.before, |step| &step.after)
    }

    /// Says what wrote to QueueNotify, which is known only when the device has done its work.
    pub fn notified(&mut self, written: u32, bytes: u8, code: &Code) {
        for step in &mut self.act.steps {
            match &mut step.event {
                Event::Notify { value, by, .. } => (*value, *by) = (written, code.clone()),
                Event::Exit { width, .. } => *width = bytes,
                _ => {}
            }
        }
    }
}

/// Where the parts of a request are whose chain begins at `head`: `descriptors` are those of the
/// chain, in its order, however the driver has cut it.
#[must_use]
pub fn parts(areas: &Areas, head: u16, descriptors: &[Descriptor]) -> Parts {
    let table = areas.chain(head);
    let last = table.last().map(|&index| areas.descriptor(index));
    let indirect = last
        .filter(|last| last.flags.contains(DescFlags::INDIRECT))
        .map(|last| (last.addr, last.len));
    let mut buffers = Vec::new();
    let mut header = HEADER_SIZE as u64;
    for (number, descriptor) in descriptors.iter().enumerate() {
        let (addr, len) = (descriptor.addr, u64::from(descriptor.len));
        let mut add = |role, from: u64, to: u64| {
            if to > from {
                buffers.push((role, addr.wrapping_add(from), to - from));
            }
        };
        if descriptor.flags.contains(DescFlags::WRITE) {
            // The last device-writable byte is the status.
            let status = u64::from(number + 1 == descriptors.len());
            add(Role::Data, 0, len.saturating_sub(status));
            add(Role::Status, len.saturating_sub(status), len);
        } else {
            let of_header = header.min(len);
            header -= of_header;
            add(Role::Header, 0, of_header);
            add(Role::Data, of_header, len);
        }
    }
    Parts {
        table,
        indirect,
        buffers,
    }
}

/// Adds to `act` that the guest enters the `handler` of `vector`, before it looks what the interrupt
/// is for, and that it waited, if it was halted. Neither can be timed.
pub fn enter_handler(act: &mut Act, vector: u8, handler: &Handler, symbols: &Symbols) {
    let first = |step: &Step| matches!(step.event, Event::Register { .. });
    let Some(place) = act.steps.iter().position(first) else {
        return;
    };
    let after = (place.checked_sub(1).and_then(|last| act.steps.get(last)))
        .map_or(act.before.clone(), |step| step.after.clone());
    let step = |side, event| Step {
        side,
        at_ns: None,
        since_ns: None,
        event,
        after: after.clone(),
    };
    let halt = (handler.interrupted.as_ref()).and_then(|(_, halt)| halt.clone());
    let waits = halt.map(|at| step(Side::Driver, Event::Waiting { at }));
    let enters = step(
        Side::Kvm,
        Event::HandlerEntered {
            vector,
            handler: symbols.code(handler.entry, None),
            interrupted: (handler.interrupted.as_ref()).map(|(rip, _)| symbols.code(*rip, None)),
        },
    );
    act.steps
        .splice(place..place, waits.into_iter().chain([enters]));
}

/// The name of a status byte.
#[must_use]
pub fn status_name(value: u8) -> Option<String> {
    let name = match value {
        status::OK => "VIRTIO_BLK_S_OK",
        status::IOERR => "VIRTIO_BLK_S_IOERR",
        status::UNSUPP => "VIRTIO_BLK_S_UNSUPP",
        _ => return None,
    };
    Some(name.into())
}

#[cfg(test)]
#[path = "act_tests.rs"]
mod tests;
