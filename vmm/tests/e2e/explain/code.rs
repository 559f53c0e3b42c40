//! Where in its program a guest was: the same places as the symbol table of the built-in guest has.

use std::fs;

use elf::ElfBytes;
use elf::endian::LittleEndian;
use vmm::explain::story::{Code, Event};

use super::{Told, explain, only};
use crate::guests::GUEST_ELF;

fn function(name: &str) -> (u64, u64) {
    let bytes = fs::read(GUEST_ELF).unwrap();
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&bytes).unwrap();
    let (symbols, names) = elf.symbol_table().unwrap().unwrap();
    let symbol = symbols
        .iter()
        .find(|symbol| names.get(symbol.st_name as usize).unwrap() == name)
        .expect(name);
    (symbol.st_value, symbol.st_size)
}

pub fn code() {
    let Told { story, text } = explain(&[]);
    for act in &story.acts {
        let by: Code = only(act, |event| match event {
            Event::Notify { by, .. } => Some(by.clone()),
            _ => None,
        });
        let symbol = by.symbol.unwrap();
        assert!(symbol.ends_with("::notify"), "{symbol}");
        let instruction = by.instruction.unwrap();
        assert!(instruction.starts_with("mov dword ptr [") && instruction.contains("+0x50]"));
        assert!(text.contains(&format!("{:#x}", by.rip)));

        // Two stubs of the handler's size apart, as descriptors.rs has them.
        let handler: Code = only(act, |event| match event {
            Event::HandlerEntered { handler, .. } => Some(handler.clone()),
            _ => None,
        });
        let (vectors, _) = function("vectors");
        assert_eq!(handler.symbol.as_deref(), Some("vectors"));
        assert_eq!(handler.rip, vectors + handler.offset);
        assert!(handler.offset > 0);

        // The handler reads InterruptStatus, and acknowledges what it has read.
        let (start, size) = function("interrupt");
        let accesses: Vec<_> = (act.steps.iter())
            .filter_map(|step| match &step.event {
                Event::Register { access } => Some(access),
                _ => None,
            })
            .collect();
        let [status, ack] = accesses[..] else {
            panic!("{accesses:?}");
        };
        assert_eq!(status.register.as_deref(), Some("InterruptStatus"));
        assert_eq!(ack.register.as_deref(), Some("InterruptACK"));
        assert_eq!((status.value, ack.value), (1, 1));
        for access in [status, ack] {
            assert!((start..start + size).contains(&access.by.rip), "{access:?}");
            assert_eq!(access.by.symbol.as_deref(), Some("interrupt"));
        }
        let woken: Code = only(act, |event| match event {
            Event::Woken { at } => Some(at.clone()),
            _ => None,
        });
        assert!(woken.symbol.is_some(), "{woken:?}");
    }
}
