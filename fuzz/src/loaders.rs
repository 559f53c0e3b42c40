//! The loaders: any bytes as a kernel, with an initrd. Nothing lands where the VMM puts its own
//! data or where the other lies, and it is the same whether the image is a file or in memory.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use spec::board::HOLE_START;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm::boot::{self, BootState, Image};
use vmm::layout::{self, ACPI_TABLES, BOOT_DATA_END, CMDLINE, CMDLINE_SIZE, LEGACY_END, PAGE_SIZE};
use vmm::memory;

const MIB: u64 = 1 << 20;
/// How much of a region is looked at from either end.
const LOOKED_AT: u64 = 6 * MIB;
const CMDLINES: [&CStr; 2] = [c"", c"console=ttyS0 run=info"];
/// What an initrd is full of.
const INITRD: u8 = 0xd1;

/// The pages of guest RAM that are not all zero, by address.
type Pages = BTreeMap<u64, Vec<u8>>;

/// What has become of a machine.
#[derive(PartialEq)]
struct Loaded {
    ram: Pages,
    /// How its kernel is entered, or why not.
    state: Result<BootState, String>,
    initrd: Option<layout::Range>,
}

/// Loads a kernel: after four bytes that choose the machine and its initrd, `data` is the image.
pub fn loaders(data: &[u8]) {
    let Some((&[machine, low, high, scale], image)) = data.split_first_chunk::<4>() else {
        return;
    };
    let size = match machine & 15 {
        // With RAM above the hole.
        15 => HOLE_START + 2 * MIB,
        size => (2 + u64::from(size & 3)) * MIB,
    };
    let cmdline = CMDLINES[usize::from(machine >> 4 & 1)];
    let scale = if scale & 15 == 15 { 64 } else { 1 };
    let initrd = vec![INITRD; usize::from(u16::from_le_bytes([low, high])) * scale];

    let in_memory = load(&Image::Bytes(image), size, cmdline, &initrd);
    let file = Image::File(file_of(image), image.len() as u64);
    let from_file = load(&file, size, cmdline, &initrd);
    assert_eq!(
        in_memory.state, from_file.state,
        "from memory and from a file"
    );
    assert!(in_memory == from_file, "not the same from a file");
}

fn load(image: &Image<'_>, size: u64, cmdline: &CStr, initrd: &[u8]) -> Loaded {
    let memory = memory::allocate(size).unwrap();
    let loaded = boot::load(image, &memory, cmdline);
    let ram = pages(&memory);
    let told = if image.is_empty() { c"" } else { cmdline };
    assert_no_kernel_in_boot_data(ram.clone(), told);
    let (state, initrd) = match loaded {
        Ok(kernel) => {
            let initrd = load_initrd(&kernel, &memory, &ram, initrd);
            let state = kernel.tell_of_machine(&memory, initrd).unwrap();
            assert!(
                memory.address_in_range(GuestAddress(state.rip)),
                "{state:?}"
            );
            assert!(is_loaded(image, state.rip), "{state:?}");
            (Ok(state), initrd)
        }
        Err(error) => (Err(line(&error)), None),
    };
    let ram = pages(&memory);
    Loaded { ram, state, initrd }
}

