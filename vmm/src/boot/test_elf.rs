//! Makes ELF64 files for tests: a good one by default, and each field open to be spoilt.

/// Where the first segment's bytes are in the file.
pub const DATA_OFFSET: u64 = 0x400;

/// A program header.
#[derive(Clone, Copy, Debug)]
pub struct Phdr {
    pub kind: u32,
    pub offset: u64,
    pub paddr: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub align: u64,
}

/// An ELF64 to be.
#[derive(Clone, Debug)]
pub struct TestElf {
    pub class: u8,
    pub data: u8,
    pub kind: u16,
    pub machine: u16,
    pub entry: u64,
    pub phentsize: u16,
    pub phnum: Option<u16>,
    pub phdrs: Vec<Phdr>,
    pub body: Vec<u8>,
}

/// A PT_LOAD segment of `len` bytes, in the file from the start of the body.
pub fn load(paddr: u64, len: u64) -> Phdr {
    Phdr {
        kind: 1,
        offset: DATA_OFFSET,
        paddr,
        filesz: len,
        memsz: len,
        align: 0x1000,
    }
}

impl TestElf {
    /// An ELF with one segment of 16 bytes at `paddr`, entered at its start.
    pub fn at(paddr: u64) -> Self {
        Self {
            class: 2,
            data: 1,
            kind: 2,
            machine: 62,
            entry: paddr,
            phentsize: 56,
            phnum: None,
            phdrs: vec![load(paddr, 16)],
            body: (1..=16).collect(),
        }
    }

    /// Adds a note segment with these bytes, aligned to 4.
    pub fn with_notes(mut self, notes: &[u8]) -> Self {
        self.phdrs.push(Phdr {
            kind: 4,
            offset: DATA_OFFSET + self.body.len() as u64,
            filesz: notes.len() as u64,
            memsz: notes.len() as u64,
            paddr: 0,
            align: 4,
        });
        self.body.extend_from_slice(notes);
        self
    }

    /// Adds the PVH note that names `entry`.
    pub fn with_pvh(self, entry: u32) -> Self {
        self.with_notes(&note(b"Xen\0", 18, &entry.to_le_bytes()))
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0x7f, b'E', b'L', b'F', self.class, self.data, 1, 0];
        out.extend([0; 8]);
        out.extend(self.kind.to_le_bytes());
        out.extend(self.machine.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out.extend(self.entry.to_le_bytes());
        out.extend(64_u64.to_le_bytes()); // e_phoff
        out.extend(0_u64.to_le_bytes()); // e_shoff
        out.extend(0_u32.to_le_bytes());
        out.extend(64_u16.to_le_bytes());
        out.extend(self.phentsize.to_le_bytes());
        let phnum = self.phnum.unwrap_or(self.phdrs.len() as u16);
        out.extend(phnum.to_le_bytes());
        out.extend([0; 6]);
        for phdr in &self.phdrs {
            out.extend(phdr.kind.to_le_bytes());
            out.extend(7_u32.to_le_bytes());
            for field in [phdr.offset, phdr.paddr, phdr.paddr, phdr.filesz, phdr.memsz] {
                out.extend(field.to_le_bytes());
            }
            out.extend(phdr.align.to_le_bytes());
        }
        assert!(out.len() as u64 <= DATA_OFFSET, "too many program headers");
        out.resize(DATA_OFFSET as usize, 0);
        out.extend(&self.body);
        out
    }
}

/// A note, padded to 4 bytes.
pub fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend((name.len() as u32).to_le_bytes());
    out.extend((desc.len() as u32).to_le_bytes());
    out.extend(kind.to_le_bytes());
    for part in [name, desc] {
        out.extend(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}
