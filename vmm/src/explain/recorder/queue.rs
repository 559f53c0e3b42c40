//! What the device does with the queue while a recorder follows it, and from that what the driver has
//! done before: the act of a request, up to the interrupt. What comes before and after is exits, and
//! the recorder's own.

use devices::virtio::block::disk::Answer;
use devices::virtio::block::request::{Operation, ParseError, Request};
use devices::virtio::queue::Batch;
use spec::block::{HEADER_SIZE, REQUEST_QUEUE, RequestHeader, request_type};
use spec::mmio::{InterruptStatus, Register};
use spec::queue::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::super::act::{self, OpenAct, Progress};
use super::super::areas::{self, Areas, Parts};
use super::super::registers;
use super::super::story::{self, Code, Direction, Event, Side};
use super::{Recorder, Taken, VCPU};
use crate::config::Registers;

impl Recorder {
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
        let Some(open) = self.open.as_mut().filter(|open| open.is_served(head)) else {
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
        let Some(open) = self.open.as_mut().filter(|open| open.is_served(head)) else {
            return;
        };
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

    /// The device has interrupted.
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
            let event = event(&areas);
            open.acknowledged =
                self.registers == Registers::Trap && matches!(event, Event::Interrupt { .. });
            open.push_now(Side::Device, Some(now), event, (&areas, memory));
            open.progress = Progress::Told;
        }
    }
}
