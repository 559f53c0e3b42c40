//! What the machine does when KVM leaves the guest: one function from a `VcpuExit` to an owned
//! [`Action`], by way of the buses. Touches neither the vCPU nor any thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use devices::{Bus, DeviceError, Response};
use kvm_ioctls::VcpuExit;

use crate::crash::CrashReason;
use crate::debug::DebugStop;
use crate::error::Error;
use crate::kvm_run::KvmRunPage;
use crate::mapped::AckRing;

/// How long a vCPU waits for a device before it looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(5);

/// What the guest can reach by address.
#[derive(Debug, Default)]
pub struct Buses {
    /// I/O ports.
    pub pio: Bus,
    /// Guest-physical addresses where there is no RAM.
    pub mmio: Bus,
    /// Writes to InterruptACK that have not left KVM_RUN, where any device lets them wait.
    pub acks: Option<Arc<AckRing>>,
    /// Addresses of the devices to which the guest may write without leaving KVM_RUN.
    pub open: Vec<u64>,
}

impl Buses {
    /// Has devices do what the guest has written without leaving KVM_RUN.
    ///
    /// # Errors
    /// Those of a device that cannot go on.
    pub fn catch_up(&self) -> Result<(), DeviceError> {
        self.open
            .iter()
            .try_for_each(|base| self.mmio.catch_up(*base))
    }
}

/// What the vCPU's thread does next.
#[derive(Debug)]
pub enum Action {
    /// Enter the guest again.
    Continue,
    /// End: another thread asked for it while a device had more to do.
    Stop,
    /// Enter the guest for the debugger to have the vCPU, and [go on](PendingWrite::go_on) with this
    /// before the guest does.
    SetAside(PendingWrite),
    /// Hand the vCPU to the debugger.
    Debug(DebugStop),
    /// End: the guest wrote this to the debug-exit port.
    Exit(u32),
    /// End: the guest asked for a reset.
    Reset,
    /// End: the guest can no longer run.
    Crash(CrashReason),
    /// End: the VMM cannot go on.
    Fail(Error),
}

/// Handles `exit`, after what the guest has written before without one; it then has what the guest is
/// answered with. `page` is that of the vCPU.
pub fn handle_exit(buses: &Buses, exit: &mut VcpuExit<'_>, page: &KvmRunPage) -> Action {
    if let Some(acks) = &buses.acks {
        acks.apply();
    }
    let stopping = || page.is_stop_requested().then_some(Action::Stop);
    match exit {
        VcpuExit::MmioRead(address, data) => {
            buses.mmio.read(*address, data);
            Action::Continue
        }
        VcpuExit::MmioWrite(address, data) => {
            PendingWrite::new(*address, data).go_on(&buses.mmio, page)
        }
        VcpuExit::IoIn(port, data) => read_port(&buses.pio, *port, data, page.io_size()),
        VcpuExit::IoOut(port, data) => {
            write_port(&buses.pio, *port, data, page.io_size(), &stopping)
        }
        VcpuExit::Debug(exit) => Action::Debug(DebugStop::Exit(*exit)),
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => Action::Continue,
        VcpuExit::Shutdown => Action::Crash(CrashReason::TripleFault),
        VcpuExit::InternalError => Action::Crash(CrashReason::Internal(page.internal_suberror())),
        VcpuExit::FailEntry(reason, _cpu) => Action::Crash(CrashReason::FailEntry(*reason)),
        VcpuExit::MemoryFault { flags, gpa, size } => Action::Fail(Error::UnexpectedExit(format!(
            "KVM_EXIT_MEMORY_FAULT at {gpa:#x}, {size:#x} bytes, flags {flags:#x}"
        ))),
        other => Action::Fail(Error::UnexpectedExit(format!("{other:?}"))),
    }
}

/// A write to a device that has more to do for it than the vCPU can wait for now.
#[derive(Clone, Copy, Debug)]
pub struct PendingWrite {
    address: u64,
    data: [u8; 8],
    len: usize,
}

impl PendingWrite {
    /// KVM hands over 8 bytes at most.
    fn new(address: u64, written: &[u8]) -> Self {
        let mut data = [0; 8];
        let len = written.len().min(data.len());
        data.iter_mut()
            .zip(written)
            .for_each(|(to, from)| *to = *from);
        Self { address, data, len }
    }

    /// Makes the write on `bus`, as often as the device asks for it. The debugger may have the vCPU
    /// with the page `page` in between: else it would wait for as long as the device has work.
    pub fn go_on(self, bus: &Bus, page: &KvmRunPage) -> Action {
        let data = self.data.get(..self.len).unwrap_or_default();
        write(bus, self.address, data, &|| {
            if page.is_stop_requested() {
                Some(Action::Stop)
            } else {
                page.is_pause_requested().then_some(Action::SetAside(self))
            }
        })
    }
}

/// Reads from `port` as often as `data` has elements of `size` bytes: KVM hands over several of a
/// string instruction at once.
fn read_port(bus: &Bus, port: u16, data: &mut [u8], size: usize) -> Action {
    for element in data.chunks_mut(size.max(1)) {
        bus.read(port.into(), element);
    }
    Action::Continue
}

/// Writes to `port` each element of `size` bytes in `data`, up to one that ends the run.
fn write_port(
    bus: &Bus,
    port: u16,
    data: &[u8],
    size: usize,
    stopping: &dyn Fn() -> Option<Action>,
) -> Action {
    for element in data.chunks(size.max(1)) {
        match write(bus, port.into(), element, stopping) {
            Action::Continue => {}
            end => return end,
        }
    }
    Action::Continue
}

/// Writes `data` at `address`, as often as the device asks for it, unless there is something that is
/// `wanted` of the vCPU first.
fn write(bus: &Bus, address: u64, data: &[u8], wanted: &dyn Fn() -> Option<Action>) -> Action {
    loop {
        let wait = match bus.write(address, data) {
            Response::Done => return Action::Continue,
            // The bus has done what work there was; what is left is asked for in the same way.
            Response::Again | Response::Work(_) => None,
            Response::Later(wait) => Some(wait),
            Response::Exit(value) => return Action::Exit(value),
            Response::Reset => return Action::Reset,
            Response::Failed(error) => return Action::Fail(error.into()),
        };
        if let Some(action) = wanted() {
            return action;
        }
        if let Some(wait) = wait {
            // No lock is held, and nobody unparks a vCPU.
            thread::park_timeout(wait.min(PATIENCE));
        }
    }
}

#[cfg(test)]
#[path = "exit_tests.rs"]
mod tests;
