//! The register file: any reads and writes, of any width and at any offset. A model of the register
//! file, written from the specification, says what each read gives, of the registers and of memory in
//! their place.

use devices::{BusDevice, Response};

use crate::input::{Record, records};
use crate::model::registers::Model;
use crate::parts::{Mode, Parts, SECTORS};
use crate::ram;

/// Size of the window that is reached, with what lies past the end of the configuration space.
const WINDOW: u64 = 0x200;

/// Reads and writes registers as the records of `data` say: the first byte chooses the device, and
/// each record is a read, a write of any width, or a write of a register.
pub fn registers(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let read_only = kind & 1 != 0;
    let memory = ram::zeroed();
    let mut parts = Parts::new((Mode::Trap, 1), read_only, memory.clone());
    let mut model = Model::new(read_only, SECTORS);

    for record in records(data) {
        step(record, &mut parts, &mut model);
    }
    // Nothing was ever made available: the device had nothing to write, and nothing to tell.
    let untouched = ram::contents(&memory);
    assert!(
        untouched.iter().flatten().all(|&byte| byte == 0),
        "RAM was written"
    );
    assert_eq!(parts.edges.count(), 0, "interrupts");

    assert!(
        matches!(parts.transport.write(0x70, &[0; 4]), Response::Done),
        "no reset"
    );
    let mut new = Model::new(read_only, SECTORS);
    for offset in (0..WINDOW).step_by(4) {
        compare(offset, 4, &mut parts, &mut new);
    }
}

fn step(record: Record, parts: &mut Parts, model: &mut Model) {
    let Record { code, a, b, value } = record;
    let offset = u64::from(b) % WINDOW;
    match code % 4 {
        0 => compare(offset, usize::from(a % 17), parts, model),
        1 => {
            let bytes = [value.to_le_bytes(); 4].concat();
            write(offset, &bytes[..usize::from(a % 17)], parts, model);
        }
        // The registers, aligned as they are: what most sequences are to be made of.
        2 => compare(offset & 0xfc, 4, parts, model),
        _ => write(offset & 0xfc, &value.to_le_bytes(), parts, model),
    }
}

fn compare(offset: u64, width: usize, parts: &mut Parts, model: &mut Model) {
    let mut read = [0x5a; 16];
    let read = &mut read[..width];
    parts.transport.read(offset, read);
    assert_eq!(
        read,
        model.read(offset, width),
        "{width} bytes at {offset:#x} of {model:?}"
    );
    parts.page.read(offset, read);
    let bytes = (offset..).take(width).map(|offset| model.byte(offset));
    assert!(
        bytes.eq(read.iter().copied()),
        "in memory: {width} bytes at {offset:#x} of {model:?}"
    );
}

fn write(offset: u64, bytes: &[u8], parts: &mut Parts, model: &mut Model) {
    let response = parts.transport.write(offset, bytes).worked();
    assert!(
        matches!(response, Response::Done),
        "{response:?} to {bytes:?} at {offset:#x}"
    );
    model.write(offset, bytes);
}
