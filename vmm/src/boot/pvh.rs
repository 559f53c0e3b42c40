//! PVH: a kernel that names a 32-bit entry point in an ELF note is entered there in protected
//! mode, with the address of `hvm_start_info` in EBX. (Xen's document "x86/HVM direct boot ABI".)

use super::elf::{Elf, ElfError, Notes};
use super::{BootState, CpuMode, Image, LoadError};
use crate::layout;

/// Type of the note that holds the entry point.
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// Name of the note.
const XEN: &[u8] = b"Xen\0";
/// More notes than any kernel has, in bytes.
const MAX_NOTES: u64 = 1 << 20;

/// The entry point that the PVH note of `elf` names, if it has one.
pub fn entry(elf: &Elf, image: &Image<'_>) -> Result<Option<u64>, LoadError> {
    for notes in &elf.notes {
        if let Some(address) = entry_in(notes, image)? {
            return Ok(Some(elf.checked_entry(address)?));
        }
    }
    Ok(None)
}

fn entry_in(notes: &Notes, image: &Image<'_>) -> Result<Option<u64>, LoadError> {
    if !image.holds(notes.offset, notes.len) {
        return Err(ElfError::Truncated {
            what: "the notes (PT_NOTE)",
            len: image.len(),
        }
        .into());
    }
    let len = match usize::try_from(notes.len) {
        Ok(len) if notes.len <= MAX_NOTES => len,
        _ => return Err(ElfError::Notes("they are longer than 1 MiB").into()),
    };
    let bytes = image.read(notes.offset, len)?;
    let mut rest = bytes.as_slice();
    while let Some(note) = Note::split_first(&mut rest, notes.align)? {
        if note.kind == XEN_ELFNOTE_PHYS32_ENTRY && note.name == XEN {
            return Ok(Some(address(note.desc)?));
        }
    }
    Ok(None)
}

/// One note of an ELF: sizes of name and descriptor and a type, 32 bits each, then the two, each
/// padded to the alignment.
struct Note<'a> {
    kind: u32,
    name: &'a [u8],
    desc: &'a [u8],
}

impl<'a> Note<'a> {
    /// Takes the first note off `rest`; `None` where no more can follow.
    fn split_first(rest: &mut &'a [u8], align: usize) -> Result<Option<Self>, ElfError> {
        let Some((header, tail)) = rest.split_first_chunk::<12>() else {
            return Ok(None);
        };
        let [n0, n1, n2, n3, d0, d1, d2, d3, t0, t1, t2, t3] = *header;
        *rest = tail;
        // The name follows the header, whose 12 bytes count towards the alignment.
        let name = take(rest, [n0, n1, n2, n3], header.len(), align)?;
        let desc = take(rest, [d0, d1, d2, d3], 0, align)?;
        Ok(Some(Self {
            kind: u32::from_le_bytes([t0, t1, t2, t3]),
            name,
            desc,
        }))
    }
}

/// Takes the first `len` bytes off `rest`, and the padding after them. The last padding of all
/// may be left out.
fn take<'a>(
    rest: &mut &'a [u8],
    len: [u8; 4],
    before: usize,
    align: usize,
) -> Result<&'a [u8], ElfError> {
    let cut = ElfError::Notes("one goes on past their end");
    let len = u32::from_le_bytes(len) as usize;
    let (taken, tail) = rest.split_at_checked(len).ok_or(cut)?;
    let padding = (before + len).next_multiple_of(align) - before - len;
    *rest = tail.get(padding..).unwrap_or_default();
    Ok(taken)
}

/// The state in which the kernel is entered at `entry`.
pub fn boot_state(entry: u64) -> BootState {
    BootState {
        mode: CpuMode::Protected32,
        rip: entry,
        rsp: 0,
        rbx: layout::START_INFO,
        rsi: 0,
    }
}

/// The 32-bit address in the note's descriptor. Linkers of 64-bit kernels often write 8 bytes.
fn address(desc: &[u8]) -> Result<u64, ElfError> {
    let address = match desc.len() {
        4 => desc
            .first_chunk()
            .map(|&b| u64::from(u32::from_le_bytes(b))),
        8 => desc.first_chunk().map(|&b| u64::from_le_bytes(b)),
        _ => None,
    };
    let address =
        address.ok_or_else(|| ElfError::PvhNote(format!("is {} bytes, not 4 or 8", desc.len())))?;
    if address > u64::from(u32::MAX) {
        let reason = format!("names {address:#x}, beyond 32 bits");
        return Err(ElfError::PvhNote(reason));
    }
    Ok(address)
}
