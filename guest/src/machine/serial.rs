//! The console: COM1, a 16550. Writes by polling, so that it works wherever the machine is: in a
//! panic, in an exception, with interrupts off. Who reads waits halted for an interrupt; what has
//! come in and is not read stays in the UART.

use core::fmt;

use guest::workloads::Console;
use spec::board::{COM1_GSI, COM1_PORT};

use super::port::{in8, out8, out8_string};
use super::{apic, cpu};

const DATA: u16 = COM1_PORT;
const INTERRUPT_ENABLE: u16 = COM1_PORT + 1;
const FIFO_CONTROL: u16 = COM1_PORT + 2;
const LINE_CONTROL: u16 = COM1_PORT + 3;
const MODEM_CONTROL: u16 = COM1_PORT + 4;
const LINE_STATUS: u16 = COM1_PORT + 5;
const MODEM_STATUS: u16 = COM1_PORT + 6;

/// In the interrupt enable register: received data, and a change of the carrier.
const INTERRUPT_INPUT: u8 = 0x01 | 0x08;
const FIFO_ENABLE: u8 = 0x07;
const LINE_8N1: u8 = 0x03;
const LINE_DIVISOR_LATCH: u8 = 0x80;
/// Data terminal ready, request to send, and OUT2, which lets interrupts out.
const MODEM_READY: u8 = 0x01 | 0x02 | 0x08;
const DATA_READY: u8 = 0x01;
const TRANSMITTER_EMPTY: u8 = 0x20;
const CARRIER: u8 = 0x80;
/// How many bytes the transmitter takes once it says that it is empty.
const FIFO_SIZE: usize = 16;

/// How much is kept back until a line is complete, in bytes.
const LINE_SIZE: usize = 128;

/// The serial console. Lines are written as a whole, as a port access is a VM exit.
pub struct Serial {
    line: [u8; LINE_SIZE],
    len: usize,
    /// Whether it interrupts when there is something to be read.
    interrupts: bool,
}

impl Serial {
    /// Sets COM1 to 115200 baud 8N1 with FIFOs and without interrupts.
    pub fn init() -> Self {
        out8(INTERRUPT_ENABLE, 0);
        out8(LINE_CONTROL, LINE_8N1 | LINE_DIVISOR_LATCH);
        out8(DATA, 1);
        out8(INTERRUPT_ENABLE, 0);
        out8(LINE_CONTROL, LINE_8N1);
        out8(FIFO_CONTROL, FIFO_ENABLE);
        Self::again()
    }

    /// The console as `init` left it, for those who come where it cannot be handed to them: the
    /// panic handler and the exception handler.
    pub const fn again() -> Self {
        Self {
            line: [0; LINE_SIZE],
            len: 0,
            interrupts: false,
        }
    }

    /// Lets COM1 interrupt. Its handler is that of all pins, which does nothing for one without a
    /// device: the interrupt need only wake the CPU.
    fn enable_interrupts(&mut self) {
        if !core::mem::replace(&mut self.interrupts, true) {
            apic::route(COM1_GSI as u8);
            out8(MODEM_CONTROL, MODEM_READY);
            out8(INTERRUPT_ENABLE, INTERRUPT_INPUT);
        }
    }

    fn flush(&mut self) {
        for piece in self.line[..self.len].chunks(FIFO_SIZE) {
            while in8(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
            out8_string(DATA, piece);
        }
        self.len = 0;
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(LINE_SIZE) {
            if part.len() > LINE_SIZE - self.len {
                self.flush();
            }
            self.line[self.len..][..part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        if text.ends_with('\n') {
            self.flush();
        }
        Ok(())
    }
}

impl Console for Serial {
    fn read(&mut self) -> Option<u8> {
        self.enable_interrupts();
        let has_data = || in8(LINE_STATUS) & DATA_READY != 0;
        if !has_data() {
            self.flush();
            let mut ended = false;
            cpu::halt_until(|| {
                let received = has_data();
                // Data that came before the line was hung up has raised an interrupt by now.
                ended = !received && in8(MODEM_STATUS) & CARRIER == 0 && !has_data();
                received || ended
            });
            if ended {
                return None;
            }
        }
        Some(in8(DATA))
    }
}
