//! Memory that the driver shares with the device. Addresses are guest-physical addresses and
//! pointers at once: the guest is identity-mapped, and a test maps guest memory where the host
//! has it. No reference is ever made to such memory, as the device may change it at any time.

use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use thiserror::Error;

/// Memory to be handed out, from one end to the other. It cannot be given back piece by piece,
/// only all at once: see [`Arena::scope`].
pub struct Arena<'m> {
    next: usize,
    end: usize,
    memory: PhantomData<&'m mut [u8]>,
}

impl<'m> Arena<'m> {
    /// The arena of `len` bytes at `start`.
    ///
    /// # Safety
    /// For as long as `'m`, the memory must be valid for reads and writes, must have the same
    /// guest-physical address as it has here, and must be used by nothing else but a device.
    #[must_use]
    pub unsafe fn new(start: *mut u8, len: usize) -> Self {
        let next = start.expose_provenance();
        Self {
            next,
            end: next + len,
            memory: PhantomData,
        }
    }

    /// What is left of this arena, to be used while the result lives; then it is free again.
    pub fn scope(&mut self) -> Arena<'_> {
        Arena {
            next: self.next,
            end: self.end,
            memory: PhantomData,
        }
    }

    /// Hands out `len` bytes at a multiple of `align`, which must be a power of two. What is in
    /// them is left from whoever had them before.
    ///
    /// # Errors
    /// Where there is not so much left.
    pub fn alloc(&mut self, len: usize, align: u64) -> Result<Region<'m>, OutOfMemory> {
        let start = self.next.checked_next_multiple_of(align as usize);
        let region = start.and_then(|start| Some((start, start.checked_add(len)?)));
        match region {
            Some((start, end)) if end <= self.end => {
                self.next = end;
                Ok(Region {
                    start,
                    len,
                    memory: PhantomData,
                })
            }
            _ => Err(OutOfMemory {
                len,
                left: self.end - self.next,
            }),
        }
    }

    /// Makes an arena of its own of the first `len` bytes that are left, or of none where that would
    /// be more than half of them. What is left ends where it did.
    pub fn split_off(&mut self, len: usize) -> Self {
        let next = self.next;
        if len <= (self.end - next) / 2 {
            self.next += len;
        }
        Self {
            next,
            end: self.next,
            memory: PhantomData,
        }
    }

    /// Hands out all that is left, in one piece.
    pub fn rest(&mut self) -> Region<'m> {
        let start = core::mem::replace(&mut self.next, self.end);
        Region {
            start,
            len: self.end - start,
            memory: PhantomData,
        }
    }
}

/// More memory was asked for than an [`Arena`] has left.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("out of DMA memory: {len} bytes asked for, {left} left")]
pub struct OutOfMemory {
    /// How much was asked for, in bytes.
    pub len: usize,
    /// How much was left, in bytes.
    pub left: usize,
}

/// A piece of an [`Arena`]. A copy of it is the same memory.
///
/// All offsets and lengths are the driver's own; one that is out of bounds is a mistake in this
/// program and panics.
#[derive(Clone, Copy, Debug)]
pub struct Region<'m> {
    start: usize,
    len: usize,
    memory: PhantomData<&'m mut [u8]>,
}

impl<'m> Region<'m> {
    /// Guest-physical address.
    #[must_use]
    pub const fn addr(self) -> u64 {
        self.start as u64
    }

    /// Length, in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The `len` bytes from `offset` on.
    #[must_use]
    pub fn part(self, offset: usize, len: usize) -> Self {
        assert!(offset <= self.len && len <= self.len - offset);
        Self {
            start: self.start + offset,
            len,
            memory: PhantomData,
        }
    }

    /// Copies from the region, from `offset` on, to `to`.
    pub fn read(self, offset: usize, to: &mut [u8]) {
        let from = self.part(offset, to.len()).pointer();
        // SAFETY: `part` checked that the bytes lie in the region, which lies in the memory that
        // `Arena::new` was promised; `to` is not in there, as no reference is made to it. What
        // the device may be writing meanwhile is bytes, for which every value is valid.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }

    /// Copies `from` to the region, from `offset` on.
    pub fn write(self, offset: usize, from: &[u8]) {
        let to = self.part(offset, from.len()).pointer();
        // SAFETY: as for `read`.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    /// Sets every byte to `byte`.
    pub fn fill(self, byte: u8) {
        // SAFETY: as for `read`.
        unsafe { ptr::write_bytes(self.pointer(), byte, self.len) }
    }

    /// Reads a little-endian number that the device may be writing.
    #[must_use]
    pub fn load16(self, offset: usize, order: Ordering) -> u16 {
        u16::from_le(self.atomic16(offset).load(order))
    }

    /// Writes a little-endian number that the device may be reading.
    pub fn store16(self, offset: usize, value: u16, order: Ordering) {
        self.atomic16(offset).store(value.to_le(), order);
    }

    /// As [`load16`](Self::load16), of eight bytes.
    #[must_use]
    pub fn load64(self, offset: usize, order: Ordering) -> u64 {
        u64::from_le(self.atomic64(offset).load(order))
    }

    /// As [`store16`](Self::store16), of eight bytes.
    pub fn store64(self, offset: usize, value: u64, order: Ordering) {
        self.atomic64(offset).store(value.to_le(), order);
    }

    fn atomic64(self, offset: usize) -> &'m AtomicU64 {
        let pointer = self.part(offset, 8).pointer().cast::<u64>();
        assert!(pointer.is_aligned());
        // SAFETY: as for `atomic16`.
        unsafe { AtomicU64::from_ptr(pointer) }
    }

    fn atomic16(self, offset: usize) -> &'m AtomicU16 {
        let pointer = self.part(offset, 2).pointer().cast::<u16>();
        assert!(pointer.is_aligned());
        // SAFETY: aligned, and in the region as for `read`; the device accesses such numbers
        // atomically too. An atomic is the one thing that a reference may point to while others
        // change it.
        unsafe { AtomicU16::from_ptr(pointer) }
    }

    fn pointer(self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start)
    }
}
