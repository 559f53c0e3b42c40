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
        match self.immediate_exit() {
            Ok(flag) => flag.store(1, Ordering::SeqCst),
            Err(error) => log::error!("cannot stop the vCPU: {error}"),
        }
    }

    /// Whether [`request_stop`](Self::request_stop) has been called.
    #[must_use]
    pub fn is_stop_requested(&self) -> bool {
        // Without the flag nobody could have set it.
        self.immediate_exit()
            .is_ok_and(|flag| flag.load(Ordering::SeqCst) != 0)
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

    fn immediate_exit(&self) -> Result<&AtomicU8, VolatileError> {
        self.0.get_atomic_ref(offset_of!(kvm_run, immediate_exit))
    }

    /// The field at `offset`, which is inside the page: 0 would be read outside.
    fn read<T: vm_memory::ByteValued + Default>(&self, offset: usize) -> T {
        let page = self.0.as_volatile_slice();
        page.read_obj(offset).unwrap_or_default()
    }
}
