//! The ports by which a guest ends: the debug-exit port, the reset command of the i8042 keyboard
//! controller, and ACPI's sleep registers. What ending means is the machine's business, not theirs.

use spec::board::{I8042_RESET, SLEEP_TYPE_S5};

use crate::bus::{BusDevice, Response};

/// The debug-exit port: a write ends the run with the value written, little endian. Reads are 0.
#[derive(Debug, Default)]
pub struct DebugExit;

impl BusDevice for DebugExit {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Response {
        let mut value = [0; 4];
        for (to, from) in value.iter_mut().zip(data) {
            *to = *from;
        }
        Response::Exit(u32::from_le_bytes(value))
    }
}

/// The command port of an i8042 that has no keyboard, and knows the reset command alone. Its
/// status reads 0: both buffers empty, so that a driver that waits for them goes on.
#[derive(Debug, Default)]
pub struct I8042;

impl BusDevice for I8042 {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Response {
        if data.first() == Some(&I8042_RESET) {
            Response::Reset
        } else {
            Response::Done
        }
    }
}

/// The sleep control and the sleep status register of hardware-reduced ACPI (ACPI 6.5, 4.8.3.7),
/// one byte each. The only sleep that there is to enter is S5, from which the machine does not
/// wake: it ends the run with 0. Both read 0.
#[derive(Debug, Default)]
pub struct SleepRegisters;

impl SleepRegisters {
    /// Offset of the sleep control register.
    const CONTROL: u64 = 0;
    /// `SLP_TYPx`: bits 2 to 4 of the control register.
    const SLP_TYP: u8 = 0b111 << 2;
    /// `SLP_EN`: enter the state.
    const SLP_EN: u8 = 1 << 5;
}

impl BusDevice for SleepRegisters {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Response {
        let value = data.first().copied().unwrap_or(0);
        let s5 = value & (Self::SLP_EN | Self::SLP_TYP) == Self::SLP_EN | SLEEP_TYPE_S5 << 2;
        if offset == Self::CONTROL && s5 {
            Response::Exit(0)
        } else {
            Response::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_exit_ends_the_run_with_the_value_written_at_any_width() {
        let exit = |data: &[u8]| match DebugExit.write(0, data) {
            Response::Exit(value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(exit(&[7]), 7);
        assert_eq!(exit(&[1, 2]), 0x0201);
        assert_eq!(exit(&[1, 2, 3, 4]), 0x0403_0201);
    }

    #[test]
    fn i8042_resets_on_the_reset_command_alone() {
        assert!(matches!(I8042.write(0, &[0xfe]), Response::Reset));
        assert!(matches!(I8042.write(0, &[0xff]), Response::Done));
        assert!(matches!(I8042.write(0, &[]), Response::Done));
    }

    #[test]
    fn i8042_status_says_that_both_buffers_are_empty() {
        let mut status = [0xff];
        I8042.read(0, &mut status);
        assert_eq!(status, [0]);
    }
    #[test]
    fn sleep_ends_the_run_when_s5_is_enabled_and_not_before() {
        let s5 = SLEEP_TYPE_S5 << 2;
        let ends = |offset, data: &[u8]| match SleepRegisters.write(offset, data) {
            Response::Done => false,
            Response::Exit(0) => true,
            other => panic!("{other:?}"),
        };
        assert!(ends(0, &[s5 | 0x20]));
        assert!(ends(0, &[s5 | 0x20 | 0xc3]), "other bits do not count");
        assert!(!ends(0, &[s5]), "SLP_EN is clear");
        assert!(!ends(0, &[0x20]), "the working state");
        assert!(!ends(1, &[s5 | 0x20]), "the status register");
        assert!(!ends(0, &[]));
    }
}
