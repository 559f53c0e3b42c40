//! Follows a machine while it runs, and turns what it sees into the negotiation and the acts of a
//! story: exits on the vCPU's thread, and what the device does while one of them is handled. It
//! changes nothing, and what it cannot see it leaves out.

mod queue;

use devices::virtio::block::QUEUE_SIZE;
use devices::virtio::queue::{QueueLayout, QueueRegisters};
use spec::board::VIRTIO_MMIO_SIZE;
use spec::mmio::Register;
use vm_memory::GuestMemoryMmap;

use super::act::{self, Awake, OpenAct, Progress};
use super::areas::Areas;
use super::clock::Clock;
use super::console::{Console, Testimony};
use super::handler;
use super::instruction::{Access as Instruction, Place};
use super::negotiation::Negotiation;
use super::registers;
use super::site::Site;
use super::story::{self, Act, Code, Direction, Event, Queue, Side};
use super::symbols::Symbols;
use crate::config::Registers;
use crate::layout::VirtioMmio;
use crate::observe::HandledExit;
use crate::stats::exits::{ExitKind, ExitSite};

/// The vCPU that is followed, the only one.
const VCPU: u32 = 0;

/// What has been seen of a machine.
#[derive(Debug)]
pub struct Recorder {
    clock: Clock,
    window: VirtioMmio,
    registers: Registers,
    symbols: Symbols,
    memory: GuestMemoryMmap,
    /// What is said in registers, in this life of the device.
    negotiation: Negotiation,
    /// What was said in the one before it, or in the one that there are acts of.
    earlier: Option<Negotiation>,
    /// What was said on the console.
    pub console: Console,
    /// The requests that have been told.
    pub acts: Vec<Act>,
    /// How the guest came into its handler, by act.
    entries: Vec<Option<handler::Entry>>,
    open: Option<OpenAct>,
    /// The queue, while the device is live.
    live: Option<Queue>,
    /// How many exits there have been.
    pub exits: u64,
    /// When the exit began that is being handled.
    begun: u64,
    /// The queue as it was when the guest was entered last.
    entered: Option<(u64, Areas)>,
    /// The notification that is being handled: the queue as the driver has left it.
    notified: Option<Areas>,
    /// What the device has taken from the available ring.
    taken: Option<Taken>,
    drain_from: u16,
}

/// A look of the device into the available ring.
#[derive(Clone, Debug)]
struct Taken {
    at: u64,
    from: u16,
    heads: Vec<u16>,
    refused: u16,
    avail_idx: u16,
    areas: Areas,
}

impl Recorder {
    /// Of nothing so far, for the device at `window`, whose registers are such to the guest, and a
    /// guest with these functions.
    #[must_use]
    pub fn new(window: VirtioMmio, registers: Registers, symbols: Symbols) -> Self {
        Self {
            clock: Clock::new(),
            window,
            registers,
            symbols,
            memory: GuestMemoryMmap::default(),
            negotiation: Negotiation::default(),
            earlier: None,
            console: Console::default(),
            acts: Vec::new(),
            entries: Vec::new(),
            open: None,
            live: None,
            exits: 0,
            begun: 0,
            entered: None,
            notified: None,
            taken: None,
            drain_from: 0,
        }
    }

    /// The RAM of the machine. To be told before the guest runs.
    pub fn set_memory(&mut self, memory: GuestMemoryMmap) {
        self.memory = memory;
    }

    /// What was said in registers before the acts; or, where there are none, in the last life of the
    /// device in which it was said to its end, if in any.
    #[must_use]
    pub fn negotiation(&self) -> &Negotiation {
        match &self.earlier {
            Some(earlier) if !self.acts.is_empty() || !self.negotiation.is_complete() => earlier,
            _ => &self.negotiation,
        }
    }

    /// Does `see` while the clock stands, and gives it the time.
    pub fn watch(&mut self, see: impl FnOnce(&mut Self, u64)) {
        let now = self.clock.stop();
        see(self, now);
        self.clock.go();
    }

