//! Guest RAM for targets: two adjacent regions, a hole and a third, on the heap, where a sanitizer
//! sees each access past an end. One for each thread, which every run finds all zero.

use std::alloc::{Layout, alloc_zeroed};

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// First address and length of each region.
pub const REGIONS: [(u64, usize); 3] = [(0, 0x8000), (0x8000, 0x4000), (0x2_0000, 0x1000)];
const PAGE: usize = 4096;

thread_local! {
    // Without an end, like the bytes.
    static RAM: &'static GuestMemoryMmap = Box::leak(Box::new(allocate()));
}

/// All zero RAM. What is left of a device that had it before must be gone.
pub fn zeroed() -> GuestMemoryMmap {
    let memory = RAM.with(|ram| (*ram).clone());
    for (base, len) in REGIONS {
        let zeros = [0; 0x8000];
        memory
            .write_slice(&zeros[..len], GuestAddress(base))
            .unwrap();
    }
    memory
}

/// The content of each region.
pub fn contents(memory: &GuestMemoryMmap) -> [Vec<u8>; 3] {
    let mut contents = REGIONS.map(|(_, len)| vec![0; len]);
    read(memory, &mut contents);
    contents
}

/// Fills `contents` with the content of each region.
pub fn read(memory: &GuestMemoryMmap, contents: &mut [Vec<u8>; 3]) {
    for ((base, _), bytes) in REGIONS.into_iter().zip(contents) {
        memory.read_slice(bytes, GuestAddress(base)).unwrap();
    }
}

fn allocate() -> GuestMemoryMmap {
    let regions = REGIONS.map(|(base, len)| {
        let layout = Layout::from_size_align(len, PAGE).unwrap();
        // SAFETY: no region is of size 0.
        let bytes = unsafe { alloc_zeroed(layout) };
        assert!(!bytes.is_null(), "no memory");
        // SAFETY: these are `len` bytes that are aligned to a page, readable and writable, and
        // never freed; nothing but the region reaches them.
        let mapping = unsafe { MmapRegionBuilder::new(len).with_raw_mmap_pointer(bytes) };
        GuestRegionMmap::new(mapping.build().unwrap(), GuestAddress(base)).unwrap()
    });
    GuestMemoryMmap::from_regions(regions.into()).unwrap()
}
