//! The reset vector of real mode: where a kernel jumps that asks the firmware of a PC to reboot it.
//! Linux does so when ACPI's hardware is reduced and there is no UEFI. There is no firmware here:
//! what stands there asks the machine for a reset.

use spec::board::{I8042_COMMAND_PORT, I8042_RESET};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::layout;

/// Real-mode code.
const CODE: [u8; 5] = [
    0xb0,
    I8042_RESET, // mov al, 0xfe
    0xe6,
    I8042_COMMAND_PORT as u8, // out 0x64, al
    0xf4,                     // hlt
];

/// Writes the code into `memory`.
pub fn write(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    memory.write_slice(&CODE, GuestAddress(layout::RESET_VECTOR))
}
