//! What the loader left for the kernel: the command line and the memory map, by the PVH protocol
//! (`hvm_start_info`) or by Linux's (`boot_params`). The pointers to them may be garbage.

use core::ptr;
use core::slice;

use spec::board::{FLAT_LOAD_ADDR, HOLE_START};
use thiserror::Error;

/// What `hvm_start_info` begins with.
const PVH_MAGIC: u32 = 0x336e_c578;
/// Offsets in `hvm_start_info`.
mod pvh {
    pub const VERSION: u64 = 4;
    pub const MODULE_COUNT: u64 = 12;
    /// Address of the list of modules, each of which begins with its own address.
    pub const MODULES: u64 = 16;
    pub const COMMAND_LINE: u64 = 24;
    pub const MEMORY_MAP: u64 = 40;
    pub const MEMORY_MAP_ENTRIES: u64 = 48;
    pub const ENTRY_SIZE: u64 = 24;
}

/// "HdrS", at `linux::HEADER_MAGIC`.
const LINUX_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
/// Offsets in `boot_params`.
mod linux {
    pub const E820_ENTRIES: u64 = 0x1e8;
    pub const HEADER_MAGIC: u64 = 0x202;
    pub const INITRD: u64 = 0x218;
    pub const COMMAND_LINE: u64 = 0x228;
    pub const E820_TABLE: u64 = 0x2d0;
    pub const ENTRY_SIZE: u64 = 20;
}

/// The type of a range of the memory map that is RAM to be used, in either protocol.
pub const RAM: u32 = 1;

/// The first page is not mapped.
const LOWEST: u64 = 0x1000;
/// The longest command line that is read, in bytes.
const MAX_COMMAND_LINE: u64 = 64 << 10;
/// The longest memory map that is read, in entries.
const MAX_ENTRIES: u64 = 128;

unsafe extern "C" {
    /// In `image.ld`: where the image ends, with the memory that is not in the file.
    static image_end: [u8; 0];
}

/// By which protocol the guest was booted.
#[derive(Clone, Copy)]
pub enum Protocol {
    /// An `hvm_start_info`.
    Pvh,
    /// A `boot_params`.
    Linux,
}

/// What the loader left.
pub struct BootInfo {
    protocol: Protocol,
    /// Address of the structure that the protocol is about.
    address: u64,
    command_line: &'static str,
}

/// Why there is nothing to go by.
#[derive(Debug, Error)]
pub enum BootError {
    /// Neither protocol's structure is there.
    #[error("the loader left neither an hvm_start_info (RBX) nor boot_params (RSI)")]
    NoProtocol,
    /// The command line is where no RAM can be.
    #[error("the command line is said to be at {0:#x}")]
    CommandLineAddress(u64),
    /// The command line is not text.
    #[error("the command line is not UTF-8")]
    NotUtf8,
    /// There is too little RAM for the image: it needs all up to this address.
    #[error("there is no RAM from {FLAT_LOAD_ADDR:#x} to {0:#x}")]
    TooLittleRam(u64),
    /// The initrd is where the image has memory that is not in its file, as no loader of a flat
    /// binary can know.
    #[error(
        "the initrd at {initrd:#x} is in the memory of the image, {FLAT_LOAD_ADDR:#x} to {end:#x}"
    )]
    InitrdInImage {
        /// First address of the initrd.
        initrd: u64,
        /// Where the image ends.
        end: u64,
    },
}

impl BootInfo {
    /// What the loader left at one of these addresses, once it is clear that the image can run.
    pub fn find(start_info: u64, boot_params: u64) -> Result<Self, BootError> {
        let (protocol, address, command_line) = if read32(start_info) == Some(PVH_MAGIC) {
            (
                Protocol::Pvh,
                start_info,
                read64(start_info + pvh::COMMAND_LINE),
            )
        } else if boot_params
            .checked_add(linux::HEADER_MAGIC)
            .is_some_and(|magic| read32(magic) == Some(LINUX_MAGIC))
        {
            let command_line = read32(boot_params + linux::COMMAND_LINE).map(u64::from);
            (Protocol::Linux, boot_params, command_line)
        } else {
            return Err(BootError::NoProtocol);
        };
        // An address of 0 means that there is none.
        let command_line = match command_line {
            None | Some(0) => "",
            Some(address) => text(address)?,
        };
        let boot = Self {
            protocol,
            address,
            command_line,
        };
        let end = image_end_address();
        if !boot.has_ram(FLAT_LOAD_ADDR, end) {
            return Err(BootError::TooLittleRam(end));
        }
        if let Some(initrd) = boot
            .initrd()
            .filter(|&i| (FLAT_LOAD_ADDR..end).contains(&i))
        {
            return Err(BootError::InitrdInImage { initrd, end });
        }
        Ok(boot)
    }

