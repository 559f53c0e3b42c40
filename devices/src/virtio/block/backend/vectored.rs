//! One vectored system call between a file and memory of the guest, by position. Whether another has to
//! follow is not decided here.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

/// The most segments that one call takes (IOV_MAX).
pub(super) const SEGMENTS_MAX: usize = 1024;

/// preadv, pwritev, or what may be called wherever these may.
pub(super) type VectoredCall = unsafe extern "C" fn(
    libc::c_int,
    *const libc::iovec,
    libc::c_int,
    libc::off_t,
) -> libc::ssize_t;

/// Room for the segments of one call, kept from one to the next.
#[derive(Debug, Default)]
pub(in crate::virtio::block) struct Segments(Vec<libc::iovec>);

// SAFETY: these are addresses and lengths, which nobody looks behind but the kernel, when somebody
// passes them on to it who answers for what is there.
unsafe impl Send for Segments {}

thread_local! {
    /// That of this thread.
    pub(super) static SEGMENTS: RefCell<Segments> = RefCell::default();
}

impl Segments {
    /// The host memory of `slices` after the first `skip` bytes, as much as one call takes.
    pub(in crate::virtio::block) fn after(
        &mut self,
        skip: u64,
        slices: &[VolatileSlice<'_>],
    ) -> &[libc::iovec] {
        let mut skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.0.clear();
        for slice in slices {
            let before = skip.min(slice.len());
            skip = skip.saturating_sub(before);
            if before < slice.len() && self.0.len() < SEGMENTS_MAX {
                let start = slice.ptr_guard_mut().as_ptr().wrapping_add(before);
                self.0.push(libc::iovec {
                    iov_base: start.cast(),
                    iov_len: slice.len().saturating_sub(before),
                });
            }
        }
        &self.0
    }
}

/// How many bytes `slices` are.
pub(super) fn byte_count(slices: &[VolatileSlice<'_>]) -> usize {
    slices.iter().map(VolatileSlice::len).sum()
}

/// Calls `call` once, and returns how many bytes it has moved.
///
/// # Safety
/// `segments` is what [`Segments::after`] has made of slices that are borrowed for as long as
/// this runs.
pub(super) unsafe fn vectored(
    call: VectoredCall,
    file: &File,
    segments: &[libc::iovec],
    position: u64,
) -> io::Result<u64> {
    let position = libc::off_t::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
    let count = libc::c_int::try_from(segments.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the file is open, and there are `count` segments. Each is the memory of a
    // VolatileSlice from some byte to its end, mapped for reading and writing while the slice is
    // borrowed, which is until after the call. Rust code holds no reference into that memory, so
    // that the kernel may write it, and the guest at the same time.
    let moved = unsafe { call(file.as_raw_fd(), segments.as_ptr(), count, position) };
    u64::try_from(moved).map_err(|_| io::Error::last_os_error())
}