    /// Whether a read and a write have been told to their end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.acts.len() == 2
    }

    /// Whether all has been seen of a read and a write but that somebody goes on, which not every
    /// guest says.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let told = (self.open.as_ref()).is_some_and(|open| open.progress >= Progress::Told);
        self.acts.len() + usize::from(told) == 2
    }

    /// Counts a request as told that is not.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.tell(open);
        }
    }

    fn tell(&mut self, open: OpenAct) {
        self.entries.push(open.entry);
        self.acts.push(open.act);
    }

    /// Says by which vector the device interrupts: what handler the guest has entered is known then.
    pub fn set_vector(&mut self, vector: u8) {
        for (act, entry) in self.acts.iter_mut().zip(&self.entries) {
            if let Some(handler) = entry.as_ref().and_then(|entry| entry.handler(vector)) {
                act::enter_handler(act, vector, &handler, &self.symbols);
            }
        }
    }

    /// KVM_RUN has returned.
    pub fn exit_begins(&mut self, site: ExitSite, now: u64) {
        self.exits += 1;
        self.begun = now;
        if self.register(site) == Some((Register::QueueNotify, Direction::Write)) {
            self.notified = self.areas();
        }
    }

    /// What KVM_RUN has returned with has been handled.
    pub fn exit_ends(&mut self, exit: &HandledExit<'_>, now: u64) {
        if let Some((direction, offset)) = self.access(exit.site) {
            let value = exit.value;
            let width = u8::try_from(exit.len).unwrap_or(u8::MAX);
            let access = Instruction {
                place: Place::Memory(self.window.base + offset),
                width,
                write: direction == Direction::Write,
            };
            let (by, next) = self.code(exit, &access);
            let meaning = registers::meaning(offset, direction, value, &self.negotiation.selectors);
            let access = story::Access {
                at_ns: None,
                direction,
                offset,
                register: registers::name(offset),
                width,
                value,
                meaning,
                by,
            };
            self.accessed(exit, access, next, now);
        } else {
            self.goes_on(exit, None);
            if let Some(byte) = self.console.byte(exit) {
                self.printed(byte);
            }
        }
        self.entered = self.areas().map(|areas| (now, areas));
        self.notified = None;
        self.taken = None;
    }

    /// The driver has accessed the device.
    fn accessed(
        &mut self,
        exit: &HandledExit<'_>,
        access: story::Access,
        next: Option<u64>,
        now: u64,
    ) {
        let register = self.register(exit.site);
        if self.live.is_none() {
            self.negotiation.add(access, self.begun);
            let queue = self.negotiation.live_queue();
            self.live = queue.filter(|queue| is_accepted(queue, &self.memory));
            return;
        }
        let by = access.by.clone();
        match register {
            Some((Register::QueueNotify, Direction::Write)) => self.resumed(&access, next, now),
            Some((Register::Status, Direction::Write)) if access.value == 0 => {
                self.live = None;
                let nothing_told = self.acts.is_empty() && self.open.is_none();
                let ended = std::mem::take(&mut self.negotiation);
                if nothing_told || self.earlier.is_none() {
                    self.earlier = Some(ended);
                }
                self.negotiation.add(access, self.begun);
            }
            Some((Register::InterruptStatus | Register::InterruptACK, _)) => {
                self.in_handler(exit, access);
            }
            _ => self.goes_on(exit, Some(&by)),
        }
    }

    /// The notification has been handled, and the guest goes on.
    fn resumed(&mut self, access: &story::Access, next: Option<u64>, now: u64) {
        let at = next.map(|rip| self.symbols.code(rip, None));
        let areas = self.areas();
        if let (Some(open), Some(areas)) = (&mut self.open, areas)
            && !std::mem::replace(&mut open.resumed, true)
        {
            open.notified(access.value as u32, access.width, &access.by);
            let event = Event::Resumed { vcpu: VCPU, at };
            open.push_now(Side::Kvm, Some(now), event, (&areas, &self.memory));
        }
    }

    /// The driver looks what the interrupt is for, or says that it has.
    fn in_handler(&mut self, exit: &HandledExit<'_>, mut access: story::Access) {
        let (Some(areas), memory) = (self.areas(), &self.memory) else {
            return;
        };
        let Some(open) = self
            .open
            .as_mut()
            .filter(|open| open.progress >= Progress::Told)
        else {
            return;
        };
        let reading = access.direction == Direction::Read;
        if reading && open.progress == Progress::Told {
            open.progress = Progress::Handled;
            let site = Site {
                vcpu: exit.vcpu,
                memory,
                symbols: &self.symbols,
            };
            open.entry = handler::Entry::look(&site);
        }
        if open.progress == Progress::Handled {
            access.at_ns = Some(open.since_begun(self.begun));
            let event = Event::Register { access };
            open.push_now(Side::Driver, Some(self.begun), event, (&areas, memory));
            if !reading {
                open.progress = Progress::Acknowledged;
            }
        }
    }

    /// The guest leaves for the first time since it has acknowledged its interrupt, or since the
    /// request is in the used ring where it is not interrupted: if it says later that it has waited
    /// for the request, this is where it goes on.
    fn goes_on(&mut self, exit: &HandledExit<'_>, by: Option<&Code>) {
        let awaited =
            (self.open.as_ref()).is_some_and(|open| open.awake.is_none() && open.is_over());
        if !awaited {
            return;
        }
        let access = Instruction {
            place: match (exit.site.kind, exit.site.address) {
                (ExitKind::PioIn | ExitKind::PioOut, Some(port)) => Place::Port(port as u16),
                (_, address) => Place::Memory(address.unwrap_or_default()),
            },
            width: u8::try_from(exit.len).unwrap_or(u8::MAX),
            write: matches!(exit.site.kind, ExitKind::PioOut | ExitKind::MmioWrite),
        };
        let code = by.cloned().unwrap_or_else(|| self.code(exit, &access).0);
        let (at, areas) = (self.begun, self.areas());
        if let Some(open) = &mut self.open {
            open.awake = areas.map(|areas| Awake { at, code, areas });
        }
    }

    /// The guest has written `byte` to its console.
    fn printed(&mut self, byte: u8) {
        if let Some(testimony) = self.console.push(byte)
            && let Some(mut open) = self.open.take_if(|open| open.is_over())
        {
            if let Some(Awake { at, code, areas }) = open.awake.take() {
                let event = Event::Woken { at: code };
                open.push_now(Side::Driver, Some(at), event, (&areas, &self.memory));
            }
            if let Some(areas) = self.areas() {
                let Testimony {
                    head,
                    written,
                    status,
                } = testimony;
                // When it was seen is not seen: it is said later.
                let event = Event::UsedSeen {
                    used_idx: areas.used_idx(),
                    id: head,
                    len: written,
                    status,
                    name: act::status_name(status),
                };
                open.push_now(Side::Driver, None, event, (&areas, &self.memory));
            }
            self.tell(open);
        }
    }

    /// The areas as they are, while the device is live.
    fn areas(&self) -> Option<Areas> {
        let queue = self.live.as_ref()?;
        Some(Areas::read(&self.memory, queue))
    }

    /// What an exit at `site` accesses of the device: in which direction, at which offset.
    fn access(&self, site: ExitSite) -> Option<(Direction, u64)> {
        let direction = match site.kind {
            ExitKind::MmioRead => Direction::Read,
            ExitKind::MmioWrite => Direction::Write,
            _ => return None,
        };
        let offset = site.address?.checked_sub(self.window.base)?;
        (offset < VIRTIO_MMIO_SIZE).then_some((direction, offset))
    }

    fn register(&self, site: ExitSite) -> Option<(Register, Direction)> {
        let (direction, offset) = self.access(site)?;
        Some((Register::at(offset)?, direction))
    }

    /// Where the guest was that made `access`, and where it goes on.
    fn code(&self, exit: &HandledExit<'_>, access: &Instruction) -> (Code, Option<u64>) {
        let site = Site {
            vcpu: exit.vcpu,
            memory: &self.memory,
            symbols: &self.symbols,
        };
        site.of(access).unwrap_or_default()
    }
}

/// Whether the device takes this queue: then each of its areas is RAM.
fn is_accepted(queue: &Queue, memory: &GuestMemoryMmap) -> bool {
    let registers = QueueRegisters {
        num: queue.size.into(),
        desc: queue.descriptor_area,
        driver: queue.driver_area,
        device: queue.device_area,
    };
    QueueLayout::new(&registers, QUEUE_SIZE, memory).is_ok()
}