    /// By which protocol, and where its structure is.
    pub fn protocol(&self) -> (Protocol, u64) {
        (self.protocol, self.address)
    }

    /// The kernel command line.
    pub fn command_line(&self) -> &'static str {
        self.command_line
    }

    /// The RAM from the end of the image up to the first thing that is not free: what the loader
    /// left, or the end of what is RAM or is mapped. Empty where there is no memory map.
    pub fn free_ram(&self) -> (u64, u64) {
        let start = image_end_address();
        let range = self.memory_map().find(|&(base, size, kind)| {
            kind == RAM && (base..base.saturating_add(size)).contains(&start)
        });
        let Some((base, size, _)) = range else {
            return (start, start);
        };
        let end = base.saturating_add(size).min(HOLE_START);
        let used = [
            self.address,
            self.command_line.as_ptr().addr() as u64,
            self.table().map_or(0, |(table, ..)| table),
            self.initrd().unwrap_or(0),
        ];
        let end = used
            .into_iter()
            .filter(|&used| used >= start)
            .fold(end, u64::min);
        (start, end)
    }

    /// Whether the memory map, if there is one, says that all of `start..end` is RAM.
    pub fn has_ram(&self, start: u64, end: u64) -> bool {
        let mut map = self.memory_map().peekable();
        map.peek().is_none()
            || map.any(|(base, size, kind)| {
                kind == RAM && base <= start && end <= base.saturating_add(size)
            })
    }

    /// The memory map: the first address, the size in bytes and the type of each range.
    pub fn memory_map(&self) -> impl Iterator<Item = (u64, u64, u32)> {
        let (table, entries, entry_size) = self.table().unwrap_or((0, 0, 0));
        (0..entries).map_while(move |i| {
            let entry = table + i * entry_size;
            Some((read64(entry)?, read64(entry + 8)?, read32(entry + 16)?))
        })
    }

    /// Where the initrd is, which is the one module that loaders know, if there is one.
    fn initrd(&self) -> Option<u64> {
        match self.protocol {
            Protocol::Pvh => match read32(self.address + pvh::MODULE_COUNT)? {
                0 => None,
                _ => read64(read64(self.address + pvh::MODULES)?),
            },
            Protocol::Linux => read32(self.address + linux::INITRD).map(u64::from),
        }
    }

    /// Where the memory map is, how many entries it has, and the size of one, if it is there.
    fn table(&self) -> Option<(u64, u64, u64)> {
        let (table, entries, entry_size) = match self.protocol {
            Protocol::Pvh if read32(self.address + pvh::VERSION).is_some_and(|v| v > 0) => (
                read64(self.address + pvh::MEMORY_MAP),
                read32(self.address + pvh::MEMORY_MAP_ENTRIES),
                pvh::ENTRY_SIZE,
            ),
            // The first version has no memory map.
            Protocol::Pvh => (None, None, pvh::ENTRY_SIZE),
            Protocol::Linux => (
                Some(self.address + linux::E820_TABLE),
                read32(self.address + linux::E820_ENTRIES).map(|entries| entries & 0xff),
                linux::ENTRY_SIZE,
            ),
        };
        let table = table.filter(|&table| is_ram(table, MAX_ENTRIES * entry_size));
        let entries = u64::from(entries.unwrap_or(0)).min(MAX_ENTRIES);
        Some((table?, entries, entry_size))
    }
}

fn image_end_address() -> u64 {
    (&raw const image_end).addr() as u64
}

/// Whether all of `address..address + len` may be RAM that can be read: not page 0, and not where
/// devices are.
fn is_ram(address: u64, len: u64) -> bool {
    address >= LOWEST
        && address
            .checked_add(len)
            .is_some_and(|end| end <= HOLE_START)
}

fn read32(address: u64) -> Option<u32> {
    // SAFETY: the address is mapped, and outside of where devices are a read has no effect. Nobody
    // writes there while the program runs: it keeps to its own image.
    is_ram(address, 4).then(|| unsafe {
        ptr::read_unaligned(ptr::with_exposed_provenance::<u32>(address as usize))
    })
}

fn read64(address: u64) -> Option<u64> {
    let (low, high) = (read32(address)?, read32(address.checked_add(4)?)?);
    Some(u64::from(high) << 32 | u64::from(low))
}

/// The text at `address` up to its NUL.
fn text(address: u64) -> Result<&'static str, BootError> {
    if !is_ram(address, MAX_COMMAND_LINE) {
        return Err(BootError::CommandLineAddress(address));
    }
    let start = ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: as for `read32`; loaders keep the command line clear of the image.
    let bytes = unsafe { slice::from_raw_parts(start, MAX_COMMAND_LINE as usize) };
    let line = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    str::from_utf8(line).map_err(|_| BootError::NotUtf8)
}
