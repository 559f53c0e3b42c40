//! What must be true of the guest image: which instructions it may contain, and what its flat
//! form is. Works on bytes alone, so that a test can show that the check does find something.

use std::fmt;

use elf::ElfBytes;
use elf::abi::{PT_LOAD, SHF_EXECINSTR, STT_FUNC, STT_NOTYPE};
use elf::endian::LittleEndian;
use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, Instruction};
use spec::board::FLAT_LOAD_ADDR;

/// The section that holds the 32-bit entry of the PVH protocol; all other code is 64-bit.
const SECTION_32_BIT: &str = ".boot32";

/// Plain integer code, as every x86-64 CPU has it. Interrupt handlers do not save the registers
/// of SSE, MMX and x87, and a software KVM emulates little beyond this list.
const ALLOWED: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::CMOV,
    CpuidFeature::CPUID,
    CpuidFeature::CX8,
    CpuidFeature::MSR,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::TSC,
    CpuidFeature::X64,
];

/// Hypercalls, which only a benchmark makes: it expects that the CPU has no such instruction.
const ALLOWED_ALONE: &[Code] = &[Code::Vmcall, Code::Vmmcall];

/// Why a guest image is refused.
#[derive(Debug)]
pub enum ImageError {
    /// It cannot be read as an ELF file.
    Elf(elf::ParseError),
    /// It has no sections or no segments.
    Empty,
    /// A segment lies below the load address, or reaches beyond what a flat image can hold.
    Segment { address: u64, size: u64 },
    /// It contains an instruction that it must not contain.
    Instruction(Box<Forbidden>),
}

/// An instruction that the image must not contain.
#[derive(Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// The function that contains it, where the symbol table has one.
    pub symbol: Option<String>,
    /// Its guest-physical address.
    pub address: u64,
    /// What it is, as the decoder names it.
    pub instruction: String,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elf(error) => write!(f, "not an ELF file that can be read: {error}"),
            Self::Empty => f.write_str("the ELF file has no sections or nothing to load"),
            Self::Segment { address, size } => write!(
                f,
                "a segment of {size:#x} bytes at {address:#x} has no place in a flat image"
            ),
            Self::Instruction(found) => write!(
                f,
                "forbidden instruction {} at {:#x} in {}: only plain integer code is allowed \
                 (no SSE, AVX, MMX, x87)",
                found.instruction,
                found.address,
                found.symbol.as_deref().unwrap_or("(no symbol)"),
            ),
        }
    }
}

impl From<elf::ParseError> for ImageError {
    fn from(error: elf::ParseError) -> Self {
        Self::Elf(error)
    }
}

type Elf<'a> = ElfBytes<'a, LittleEndian>;

/// Checks every instruction of every executable section of the ELF file.
pub fn check(file: &[u8]) -> Result<(), ImageError> {
    let elf = Elf::minimal_parse(file)?;
    let (Some(sections), Some(names)) = elf.section_headers_with_strtab()? else {
        return Err(ImageError::Empty);
    };
    for section in sections.iter() {
        if section.sh_flags & u64::from(SHF_EXECINSTR) == 0 {
            continue;
        }
        let bitness = match names.get(section.sh_name as usize)? {
            SECTION_32_BIT => 32,
            _ => 64,
        };
        let (code, _) = elf.section_data(&section)?;
        if let Some((address, instruction)) = forbidden(code, bitness, section.sh_addr) {
            return Err(ImageError::Instruction(Box::new(Forbidden {
                symbol: symbol_at(&elf, address)?,
                address,
                instruction,
            })));
        }
    }
    Ok(())
}

/// The address and the name of the first instruction in `code` that an image must not contain.
/// What cannot be decoded counts as one.
pub fn forbidden(code: &[u8], bitness: u32, address: u64) -> Option<(u64, String)> {
    Decoder::with_ip(bitness, code, address, DecoderOptions::NONE)
        .iter()
        .find(|instruction| !allowed(instruction))
        .map(|instruction| (instruction.ip(), format!("{:?}", instruction.code())))
}

fn allowed(instruction: &Instruction) -> bool {
    let mut features = instruction.cpuid_features().iter();
    !instruction.is_invalid()
        && (features.all(|feature| ALLOWED.contains(feature))
            || ALLOWED_ALONE.contains(&instruction.code()))
}

/// The name of the function that `address` is in.
fn symbol_at(elf: &Elf<'_>, address: u64) -> Result<Option<String>, ImageError> {
    let Some((symbols, names)) = elf.symbol_table()? else {
        return Ok(None);
    };
    let Some(symbol) = symbols
        .iter()
        .filter(|symbol| !symbol.is_undefined() && symbol.st_name != 0)
        .filter(|symbol| symbol.st_value <= address)
        .max_by_key(|symbol| symbol.st_value)
    else {
        return Ok(None);
    };
    Ok(Some(names.get(symbol.st_name as usize)?.to_owned()))
}

/// What has a name in the code of the ELF file, a line for each: address and size in hexadecimal,
/// and name.
pub fn functions(file: &[u8]) -> Result<String, ImageError> {
    let elf = Elf::minimal_parse(file)?;
    let sections = elf.section_headers().ok_or(ImageError::Empty)?;
    let (symbols, names) = elf.symbol_table()?.ok_or(ImageError::Empty)?;
    let mut list = String::new();
    for symbol in symbols.iter() {
        let section = sections.get(symbol.st_shndx.into());
        let code = section.is_ok_and(|s| s.sh_flags & u64::from(SHF_EXECINSTR) != 0);
        // Labels in assembly code are of no type.
        if code && [STT_FUNC, STT_NOTYPE].contains(&symbol.st_symtype()) {
            let (address, size) = (symbol.st_value, symbol.st_size);
            let name = names.get(symbol.st_name as usize)?;
            list += &format!("{address:x} {size:x} {name}\n");
        }
    }
    Ok(list)
}

/// The flat form of the ELF file: what its segments hold, from [`FLAT_LOAD_ADDR`] on. Zeros at
/// the end, which is where .bss lies, are not part of it: a loader gives zeroed RAM.
pub fn flat(file: &[u8]) -> Result<Vec<u8>, ImageError> {
    let elf = Elf::minimal_parse(file)?;
    let segments = elf.segments().ok_or(ImageError::Empty)?;
    let mut image = Vec::new();
    for segment in segments
        .iter()
        .filter(|s| s.p_type == PT_LOAD && s.p_filesz > 0)
    {
        let data = elf.segment_data(&segment)?;
        let range = segment
            .p_paddr
            .checked_sub(FLAT_LOAD_ADDR)
            .and_then(|start| usize::try_from(start).ok())
            .and_then(|start| Some(start..start.checked_add(data.len())?))
            .filter(|range| range.end <= MAX_SIZE)
            .ok_or(ImageError::Segment {
                address: segment.p_paddr,
                size: segment.p_filesz,
            })?;
        if image.len() < range.end {
            image.resize(range.end, 0);
        }
        image[range].copy_from_slice(data);
    }
    if image.is_empty() {
        return Err(ImageError::Empty);
    }
    Ok(image)
}

/// A flat image beyond this size, in bytes, is a mistake of the linker script.
const MAX_SIZE: usize = 1 << 20;
