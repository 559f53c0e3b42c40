//! ELF64 as a container: the header, and the segments copied to their physical addresses. Every
//! field comes from a file that may be anything, so every one is checked before it is used. How
//! the kernel is entered is the protocols' business.

use ::elf::abi;
use ::elf::endian::LittleEndian;
use ::elf::file::{Class, ELF64_EHDR_TAILSIZE, FileHeader, parse_ident};
use ::elf::parse::{ParseError, ParsingTable};
use ::elf::segment::ProgramHeader;
use ::elf::to_str::e_machine_to_string;
use spec::board::{HOLE_END, HOLE_START};
use thiserror::Error;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::{Image, LoadError};
use crate::layout::{ACPI_TABLES, BOOT_DATA_END, LEGACY_END};

/// Size of an ELF64 header, in bytes.
const HEADER_SIZE: usize = abi::EI_NIDENT + ELF64_EHDR_TAILSIZE;
/// Size of an ELF64 program header, in bytes.
const PHDR_SIZE: u16 = 56;

/// Why an ELF cannot be booted. Addresses and lengths are in bytes.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ElfError {
    /// The file ends inside a header.
    #[error("truncated: the file of {len} bytes ends inside {what}")]
    Truncated {
        /// Which header.
        what: &'static str,
        /// Length of the file.
        len: u64,
    },
    /// The identification is not that of a little-endian ELF of version 1.
    #[error("{0}")]
    Ident(String),
    /// A 32-bit ELF.
    #[error("it is 32-bit, and only 64-bit kernels can be booted")]
    Class32,
    /// Not for this CPU.
    #[error("it is for another machine, {0}, not EM_X86_64")]
    Machine(String),
    /// An object file, a core dump or the like.
    #[error("its type is {0}, neither ET_EXEC nor ET_DYN: not linked to run")]
    NotExecutable(u16),
    /// The size of the program headers is not that of ELF64.
    #[error("its program headers are {0} bytes each, not 56")]
    PhdrSize(u16),
    /// More program headers than the header can count.
    #[error("it has more than 65534 program headers")]
    TooManyPhdrs,
    /// No segment to load.
    #[error("it has no segment to load (PT_LOAD)")]
    NoSegment,
    /// A segment's bytes go on past the end of the file.
    #[error("truncated: segment {index} ends past the end of the file of {len} bytes")]
    SegmentTruncated {
        /// Index of its program header.
        index: usize,
        /// Length of the file.
        len: u64,
    },
    /// A segment has more bytes in the file than in memory.
    #[error("segment {index} has {filesz} bytes in the file but only {memsz} in memory")]
    FileLargerThanMemory {
        /// Index of its program header.
        index: usize,
        /// `p_filesz`.
        filesz: u64,
        /// `p_memsz`.
        memsz: u64,
    },
    /// A segment wraps the address space.
    #[error("segment {index}, {memsz:#x} bytes at {paddr:#x}, ends past the last address there is")]
    Wraps {
        /// Index of its program header.
        index: usize,
        /// `p_paddr`.
        paddr: u64,
        /// `p_memsz`.
        memsz: u64,
    },
    /// A segment is where the VMM puts its own data.
    #[error(
        "segment {index}, {paddr:#x} to {end:#x}, overlaps what the VMM puts into RAM, below \
         {BOOT_DATA_END:#x} and from {ACPI_TABLES:#x} to {LEGACY_END:#x}"
    )]
    BootData {
        /// Index of its program header.
        index: usize,
        /// `p_paddr`.
        paddr: u64,
        /// First address after it.
        end: u64,
    },
    /// A segment is in the hole for devices.
    #[error(
        "segment {index}, {paddr:#x} to {end:#x}, reaches into the hole for devices, \
         {HOLE_START:#x} to {HOLE_END:#x}"
    )]
    InHole {
        /// Index of its program header.
        index: usize,
        /// `p_paddr`.
        paddr: u64,
        /// First address after it.
        end: u64,
    },
    /// A segment is beyond RAM.
    #[error("segment {index}, {paddr:#x} to {end:#x}, ends past RAM, which ends at {ram_end:#x}")]
    BeyondRam {
        /// Index of its program header.
        index: usize,
        /// `p_paddr`.
        paddr: u64,
        /// First address after it.
        end: u64,
        /// First address after RAM.
        ram_end: u64,
    },
    /// Two segments share memory.
    #[error("segments {first} and {second} overlap in memory, at {at:#x}")]
    Overlap {
        /// Index of one program header.
        first: usize,
        /// Index of the other.
        second: usize,
        /// First address that both have.
        at: u64,
    },
    /// The entry point is not in the kernel.
    #[error("its entry point {0:#x} is in no loaded segment")]
    EntryOutside(u64),
    /// The notes cannot be walked through.
    #[error("its notes (PT_NOTE) are malformed: {0}")]
    Notes(&'static str),
    /// The PVH note does not hold an address.
    #[error("its PVH note (XEN_ELFNOTE_PHYS32_ENTRY) {0}")]
    PvhNote(String),
}

