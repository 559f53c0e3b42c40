//! What a machine that is measured has besides a usual one: the ports and registers of
//! `spec::bench`, as devices and as events of KVM, and an interrupt. What the guest is told by them
//! is `control`'s.

use std::sync::{Arc, Mutex};

use devices::bus::BusError;
use devices::virtio::Interrupt;
use devices::{BusDevice, DeviceError, Response};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use spec::bench::{
    CONTROL_PORT, DOORBELL_ADDR, EVENT_ADDR, EVENT_PORT, GSI, HANDLED_PORT, MATCH, MATCH_ADDR,
    MATCH_PORT, MMIO_BASE, MMIO_SIZE, PORTS,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use super::control::GuestEnd;
use crate::error::{Error, cannot};
use crate::exit::Buses;
use crate::interrupt::IrqFd;
use crate::kvm::failed_to;

/// Has KVM turn what the guest writes to the ports and addresses of events into events, which
/// nobody waits for. Returns the interrupt [`GSI`].
///
/// # Errors
/// Where KVM refuses.
pub fn connect(vm: &VmFd) -> Result<Arc<IrqFd>, Error> {
    let pio = |port: u16| IoEventAddress::Pio(port.into());
    // KVM keeps an event for as long as the VM.
    for address in [pio(EVENT_PORT), IoEventAddress::Mmio(EVENT_ADDR)] {
        vm.register_ioevent(&event()?, &address, NoDatamatch)
            .map_err(failed_to("connect an address to an eventfd"))?;
    }
    for address in [pio(MATCH_PORT), IoEventAddress::Mmio(MATCH_ADDR)] {
        vm.register_ioevent(&event()?, &address, MATCH)
            .map_err(failed_to("connect a value at an address to an eventfd"))?;
    }
    Ok(Arc::new(IrqFd::new(vm, GSI)?))
}

fn event() -> Result<EventFd, Error> {
    EventFd::new(EFD_CLOEXEC).map_err(cannot("create an eventfd"))
}

/// Puts the ports of `guest` and the registers, with a doorbell that raises `interrupt`, on `buses`.
///
/// # Errors
/// Where something else is there.
pub fn insert(buses: &mut Buses, guest: GuestEnd, interrupt: Arc<IrqFd>) -> Result<(), BusError> {
    let ports = Arc::new(Mutex::new(Ports(guest)));
    buses.pio.insert(CONTROL_PORT.into(), PORTS, ports)?;
    let registers = Arc::new(Mutex::new(Registers(interrupt)));
    buses.mmio.insert(MMIO_BASE, MMIO_SIZE, registers)
}

/// The ports, from [`CONTROL_PORT`] on.
struct Ports(GuestEnd);

impl Ports {
    const CONTROL: u64 = 0;
    const HANDLED: u64 = (HANDLED_PORT - CONTROL_PORT) as u64;
}

impl BusDevice for Ports {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match (offset, data) {
            (Self::CONTROL, [a, b, c, d]) => {
                [*a, *b, *c, *d] = self.0.ask().to_le_bytes();
            }
            (_, data) => data.fill(0),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Response {
        match (offset, data) {
            (Self::CONTROL, &[a, b, c, d]) => self.0.announce(u32::from_le_bytes([a, b, c, d])),
            (Self::HANDLED, _) => self.0.handled(),
            _ => {}
        }
        Response::Done
    }
}

/// The page of registers.
struct Registers(Arc<IrqFd>);

impl Registers {
    const DOORBELL: u64 = DOORBELL_ADDR - MMIO_BASE;
}

impl BusDevice for Registers {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, _data: &[u8]) -> Response {
        if offset == Self::DOORBELL
            && let Err(error) = self.0.signal()
        {
            return Response::Failed(DeviceError::Interrupt(error));
        }
        Response::Done
    }
}
