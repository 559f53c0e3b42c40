//! A second view of the page that a vCPU shares with KVM (`struct kvm_run`), for what kvm-ioctls
//! does not hand out: stopping the vCPU from another thread, and details of an exit. Makes no
//! decision.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vm_memory::mmap::MmapRegionError;
use vm_memory::volatile_memory::Error as VolatileError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Bits of `immediate_exit`. KVM looks whether there is any.
const STOP: u8 = 1 << 0;
const PAUSE: u8 = 1 << 1;

/// The page, mapped once more: it lives as long as this does, whatever becomes of the vCPU.
#[derive(Debug)]
pub struct KvmRunPage(MmapRegion);

impl KvmRunPage {
    /// Maps the page of `vcpu`.
    ///
    /// # Errors
    /// Where the host refuses.
    pub fn map(vcpu: &VcpuFd) -> io::Result<Self> {
        // SAFETY: `vcpu` owns the file descriptor and is borrowed for all of this statement.
        let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }.try_clone_to_owned()?;
        let start = FileOffset::new(File::from(fd), 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        MmapRegion::build(
            Some(start),
            size_of::<kvm_run>(),
            protection,
            libc::MAP_SHARED,
        )
        .map(Self)
        .map_err(|error| match error {
            MmapRegionError::Mmap(error) => error,
            other => io::Error::other(other),
        })
    }

    /// Makes KVM_RUN return at once with EINTR, now and for ever: the vCPU is to stop. A vCPU that
    /// is in KVM_RUN already notices when its thread is sent a signal.
    pub fn request_stop(&self) {
        self.set(STOP, true);
    }

    /// Whether [`request_stop`](Self::request_stop) has been called.
    #[must_use]
    pub fn is_stop_requested(&self) -> bool {
        self.is_set(STOP)
    }

    /// Makes KVM_RUN return at once with EINTR until [`end_pause`](Self::end_pause): the vCPU is to
    /// wait. One that is in KVM_RUN already notices when its thread is sent a signal.
    pub fn request_pause(&self) {
        self.set(PAUSE, true);
    }

    /// Lets KVM_RUN run the guest again.
    pub fn end_pause(&self) {
        self.set(PAUSE, false);
    }

    /// Whether the vCPU is to wait.
    #[must_use]
    pub fn is_pause_requested(&self) -> bool {
        self.is_set(PAUSE)
    }

    /// After KVM_EXIT_IO: size of one element of the transfer, in bytes.
    #[must_use]
    pub fn io_size(&self) -> usize {
        self.read::<u8>(offset_of!(kvm_run, __bindgen_anon_1.io.size))
            .into()
    }

    /// After KVM_EXIT_INTERNAL_ERROR: which one.
    #[must_use]
    pub fn internal_suberror(&self) -> u32 {
        self.read(offset_of!(kvm_run, __bindgen_anon_1.internal.suberror))
    }

    fn set(&self, bit: u8, on: bool) {
        match self.immediate_exit() {
            Ok(flags) if on => _ = flags.fetch_or(bit, Ordering::SeqCst),
            Ok(flags) => _ = flags.fetch_and(!bit, Ordering::SeqCst),
            Err(error) => log::error!("cannot interrupt the vCPU: {error}"),
        }
    }

    fn is_set(&self, bit: u8) -> bool {
        // Without the flags nobody could have set it.
        self.immediate_exit()
            .is_ok_and(|flags| flags.load(Ordering::SeqCst) & bit != 0)
    }

    fn immediate_exit(&self) -> Result<&AtomicU8, VolatileError> {
        self.0.get_atomic_ref(offset_of!(kvm_run, immediate_exit))
    }

    /// The field at `offset`, which is inside the page: 0 would be read outside.
    fn read<T: vm_memory::ByteValued + Default>(&self, offset: usize) -> T {
        let page = self.0.as_volatile_slice();
        page.read_obj(offset).unwrap_or_default()
    }
}