/// A segment to load: checked to be whole in the file.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Index of its program header.
    index: usize,
    offset: u64,
    filesz: u64,
    /// Guest-physical address.
    start: u64,
    /// First address after it.
    end: u64,
}

/// A PT_NOTE segment, not checked against the file.
#[derive(Clone, Copy, Debug)]
pub struct Notes {
    /// Where it is in the file.
    pub offset: u64,
    /// Length, in bytes.
    pub len: u64,
    /// What the parts of a note are aligned to: 4 or 8 bytes.
    pub align: usize,
}

/// An ELF64 for this machine, whose segments to load are whole, and apart from one another.
#[derive(Debug)]
pub struct Elf {
    /// `e_entry`.
    pub entry: u64,
    /// The PT_NOTE segments.
    pub notes: Vec<Notes>,
    segments: Vec<Segment>,
}

impl Elf {
    /// Reads the headers of `image`; `None` where it is no ELF at all.
    pub fn parse(image: &Image<'_>) -> Result<Option<Self>, LoadError> {
        let magic_len = abi::ELFMAGIC.len();
        if !image.holds(0, magic_len as u64) || image.read(0, magic_len)? != abi::ELFMAGIC {
            return Ok(None);
        }
        let header = header(image)?;
        let phdrs = program_headers(image, &header)?;

        let mut segments = Vec::new();
        let mut notes = Vec::new();
        for (index, phdr) in phdrs.iter().enumerate() {
            match phdr.p_type {
                abi::PT_LOAD if phdr.p_memsz > 0 || phdr.p_filesz > 0 => {
                    segments.push(segment(index, phdr, image)?);
                }
                abi::PT_NOTE => notes.push(Notes {
                    offset: phdr.p_offset,
                    len: phdr.p_filesz,
                    align: if phdr.p_align == 8 { 8 } else { 4 },
                }),
                _ => {}
            }
        }
        if segments.is_empty() {
            return Err(ElfError::NoSegment.into());
        }
        segments.sort_by_key(|segment| segment.start);
        for pair in segments.windows(2) {
            if let [low, high] = pair
                && high.start < low.end
            {
                return Err(ElfError::Overlap {
                    first: low.index.min(high.index),
                    second: low.index.max(high.index),
                    at: high.start,
                }
                .into());
            }
        }
        Ok(Some(Self {
            entry: header.e_entry,
            notes,
            segments,
        }))
    }

    /// Copies the segments into `memory`. What a segment has in memory beyond its bytes in the
    /// file must read as zero, as all of fresh guest RAM does.
    pub fn load(&self, image: &Image<'_>, memory: &GuestMemoryMmap) -> Result<(), LoadError> {
        for segment in &self.segments {
            segment.check_against_ram(memory)?;
        }
        for segment in &self.segments {
            image.copy_to(segment.offset, segment.filesz, memory, segment.start)?;
        }
        Ok(())
    }

    /// First address after the highest segment.
    pub fn end(&self) -> u64 {
        let ends = self.segments.iter().map(|segment| segment.end);
        ends.max().unwrap_or(0)
    }

