//! The registers of a device, as one of several CPUs reaches them: by the bus, where accesses come
//! one after the other. An interrupt finds all CPUs that wait, and whichever comes first handles it.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use devices::bus::{Bus, Response};
use devices::virtio::MmioTransport;
use guest::virtio::{Error, Transport, VirtQueue, Width};
use spec::mmio::{CONFIG_OFFSET, InterruptStatus, Register};
use vmm_sys_util::eventfd::EventFd;

use crate::host::Edges;

/// Where the device is, and how large its window is.
pub const BASE: u64 = 0xd000_0000;
pub const SIZE: u64 = 0x1000;

/// A moment, as [`Transport::pause`] has it.
const MOMENT: Duration = Duration::from_micros(10);

/// A way to a device, which is alone on its bus. Clones lead to the same one.
#[derive(Clone)]
pub struct Port {
    bus: Arc<Bus>,
    /// The eventfds that KVM would write, one for each queue, for the device that has them.
    kicks: Arc<[EventFd]>,
    edges: Arc<Edges>,
    /// How many changes of the configuration this CPU has seen.
    changes: u64,
}

impl Port {
    pub fn new(device: MmioTransport, kicks: Vec<EventFd>, edges: Arc<Edges>) -> Self {
        let mut bus = Bus::new();
        bus.insert(BASE, SIZE, Arc::new(Mutex::new(device)))
            .unwrap();
        Self {
            bus: Arc::new(bus),
            kicks: kicks.into(),
            edges,
            changes: 0,
        }
    }

    /// Has the device look at the size of its disk again.
    pub fn refresh(&self) {
        self.bus.refresh(BASE).unwrap();
    }

    /// Whether a thread of its own serves the device.
    pub fn is_kicked(&self) -> bool {
        !self.kicks.is_empty()
    }
}

impl Transport for Port {
    fn read(&mut self, register: Register) -> u32 {
        self.read_at(register.offset(), Width::Four) as u32
    }

    fn write(&mut self, register: Register, value: u32) {
        self.write_at(register.offset(), Width::Four, value.into());
    }

    fn read_config(&mut self, offset: u64) -> u32 {
        self.read_at(CONFIG_OFFSET + offset, Width::Four) as u32
    }

    fn read_at(&mut self, offset: u64, width: Width) -> u64 {
        let mut data = [0; 8];
        let address = BASE.wrapping_add(offset);
        self.bus.read(address, &mut data[..width.bytes()]);
        u64::from_le_bytes(data)
    }

    fn write_at(&mut self, offset: u64, width: Width, value: u64) {
        // KVM takes what is written to an eventfd's address in any width; of several it is the value
        // that chooses.
        if offset == Register::QueueNotify.offset() {
            let several = self.kicks.len() > 1;
            let queue = if several { value as usize } else { 0 };
            if let Some(kick) = self.kicks.get(queue) {
                return kick.write(1).unwrap();
            }
        }
        let address = BASE.wrapping_add(offset);
        let data = &value.to_le_bytes()[..width.bytes()];
        loop {
            match self.bus.write(address, data) {
                Response::Done => return,
                Response::Again | Response::Later(_) => (),
                other => panic!("{offset:#x} = {value:#x}: {other:?}"),
            }
        }
    }

    fn take_events(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn pause(&mut self) {
        thread::sleep(MOMENT);
    }

    fn wait(&mut self) -> Result<InterruptStatus, Error> {
        Err(Error::NoInterrupt)
    }

    fn wait_for(&mut self, queue: &VirtQueue<'_>, chains: u16) -> Result<InterruptStatus, Error> {
        let (edges, seen) = (self.edges.clone(), self.changes);
        let done = || queue.has_used(chains) || edges.changes() != seen;
        if edges.wait_until(done).ok_or(Error::NoInterrupt)? {
            let status = self.read(Register::InterruptStatus);
            self.write(Register::InterruptACK, status);
            if InterruptStatus::from_bits_retain(status).contains(InterruptStatus::CONFIG_CHANGE) {
                edges.change();
            }
        }
        self.changes = edges.changes();
        Ok(match self.changes == seen {
            true => InterruptStatus::USED_BUFFER,
            false => InterruptStatus::CONFIG_CHANGE,
        })
    }

    fn time_notify(&mut self, _: u16, _: &mut dyn FnMut()) -> Result<u64, Error> {
        Err(Error::NoInterrupt)
    }

    fn interrupts(&self) -> u64 {
        0
    }
}
