//! The functions of a guest by their addresses: those of the built-in guest, which the build has
//! listed, or those in the symbol table of an ELF file.

use std::fs;
use std::path::Path;

use elf::ElfBytes;
use elf::abi::{SHF_EXECINSTR, STT_FUNC, STT_NOTYPE};
use elf::endian::LittleEndian;

use super::story::Code;

/// A line for each symbol of the built-in guest: its address and size in hexadecimal, and its name.
const BUILT_IN: &str = include_str!(env!("GUEST_SYMBOLS"));

/// Where functions are.
#[derive(Clone, Debug, Default)]
pub struct Symbols(Vec<Symbol>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    address: u64,
    /// 0 where it is not known: it ends where the next begins.
    size: u64,
    /// Mangled.
    name: String,
}

impl Symbols {
    /// Those of the built-in guest.
    #[must_use]
    pub fn built_in() -> Self {
        Self::sorted(BUILT_IN.lines().filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let mut number = || u64::from_str_radix(words.next()?, 16).ok();
            let (address, size) = (number()?, number()?);
            let name = words.next()?.to_owned();
            Some(Symbol {
                address,
                size,
                name,
            })
        }))
    }

    /// Those of the ELF file at `path`; none of any other file, and of one that has been stripped.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        let file = fs::read(path).unwrap_or_default();
        Self::of_elf(&file).unwrap_or_default()
    }

    fn of_elf(file: &[u8]) -> Option<Self> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).ok()?;
        let sections = elf.section_headers()?;
        let (symbols, names) = elf.symbol_table().ok()??;
        Some(Self::sorted(symbols.iter().filter_map(|symbol| {
            let section = sections.get(symbol.st_shndx.into()).ok()?;
            let code = section.sh_flags & u64::from(SHF_EXECINSTR) != 0;
            // Labels in assembly code are of no type.
            let function = code && [STT_FUNC, STT_NOTYPE].contains(&symbol.st_symtype());
            let name = names.get(symbol.st_name as usize).ok()?;
            (function && !name.is_empty()).then(|| Symbol {
                address: symbol.st_value,
                size: symbol.st_size,
                name: name.to_owned(),
            })
        })))
    }

    fn sorted(symbols: impl Iterator<Item = Symbol>) -> Self {
        let mut symbols: Vec<_> = symbols.collect();
        symbols.sort();
        Self(symbols)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place at `rip`, with the function that it is in where that is known. Of several names at
    /// one address the one that says its size is taken.
    #[must_use]
    pub fn code(&self, rip: u64, instruction: Option<String>) -> Code {
        let end = self.0.partition_point(|symbol| symbol.address <= rip);
        let symbol = end.checked_sub(1).and_then(|last| self.0.get(last));
        let symbol = symbol.filter(|symbol| {
            let offset = rip - symbol.address;
            offset < symbol.size || symbol.size == 0 && end < self.0.len()
        });
        Code {
            rip,
            symbol: symbol.map(|symbol| format!("{:#}", rustc_demangle::demangle(&symbol.name))),
            offset: symbol.map_or(0, |symbol| rip - symbol.address),
            instruction,
        }
    }
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;