    /// `address`, if it is in a loaded segment.
    pub fn checked_entry(&self, address: u64) -> Result<u64, ElfError> {
        let inside = |segment: &Segment| (segment.start..segment.end).contains(&address);
        if self.segments.iter().any(inside) {
            Ok(address)
        } else {
            Err(ElfError::EntryOutside(address))
        }
    }
}

impl Segment {
    fn check_against_ram(&self, memory: &GuestMemoryMmap) -> Result<(), ElfError> {
        let Self {
            index, start, end, ..
        } = *self;
        if start < BOOT_DATA_END || start < LEGACY_END && end > ACPI_TABLES {
            return Err(ElfError::BootData {
                index,
                paddr: start,
                end,
            });
        }
        let ram_end = memory.last_addr().0.saturating_add(1);
        if end > ram_end {
            return Err(ElfError::BeyondRam {
                index,
                paddr: start,
                end,
                ram_end,
            });
        }
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        if !memory.check_range(GuestAddress(start), len) {
            return Err(ElfError::InHole {
                index,
                paddr: start,
                end,
            });
        }
        Ok(())
    }
}

fn header(image: &Image<'_>) -> Result<FileHeader<LittleEndian>, LoadError> {
    let truncated = || ElfError::Truncated {
        what: "the ELF header",
        len: image.len(),
    };
    let ident_error = |error: ParseError| ElfError::Ident(error.to_string());

    if !image.holds(0, abi::EI_NIDENT as u64) {
        return Err(truncated().into());
    }
    let ident = image.read(0, abi::EI_NIDENT)?;
    let ident = parse_ident::<LittleEndian>(&ident).map_err(ident_error)?;
    if ident.1 == Class::ELF32 {
        return Err(ElfError::Class32.into());
    }
    if !image.holds(0, HEADER_SIZE as u64) {
        return Err(truncated().into());
    }
    let tail = image.read(abi::EI_NIDENT as u64, ELF64_EHDR_TAILSIZE)?;
    let header = FileHeader::parse_tail(ident, &tail).map_err(ident_error)?;

    if header.e_machine != abi::EM_X86_64 {
        return Err(ElfError::Machine(e_machine_to_string(header.e_machine)).into());
    }
    if ![abi::ET_EXEC, abi::ET_DYN].contains(&header.e_type) {
        return Err(ElfError::NotExecutable(header.e_type).into());
    }
    Ok(header)
}

fn program_headers(
    image: &Image<'_>,
    header: &FileHeader<LittleEndian>,
) -> Result<Vec<ProgramHeader>, LoadError> {
    if header.e_phnum == 0 {
        return Err(ElfError::NoSegment.into());
    }
    if header.e_phnum == abi::PN_XNUM {
        return Err(ElfError::TooManyPhdrs.into());
    }
    if header.e_phentsize != PHDR_SIZE {
        return Err(ElfError::PhdrSize(header.e_phentsize).into());
    }
    let size = usize::from(PHDR_SIZE) * usize::from(header.e_phnum);
    if !image.holds(header.e_phoff, size as u64) {
        return Err(ElfError::Truncated {
            what: "the program headers",
            len: image.len(),
        }
        .into());
    }
    let bytes = image.read(header.e_phoff, size)?;
    let table: ParsingTable<'_, _, ProgramHeader> =
        ParsingTable::new(LittleEndian, Class::ELF64, &bytes);
    Ok(table.iter().collect())
}

fn segment(index: usize, phdr: &ProgramHeader, image: &Image<'_>) -> Result<Segment, ElfError> {
    let &ProgramHeader {
        p_offset: offset,
        p_filesz: filesz,
        p_memsz: memsz,
        p_paddr: paddr,
        ..
    } = phdr;
    if filesz > memsz {
        return Err(ElfError::FileLargerThanMemory {
            index,
            filesz,
            memsz,
        });
    }
    if !image.holds(offset, filesz) {
        return Err(ElfError::SegmentTruncated {
            index,
            len: image.len(),
        });
    }
    let end = paddr.checked_add(memsz).ok_or(ElfError::Wraps {
        index,
        paddr,
        memsz,
    })?;
    Ok(Segment {
        index,
        offset,
        filesz,
        start: paddr,
        end,
    })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