/// Whether the loaded `image`, if it is an ELF, has a segment around `entry`.
fn is_loaded(image: &Image<'_>, entry: u64) -> bool {
    let number = |offset: u64, len: usize| {
        let mut bytes = image.read(offset, len).unwrap();
        bytes.resize(8, 0);
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    if !image.holds(0, 64) || image.read(0, 4).unwrap() != b"\x7fELF" {
        return true;
    }
    // Of the header `e_phoff` and `e_phnum`; of program headers the type PT_LOAD, `p_paddr` and
    // `p_memsz`.
    let (table, count) = (number(32, 8), number(56, 2));
    let mut headers = (0..count).map(|index| table + 56 * index);
    headers.any(|header| {
        let (start, len) = (number(header + 24, 8), number(header + 40, 8));
        number(header, 4) == 1 && (start..start + len).contains(&entry)
    })
}

/// Where the VMM puts its own data there is the command line, and nothing of a kernel.
fn assert_no_kernel_in_boot_data(mut ram: Pages, cmdline: &CStr) {
    let mut expected = vec![0; CMDLINE_SIZE];
    let cmdline = cmdline.to_bytes_with_nul();
    expected[..cmdline.len()].copy_from_slice(cmdline);
    let found = ram.remove(&CMDLINE);
    let found = found.unwrap_or_else(|| vec![0; CMDLINE_SIZE]);
    assert!(found == expected, "the command line is not what it was");
    for own in [0..BOOT_DATA_END, ACPI_TABLES..LEGACY_END] {
        let used = ram.range(own).next();
        assert!(used.is_none(), "a kernel in {used:x?}, where none may be");
    }
}

/// Loads an initrd into `memory`, which holds `before`, and sees to it that it is whole and that
/// nothing else has changed.
fn load_initrd(
    kernel: &boot::Kernel,
    memory: &GuestMemoryMmap,
    before: &Pages,
    content: &[u8],
) -> Option<layout::Range> {
    let file = file_of(content);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let range = match kernel.load_initrd(path.as_ref(), memory) {
        Ok(range) => range,
        Err(error) => {
            line(&error);
            assert!(
                pages(memory) == *before,
                "an initrd was refused, but loaded"
            );
            return None;
        }
    };
    assert_eq!(
        (range.len, range.start % PAGE_SIZE),
        (content.len() as u64, 0)
    );
    let mut loaded = vec![0; content.len()];
    memory
        .read_slice(&mut loaded, GuestAddress(range.start))
        .unwrap();
    assert!(loaded == content, "an initrd is not what it was");
    let mut others = pages(memory);
    for addr in (range.start..range.start + range.len).step_by(PAGE_SIZE as usize) {
        assert!(
            !before.contains_key(&addr),
            "an initrd over the kernel at {addr:#x}"
        );
        others.remove(&addr);
    }
    assert!(others == *before, "more than the initrd was written");
    Some(range)
}

/// The message of `error`, which is a line.
fn line(error: &dyn std::error::Error) -> String {
    let reason = error.to_string();
    assert!(
        !reason.is_empty() && !reason.contains('\n'),
        "not a line: {reason:?}"
    );
    reason
}

/// What is in `memory`, but for the middle of a region that is large. Pages that were never touched
/// are not touched by looking.
fn pages(memory: &GuestMemoryMmap) -> Pages {
    let map = File::open("/proc/self/pagemap").unwrap();
    let mut pages = Pages::new();
    for region in memory.iter() {
        let (first, end) = (region.start_addr().0, region.start_addr().0 + region.len());
        let low = first..end.min(first + LOOKED_AT);
        let high = end.saturating_sub(LOOKED_AT).max(low.end)..end;
        for addr in touched(&map, memory, low).chain(touched(&map, memory, high)) {
            let mut page = vec![0; PAGE_SIZE as usize];
            memory.read_slice(&mut page, GuestAddress(addr)).unwrap();
            if page.iter().any(|&byte| byte != 0) {
                pages.insert(addr, page);
            }
        }
    }
    pages
}

/// Which pages of `range` this process has, by its page map.
fn touched(
    map: &File,
    memory: &GuestMemoryMmap,
    range: Range<u64>,
) -> impl Iterator<Item = u64> + use<> {
    const ENTRY: usize = 8;
    /// "Page present" and "page swapped" in an entry of the map.
    const USED: u64 = 1 << 63 | 1 << 62;
    let count = (range.end - range.start) / PAGE_SIZE;
    let mut entries = vec![0; count as usize * ENTRY];
    if count > 0 {
        let host = memory.get_host_address(GuestAddress(range.start)).unwrap();
        let offset = host as u64 / PAGE_SIZE * ENTRY as u64;
        map.read_exact_at(&mut entries, offset).unwrap();
    }
    (0..count as usize)
        .filter(move |page| {
            let (entries, _) = entries.as_chunks::<ENTRY>();
            u64::from_le_bytes(entries[*page]) & USED != 0
        })
        .map(move |page| range.start + page as u64 * PAGE_SIZE)
}

/// A file with this content, which is in no directory.
fn file_of(content: &[u8]) -> File {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(content).unwrap();
    file
}
