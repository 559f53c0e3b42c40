//! The heap, for who needs memory of sizes that are not known beforehand: the shell, for what is
//! typed and for file systems. No device is told of it, and no handler of an interrupt uses it.

use core::ptr;

use guest::dma::{Arena, OutOfMemory};
use linked_list_allocator::LockedHeap;

/// Size of the heap, in bytes: twice what a file system needs whose blocks are as large as they can
/// be.
pub const HEAP_SIZE: usize = 2 << 20;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// Makes `memory` the heap. To be called once.
///
/// # Errors
/// It is too small.
pub fn init(mut memory: Arena<'static>) -> Result<(), OutOfMemory> {
    let memory = memory.alloc(HEAP_SIZE, 1)?;
    let start = ptr::with_exposed_provenance_mut(memory.addr() as usize);
    // SAFETY: whoever made the arena promised that its memory is valid for ever and used by nothing
    // else, and this piece has been taken out of it here.
    unsafe { HEAP.lock().init(start, memory.len()) }
    Ok(())
}
