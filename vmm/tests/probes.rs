//! The static probes (USDT) in the real binary, as `bpftrace` and `perf` find them: by the notes of
//! the ELF file, which say where each is and how many arguments it has.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;

use devices::virtio::block::stats::{DrainCause, RequestKind};
use elf::ElfBytes;
use elf::abi::{PF_X, PT_LOAD};
use elf::endian::AnyEndian;
use vmm::stats::exits::ExitKind;

/// The type of the notes (NT_STAPSDT), and their section.
const NOTE_TYPE: u64 = 3;
const SECTION: &str = ".note.stapsdt";
const NOP: u8 = 0x90;

type File<'a> = ElfBytes<'a, AnyEndian>;

/// A probe: provider, name, and how many arguments it has.
type Probe = (String, String, usize);

/// The byte of code at `address`.
fn code(file: &File<'_>, address: u64) -> Option<u8> {
    let segments = file.segments().unwrap().iter();
    let mut code =
        segments.filter(|segment| segment.p_type == PT_LOAD && segment.p_flags & PF_X > 0);
    code.find_map(|segment| {
        let at = address.checked_sub(segment.p_vaddr)?;
        let bytes = file.segment_data(&segment).unwrap();
        bytes.get(usize::try_from(at).unwrap()).copied()
    })
}

/// The probe that a note describes: after three addresses, three texts. The code there is a `nop`,
/// so that a probe that nobody has put in costs nothing more.
fn probe(file: &File<'_>, description: &[u8]) -> Probe {
    let (addresses, texts) = description.split_at(24);
    let address = u64::from_le_bytes(*addresses.first_chunk().unwrap());
    let texts = std::str::from_utf8(texts).unwrap();
    let mut texts = texts.split('\0').map(str::to_owned);
    let (provider, name) = (texts.next().unwrap(), texts.next().unwrap());
    let arguments = texts.next().unwrap();
    assert_eq!(
        code(file, address),
        Some(NOP),
        "{provider}:{name} at {address:#x}"
    );
    (provider, name, arguments.split_whitespace().count())
}

#[test]
fn the_numbers_of_kinds_are_those_that_the_guide_gives() {
    let exits = ExitKind::ALL.map(|kind| (kind as u8, kind.name()));
    let requests = RequestKind::ALL.map(|kind| (kind as u8, kind.name()));
    let causes = [DrainCause::Trap, DrainCause::EventFd, DrainCause::Poll];
    let causes = causes.map(|cause| (cause as u8, cause.name()));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let guide = words(include_str!("../../docs/src/measuring.md"));
    let list = |all: &[(u8, &str)], between: &str| {
        let all: Vec<String> = (all.iter())
            .map(|(number, name)| format!("{number}{between}`{name}`"))
            .collect();
        all.join(", ")
    };
    for list in [
        list(&exits, " "),
        list(&requests, " "),
        list(&causes, " by "),
    ] {
        assert!(guide.contains(&list), "{list}");
    }
}

#[test]
fn the_binary_has_a_probe_for_each_step_with_its_arguments() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_vmm")).unwrap();
    let file = File::minimal_parse(&bytes).unwrap();
    let section = file
        .section_header_by_name(SECTION)
        .unwrap()
        .expect(SECTION);
    let probes: BTreeSet<Probe> = (file.section_data_as_notes(&section).unwrap())
        .map(|note| match note {
            elf::note::Note::Unknown(note) if note.n_type == NOTE_TYPE => probe(&file, note.desc),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("complete", 5),
        ("exit", 3),
        ("interrupt", 1),
        ("merge", 3),
        ("notify", 3),
        ("submit", 6),
    ];
    let expected = expected.map(|(name, arguments)| ("vmm".into(), name.into(), arguments));
    assert_eq!(probes, BTreeSet::from(expected));
}
