//! The page tables that a kernel is entered with in 64-bit mode: the first 4 GiB, RAM and devices,
//! mapped to themselves in pages of 2 MiB.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::layout::{PAGE_SIZE, PAGE_TABLES};

/// Guest-physical address of the PML4: what CR3 holds.
pub const ROOT: u64 = PAGE_TABLES;
const PDPT: u64 = PAGE_TABLES + PAGE_SIZE;
/// The first of the page directories, one behind the other.
const DIRECTORIES: u64 = PAGE_TABLES + 2 * PAGE_SIZE;

/// How many page directories there are, of 1 GiB each.
const DIRECTORY_COUNT: u64 = 4;
/// Entries of a table of any level.
const ENTRIES: u64 = 512;
/// What an entry of a page directory maps, in bytes.
const LARGE_PAGE_SIZE: u64 = 2 << 20;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
/// In a page directory: the entry maps a page of 2 MiB.
const LARGE: u64 = 1 << 7;

/// Writes the tables into `memory`.
pub fn write(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    let table = |address: u64| address | PRESENT | WRITABLE;
    write_entries(memory, ROOT, [table(PDPT)])?;
    let directories = (0..DIRECTORY_COUNT).map(|i| table(DIRECTORIES + i * PAGE_SIZE));
    write_entries(memory, PDPT, directories)?;
    let pages = (0..DIRECTORY_COUNT * ENTRIES).map(|i| table(i * LARGE_PAGE_SIZE) | LARGE);
    write_entries(memory, DIRECTORIES, pages)
}

fn write_entries(
    memory: &GuestMemoryMmap,
    address: u64,
    entries: impl IntoIterator<Item = u64>,
) -> Result<(), GuestMemoryError> {
    let bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_le_bytes).collect();
    memory.write_slice(&bytes, GuestAddress(address))
}
