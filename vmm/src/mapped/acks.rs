//! The ring in which KVM lets the guest's writes to InterruptACK wait (KVM_REGISTER_COALESCED_MMIO),
//! one for all devices of a VM, and the only place that takes them out. Whose turn it is to look,
//! others know: whoever handles an exit, before that, and a device that is to interrupt.

use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, Once};

use devices::locks::lock;
use devices::virtio::RegisterPage;
use kvm_bindings::{KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio, kvm_coalesced_mmio_ring};
use kvm_ioctls::VcpuFd;
use log::warn;
use spec::mmio::Register;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

use super::MappedWindow;
use crate::layout::PAGE_SIZE;

/// Width of InterruptACK, in bytes.
pub const ACK_SIZE: u32 = 4;

/// Index of the first entry that waits, which is this side's to write.
const FIRST: usize = offset_of!(kvm_coalesced_mmio_ring, first);
/// Index of the first that is free, which is KVM's.
const LAST: usize = offset_of!(kvm_coalesced_mmio_ring, last);
const ENTRIES: usize = size_of::<kvm_coalesced_mmio_ring>();
const ENTRY_SIZE: usize = size_of::<kvm_coalesced_mmio>();
/// How many entries there are (KVM_COALESCED_MMIO_MAX). One of them is always free; where no other
/// is, writes exit.
const MAX: u32 = ((PAGE_SIZE as usize - ENTRIES) / ENTRY_SIZE) as u32;

/// The ring.
#[derive(Debug)]
pub struct AckRing {
    ring: MmapRegion,
    windows: Vec<Acked>,
    /// Held by who takes entries out, until what they ask for is done: else someone else would find
    /// the ring empty and an acknowledgement not applied.
    turn: Mutex<()>,
    odd_width: Once,
}

/// The InterruptACK of a window.
#[derive(Debug)]
struct Acked {
    address: u64,
    page: Arc<RegisterPage>,
}

impl AckRing {
    /// The ring of the VM that `vcpu` is of, with acknowledgements to `windows`.
    ///
    /// # Errors
    /// Where the host refuses to map it.
    pub fn map<'a>(
        vcpu: &VcpuFd,
        windows: impl Iterator<Item = &'a MappedWindow>,
    ) -> io::Result<Self> {
        // SAFETY: `vcpu` owns the file descriptor and is borrowed for all of this statement.
        let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }.try_clone_to_owned()?;
        let offset = u64::from(KVM_COALESCED_MMIO_PAGE_OFFSET) * PAGE_SIZE;
        let start = FileOffset::new(File::from(fd), offset);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let size = PAGE_SIZE as usize;
        let ring = MmapRegion::build(Some(start), size, protection, libc::MAP_SHARED).map_err(
            |error| match error {
                MmapRegionError::Mmap(error) => error,
                other => io::Error::other(other),
            },
        )?;
        Ok(Self::new(ring, windows))
    }

    fn new<'a>(ring: MmapRegion, windows: impl Iterator<Item = &'a MappedWindow>) -> Self {
        let acked = |window: &MappedWindow| Acked {
            address: window.base + Register::InterruptACK.offset(),
            page: Arc::clone(&window.page),
        };
        Self {
            ring,
            windows: windows.map(acked).collect(),
            turn: Mutex::new(()),
            odd_width: Once::new(),
        }
    }

    /// Applies all acknowledgements that the guest has written before this is called, whichever
    /// device they are for. Never waits for anybody but another thread that does the same.
    ///
    /// What the caller has stored before is seen by a handler whose acknowledgement this does not
    /// find, once that is written: the fence here and the vCPU's entry into the guest are the two
    /// halves of that.
    pub fn apply(&self) {
        fence(Ordering::SeqCst);
        if self.index(FIRST) == self.index(LAST) {
            return;
        }
        let _turn = lock(&self.turn);
        let last = self.index(LAST);
        let mut first = self.index(FIRST);
        while first != last {
            self.apply_entry(first);
            first = (first + 1) % MAX;
        }
        // Only when they are applied may anyone find the ring empty.
        let moved = self.ring.as_volatile_slice();
        if let Err(error) = moved.store(first, FIRST, Ordering::Release) {
            log::error!("cannot take acknowledgements out of their ring: {error}");
        }
    }

    fn apply_entry(&self, index: u32) {
        let offset = ENTRIES + index as usize * ENTRY_SIZE;
        let ring = self.ring.as_volatile_slice();
        // All entries are in the page: 0 would be read outside.
        let read = |field| {
            ring.read_obj::<[u32; 2]>(offset + field)
                .unwrap_or_default()
        };
        let [low, high] = read(offset_of!(kvm_coalesced_mmio, phys_addr));
        let [len, _] = read(offset_of!(kvm_coalesced_mmio, len));
        let [value, _] = read(offset_of!(kvm_coalesced_mmio, data));
        let address = u64::from(high) << 32 | u64::from(low);
        let acked = self.windows.iter().find(|acked| acked.address == address);
        match acked {
            Some(acked) if len == ACK_SIZE => acked.page.acknowledge_silently(value),
            // KVM takes what lies in the register, and a register has one width.
            _ => self.odd_width.call_once(|| {
                warn!("the driver writes {len} bytes at {address:#x}, which is no register");
            }),
        }
    }

    fn index(&self, field: usize) -> u32 {
        let ring = self.ring.as_volatile_slice();
        ring.load::<u32>(field, Ordering::Acquire)
            .unwrap_or_default()
            % MAX
    }
}

#[cfg(test)]
#[path = "acks_tests.rs"]
mod tests;
