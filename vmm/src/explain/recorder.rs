//! Follows a machine while it runs, and turns what it sees into the negotiation and the acts of a
//! story: exits on the vCPU's thread, and what the device does while one of them is handled. It
//! changes nothing, and what it cannot see it leaves out.

use devices::virtio::block::disk::Answer;
use devices::virtio::block::request::{Operation, ParseError, Request};
use devices::virtio::queue::Batch;
use spec::block::{HEADER_SIZE, REQUEST_QUEUE, RequestHeader, request_type};
use spec::board::VIRTIO_MMIO_SIZE;
use spec::mmio::{InterruptStatus, Register};
use spec::queue::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::act::{self, OpenAct, Progress};
use super::areas::{self, Areas, Parts};
use super::clock::Clock;
use super::console::{Console, Testimony};
use super::handler;
use super::instruction::{Access as Instruction, Place};
use super::negotiation::Negotiation;
use super::registers;
use super::site::Site;
use super::story::{self, Act, Code, Direction, Event, Queue, Side};
use super::symbols::Symbols;
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
    symbols: Symbols,
    memory: GuestMemoryMmap,
    /// What was said in registers.
    pub negotiation: Negotiation,
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
    /// Of nothing so far, for the device at `window` of a guest with these functions.
    #[must_use]
    pub fn new(window: VirtioMmio, symbols: Symbols) -> Self {
        Self {
            clock: Clock::new(),
            window,
            symbols,
            memory: GuestMemoryMmap::default(),
            negotiation: Negotiation::default(),
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
        } else if let Some(byte) = self.console.byte(exit) {
            self.printed(exit, byte);
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
            self.live = self.negotiation.live_queue();
            return;
        }
        match register {
            Some((Register::QueueNotify, Direction::Write)) => self.resumed(&access, next, now),
            Some((Register::Status, Direction::Write)) if access.value == 0 => {
                self.live = None;
                self.negotiation
                    .reset(self.acts.is_empty() && self.open.is_none());
                if self.negotiation.is_open() {
                    self.negotiation.add(access, self.begun);
                }
            }
            Some((Register::InterruptStatus | Register::InterruptACK, _)) => {
                self.in_handler(exit, access);
            }
            _ => {}
        }
    }

    /// The notification has been handled, and the guest goes on.
    fn resumed(&mut self, access: &story::Access, next: Option<u64>, now: u64) {
        let at = next.map(|rip| self.symbols.code(rip, None));
        let areas = self.areas();
        if let (Some(open), Some(areas), true) = (&mut self.open, areas, self.taken.is_some()) {
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
        }
    }

    /// The guest has written `byte` to its console.
    fn printed(&mut self, exit: &HandledExit<'_>, byte: u8) {
        let used = (self.open.as_ref()).is_some_and(|open| open.progress >= Progress::Used);
        if self.console.is_at_line_start() && used {
            let access = Instruction {
                place: Place::Port(spec::board::COM1_PORT),
                width: 1,
                write: true,
            };
            let (code, _) = self.code(exit, &access);
            self.console.line_begins(self.begun, code, self.areas());
        }
        let Some(testimony) = self.console.push(byte) else {
            return;
        };
        if let Some(open) = self.open.take() {
            let open = self.woken(open, testimony);
            self.tell(open);
        }
    }

    /// Ends the act with what the guest has said of it.
    fn woken(&self, mut open: OpenAct, testimony: Testimony) -> OpenAct {
        let Testimony {
            at,
            code,
            areas,
            head,
            written,
            status,
        } = testimony;
        let seen = Event::UsedSeen {
            used_idx: areas.used_idx(),
            id: head,
            len: written,
            status,
            name: act::status_name(status),
        };
        open.push_now(Side::Driver, None, seen, (&areas, &self.memory));
        let event = Event::Woken { at: code };
        open.push_now(Side::Driver, Some(at), event, (&areas, &self.memory));
        open
    }

    /// The device begins to look into the queue, from `next_avail` on.
    pub fn drain_begins(&mut self, next_avail: u16) {
        self.drain_from = next_avail;
    }

    /// The device has taken heads from the available ring.
    pub fn taken(&mut self, batch: &Batch, now: u64) {
        if let Some(areas) = self.areas() {
            self.taken = Some(Taken {
                at: now,
                from: self.drain_from,
                heads: batch.heads.iter().copied().collect(),
                refused: batch.refused,
                avail_idx: batch.avail_idx,
                areas,
            });
        }
    }

    /// The device has walked a chain and parsed its request.
    pub fn submitted(
        &mut self,
        head: u16,
        descriptors: &[Descriptor],
        request: &Result<Request<'_>, ParseError>,
        now: u64,
    ) {
        let (Some(notified), Some(taken)) = (self.notified.clone(), self.taken.clone()) else {
            return;
        };
        let parts = act::parts(&notified, head, descriptors);
        let header = self.header(&parts);
        let operation = match header.map(|header| header.request_type) {
            Some(request_type::IN) => story::Operation::Read,
            Some(request_type::OUT) => story::Operation::Write,
            _ => return,
        };
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.progress < Progress::Told)
        {
            return;
        }
        self.close();
        if self.acts.iter().any(|act| act.operation == operation) {
            return;
        }
        let (begun, before) = match self.entered.take() {
            Some((at, areas)) => (at, areas),
            None => (self.begun, notified.clone()),
        };
        let data_len = (parts.buffers.iter())
            .filter(|(role, ..)| *role == story::Role::Data)
            .map(|(_, _, len)| len)
            .sum();
        let sector = header.map_or(0, |header| header.sector);
        let shown = before.show(&self.memory, &Parts::default());
        let mut open = OpenAct::new((operation, sector, data_len), head, parts, (begun, shown));
        self.tell_of_driver(&mut open, &before, &notified);
        self.tell_of_device(&mut open, &taken, descriptors, request, now);
        self.open = Some(open);
    }

    /// What the driver has done since the guest was entered, when the areas were as `before`: in the
    /// order that it has to keep to.
    fn tell_of_driver(&self, open: &mut OpenAct, before: &Areas, notified: &Areas) {
        let queue = self.live.clone().unwrap_or_default();
        let head = open.head;
        let (old, new) = (before.avail_idx(), notified.avail_idx());
        let slot = (0..new.wrapping_sub(old).min(queue.size))
            .map(|ahead| notified.slot(old.wrapping_add(ahead)))
            .find(|&slot| notified.available(slot) == head);
        let chain = notified.table_entries(&open.parts.table);
        let indirect = (open.parts.indirect)
            .map(|(address, len)| areas::indirect_table(&self.memory, address, len));
        let described = Event::DescriptorsWritten {
            head,
            chain,
            indirect,
        };
        let mut driver = |event, areas: &Areas| {
            open.push_now(Side::Driver, None, event, (areas, &self.memory));
        };
        driver(described, &notified.with_available_of(before));
        if let Some(slot) = slot {
            let entry = Event::AvailableEntry { slot, head };
            driver(entry, &notified.with_available_index(old));
        }
        let moved = Event::AvailableIndex {
            before: old,
            after: new,
        };
        driver(moved, notified);
        let event_idx = queue.event_idx;
        let wanted = Event::NotificationWanted {
            avail_event: event_idx.then(|| notified.avail_event()),
            used_flags: (!event_idx).then(|| notified.used_flags()),
            wanted: true,
        };
        driver(wanted, notified);
        let address = self.window.base + Register::QueueNotify.offset();
        // What is written, and by whom, is known when the exit ends.
        let notify = Event::Notify {
            address,
            value: REQUEST_QUEUE.into(),
            by: Code::default(),
        };
        let exit = Event::Exit {
            reason: "KVM_EXIT_MMIO".into(),
            address,
            width: 4,
            direction: Direction::Write,
            vcpu: VCPU,
        };
        // One moment for both: what there was before it was the driver's.
        let (at, shown) = (Some(self.begun), (notified, &self.memory));
        open.push_now(Side::Driver, at, notify, shown);
        open.push_now(Side::Kvm, at, exit, shown);
    }

    /// What the device has done up to where it knows what is asked for.
    fn tell_of_device(
        &self,
        open: &mut OpenAct,
        taken: &Taken,
        descriptors: &[Descriptor],
        request: &Result<Request<'_>, ParseError>,
        now: u64,
    ) {
        let memory = &self.memory;
        let areas = &taken.areas;
        let event = Event::Taken {
            last_avail_idx: taken.from,
            avail_idx: taken.avail_idx,
            heads: taken.heads.clone(),
            refused: taken.refused,
        };
        open.push_now(Side::Device, Some(taken.at), event, (areas, memory));
        let event = Event::Walked {
            head: open.head,
            chain: descriptors.iter().map(areas::show_descriptor).collect(),
            error: None,
        };
        open.push_now(Side::Device, None, event, (areas, memory));
        let name = match open.act.operation {
            story::Operation::Read => (request_type::IN, "VIRTIO_BLK_T_IN"),
            story::Operation::Write => (request_type::OUT, "VIRTIO_BLK_T_OUT"),
        };
        let event = Event::Parsed {
            request_type: Some(name.0),
            name: Some(name.1.into()),
            sector: Some(open.act.sector),
            data_len: open.act.len,
            status_address: match request {
                Ok(request) => Some(request.status.0),
                Err(error) => error.status.map(|address| address.0),
            },
            refusal: request.as_ref().err().map(ToString::to_string),
        };
        open.push_now(Side::Device, Some(now), event, (areas, memory));
        if let Ok(request) = request
            && let Operation::In { position, .. } | Operation::Out { position, .. } =
                request.operation
        {
            open.position = Some(position);
        }
    }

    /// The header of a request, as it is in RAM.
    fn header(&self, parts: &Parts) -> Option<RequestHeader> {
        let mut bytes = [0; HEADER_SIZE];
        let mut rest = bytes.as_mut_slice();
        let header = parts.buffers.iter();
        for &(_, address, len) in header.filter(|(role, ..)| *role == story::Role::Header) {
            let (piece, after) = rest.split_at_mut_checked(usize::try_from(len).ok()?)?;
            self.memory.read_slice(piece, GuestAddress(address)).ok()?;
            rest = after;
        }
        rest.is_empty().then(|| RequestHeader::from_bytes(bytes))
    }

    /// The device has done what the chain from `head` asks for, and written its status.
    pub fn answered(&mut self, head: u16, answer: &Answer, now: u64) {
        let (Some(areas), memory) = (self.areas(), &self.memory) else {
            return;
        };
        let Some(open) = self.open.as_mut().filter(|open| open.head == head) else {
            return;
        };
        let after = areas.show(memory, &open.parts);
        if let Some(offset) = open.position {
            let (direction, failed_after) = match open.act.operation {
                story::Operation::Read => (Direction::Read, answer.written.saturating_sub(1)),
                story::Operation::Write => (Direction::Write, 0),
            };
            let event = Event::FileIo {
                direction,
                offset,
                len: open.act.len,
                moved: match answer.failed {
                    true => failed_after.into(),
                    false => answer.moved,
                },
                failed: answer.failed,
            };
            // The status byte is written at once after.
            let mut before = after.clone();
            let status = open.shown().buffers.last().cloned();
            if let (Some(last), Some(status)) = (before.buffers.last_mut(), status) {
                *last = status;
            }
            open.push(Side::Device, Some(now), event, before);
        }
        let status = (open.parts.buffers.iter()).find(|(role, ..)| *role == story::Role::Status);
        if let (Some(value), Some(&(_, address, _))) = (answer.status, status) {
            let event = Event::StatusWritten {
                address,
                value,
                name: act::status_name(value),
            };
            open.push(Side::Device, Some(now), event, after);
        }
    }

    /// The chain from `head` is in the used ring, at the running index `used`.
    pub fn completed(&mut self, head: u16, used: u16, now: u64) {
        let (Some(areas), memory) = (self.areas(), &self.memory) else {
            return;
        };
        let Some(open) = self.open.as_mut().filter(|open| open.head == head) else {
            return;
        };
        if open.progress != Progress::Submitted {
            return;
        }
        let slot = areas.slot(used);
        let (id, len) = areas.used(slot);
        let event = Event::UsedAdded {
            slot,
            id,
            len,
            before: used,
            after: areas.used_idx(),
        };
        open.push_now(Side::Device, Some(now), event, (&areas, memory));
        open.progress = Progress::Used;
    }

    /// The device has come to the end of the queue, and interrupts the driver or does not.
    pub fn drain_ends(&mut self, interrupts: bool, now: u64) {
        let event_idx = self.live.as_ref().is_some_and(|queue| queue.event_idx);
        let event = |areas: &Areas| Event::InterruptUnwanted {
            used_event: event_idx.then(|| areas.used_event()),
            avail_flags: (!event_idx).then(|| areas.avail_flags()),
        };
        if !interrupts {
            self.told(now, event);
        }
    }

    /// The device has written to its irqfd.
    pub fn interrupted(&mut self, status: InterruptStatus, now: u64) {
        let gsi = self.window.gsi;
        self.told(now, |_| Event::Interrupt {
            gsi,
            interrupt_status: status.bits(),
            meaning: registers::interrupt_names(status.bits()),
        });
    }

    fn told(&mut self, now: u64, event: impl FnOnce(&Areas) -> Event) {
        let (Some(areas), memory) = (self.areas(), &self.memory) else {
            return;
        };
        if let Some(open) = &mut self.open
            && open.progress == Progress::Used
        {
            open.push_now(Side::Device, Some(now), event(&areas), (&areas, memory));
            open.progress = Progress::Told;
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
