//! What the machine does when KVM leaves the guest: one function from a `VcpuExit` to an owned
//! [`Action`], by way of the buses. Touches neither the vCPU nor any thread.

use devices::{Bus, Response};
use kvm_ioctls::VcpuExit;

use crate::crash::CrashReason;
use crate::error::Error;
use crate::kvm_run::KvmRunPage;

/// What the guest can reach by address.
#[derive(Debug, Default)]
pub struct Buses {
    /// I/O ports.
    pub pio: Bus,
    /// Guest-physical addresses where there is no RAM.
    pub mmio: Bus,
}

/// What the vCPU's thread does next.
#[derive(Debug)]
pub enum Action {
    /// Enter the guest again.
    Continue,
    /// End: another thread asked for it while a device had more to do.
    Stop,
    /// End: the guest wrote this to the debug-exit port.
    Exit(u32),
    /// End: the guest asked for a reset.
    Reset,
    /// End: the guest can no longer run.
    Crash(CrashReason),
    /// End: the VMM cannot go on.
    Fail(Error),
}

/// Handles `exit`. `page` is that of the vCPU.
pub fn handle_exit(buses: &Buses, exit: VcpuExit<'_>, page: &KvmRunPage) -> Action {
    match exit {
        VcpuExit::MmioRead(address, data) => {
            buses.mmio.read(address, data);
            Action::Continue
        }
        VcpuExit::MmioWrite(address, data) => write(&buses.mmio, address, data, page),
        VcpuExit::IoIn(port, data) => {
            // A string instruction may hand over several elements, all for the same port.
            for element in data.chunks_mut(page.io_size().max(1)) {
                buses.pio.read(port.into(), element);
            }
            Action::Continue
        }
        VcpuExit::IoOut(port, data) => {
            for element in data.chunks(page.io_size().max(1)) {
                match write(&buses.pio, port.into(), element, page) {
                    Action::Continue => {}
                    end => return end,
                }
            }
            Action::Continue
        }
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => Action::Continue,
        VcpuExit::Shutdown => Action::Crash(CrashReason::TripleFault),
        VcpuExit::InternalError => Action::Crash(CrashReason::Internal(page.internal_suberror())),
        VcpuExit::FailEntry(reason, _cpu) => Action::Crash(CrashReason::FailEntry(reason)),
        VcpuExit::MemoryFault { flags, gpa, size } => Action::Fail(Error::UnexpectedExit(format!(
            "KVM_EXIT_MEMORY_FAULT at {gpa:#x}, {size:#x} bytes, flags {flags:#x}"
        ))),
        other => Action::Fail(Error::UnexpectedExit(format!("{other:?}"))),
    }
}

/// Writes `data` at `address`, as often as the device asks for it, unless the vCPU is to stop.
fn write(bus: &Bus, address: u64, data: &[u8], page: &KvmRunPage) -> Action {
    loop {
        return match bus.write(address, data) {
            Response::Done => Action::Continue,
            Response::Again if page.is_stop_requested() => Action::Stop,
            Response::Again => continue,
            Response::Exit(value) => Action::Exit(value),
            Response::Reset => Action::Reset,
            Response::Failed(error) => Action::Fail(error.into()),
        };
    }
}
