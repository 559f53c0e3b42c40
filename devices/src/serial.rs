//! COM1: vm-superio's 16550A as a device on the bus. Where output goes and where input comes from
//! is the machine's business; this only carries bytes, and says when there is room for more.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex};

use log::error;
use vm_superio::serial::{Error, SerialEvents};
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::{BusDevice, Response};
use crate::error::DeviceError;
use crate::interrupt::Interrupt;
use crate::locks::lock;

struct SerialInterrupt(Arc<dyn Interrupt>);

impl Trigger for SerialInterrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.signal()
    }
}

struct InputRoom(EventFd);

impl SerialEvents for InputRoom {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        if let Err(error) = self.0.write(1) {
            error!("serial: cannot tell that there is room for input: {error}");
        }
    }
}

/// Offsets of registers, and bits of them, by the data sheet's names.
mod register {
    /// Interrupt Enable.
    pub const IER: u8 = 1;
    pub const IER_DATA_AVAILABLE: u8 = 1;
    pub const IER_MODEM_STATUS: u8 = 1 << 3;
    /// Interrupt Identification; the FIFOs are on.
    pub const IIR: u8 = 2;
    pub const IIR_NONE: u8 = 0xc1;
    pub const IIR_DATA_AVAILABLE: u8 = 0xc4;
    pub const IIR_MODEM_STATUS: u8 = 0xc0;
    /// Line Control.
    pub const LCR: u8 = 3;
    pub const LCR_DIVISOR_LATCH: u8 = 1 << 7;
    /// Modem Control.
    pub const MCR: u8 = 4;
    pub const MCR_LOOPBACK: u8 = 1 << 4;
    /// Line Status.
    pub const LSR: u8 = 5;
    pub const LSR_DATA_READY: u8 = 1;
    /// Modem Status.
    pub const MSR: u8 = 6;
    pub const MSR_CARRIER: u8 = 1 << 7;
    pub const MSR_CARRIER_CHANGED: u8 = 1 << 3;
}

/// The UART, and the line that comes in. What it sends is kept until whoever made it do so has passed
/// it on.
struct Uart {
    chip: Serial<SerialInterrupt, InputRoom, Vec<u8>>,
    /// Whether there is somebody at the other end.
    carrier: Carrier,
}

/// What the UART knows of the other end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// Somebody is there.
    Detected,
    /// Nobody is there any more, of which the guest has not read yet.
    JustLost,
    /// Nobody is there any more.
    Lost,
}

/// The serial port: eight registers, of one byte each.
pub struct SerialConsole {
    uart: Arc<Mutex<Uart>>,
    /// Empty but while it is being written to `out`.
    sent: Vec<u8>,
    out: Box<dyn Write + Send>,
}

impl SerialConsole {
    /// A serial port that sends its output to `out`, and writes to `input_room` when its receive
    /// FIFO has become empty.
    #[must_use]
    pub fn new(
        interrupt: Arc<dyn Interrupt>,
        out: Box<dyn Write + Send>,
        input_room: EventFd,
    ) -> Self {
        let (interrupt, room) = (SerialInterrupt(interrupt), InputRoom(input_room));
        let uart = Uart {
            chip: Serial::with_events(interrupt, room, Vec::new()),
            carrier: Carrier::Detected,
        };
        Self {
            uart: Arc::new(Mutex::new(uart)),
            sent: Vec::new(),
            out,
        }
    }

    /// The other end of the line.
    #[must_use]
    pub fn input(&self) -> SerialInput {
        SerialInput(Arc::clone(&self.uart))
    }
}

/// Where bytes for the guest go in. Never waits for the output, however long that takes.
#[derive(Clone)]
pub struct SerialInput(Arc<Mutex<Uart>>);

impl SerialInput {
    /// Puts as many of `bytes` into the receive FIFO as it has room for, and returns how many.
    ///
    /// # Errors
    /// The interrupt could not be raised.
    pub fn enqueue(&self, bytes: &[u8]) -> Result<usize, DeviceError> {
        let chip = &mut lock(&self.0).chip;
        chip.enqueue_raw_bytes(bytes).or_else(|error| {
            failure(error).map_or(Ok(0), Err) // a full FIFO takes nothing
        })
    }

    /// Ends the input: the guest loses the carrier, and still has what is in the receive FIFO.
    ///
    /// # Errors
    /// The interrupt could not be raised.
    pub fn hang_up(&self) -> Result<(), DeviceError> {
        let mut uart = lock(&self.0);
        if uart.carrier == Carrier::Detected {
            uart.carrier = Carrier::JustLost;
        }
        uart.announce_carrier()
    }

    /// How many bytes the receive FIFO has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        lock(&self.0).chip.fifo_capacity()
    }
}

impl BusDevice for SerialConsole {
    /// Registers are one byte wide: a wider access is several of the same register.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let register = u8::try_from(offset).unwrap_or(u8::MAX);
        let mut uart = lock(&self.uart);
        for byte in data {
            *byte = uart.read(register);
        }
    }

    /// Registers are one byte wide: a wider access is several of the same register.
    fn write(&mut self, offset: u64, data: &[u8]) -> Response {
        let register = u8::try_from(offset).unwrap_or(u8::MAX);
        let mut uart = lock(&self.uart);
        let failed = data
            .iter()
            .find_map(|&byte| uart.write(register, byte).err());
        mem::swap(uart.chip.writer_mut(), &mut self.sent);
        // A slow reader may hold up the guest, but not its input.
        drop(uart);
        let passed_on = self.out.write_all(&self.sent);
        self.sent.clear();
        match (failed, passed_on) {
            (None, Ok(())) => Response::Done,
            (Some(error), _) => Response::Failed(error),
            (None, Err(error)) => Response::Failed(DeviceError::Output(error)),
        }
    }
}

impl fmt::Debug for SerialConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialConsole")
            .field("input", &self.input())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SerialInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialInput")
            .field("room", &self.room())
            .finish()
    }
}

impl Uart {
    fn read(&mut self, register: u8) -> u8 {
        let byte = self.chip.read(register);
        match register {
            register::IIR if byte == register::IIR_NONE => {
                if self.has_input_to_announce() {
                    register::IIR_DATA_AVAILABLE
                } else if self.has_carrier_to_announce() {
                    register::IIR_MODEM_STATUS
                } else {
                    byte
                }
            }
            register::MSR if !self.is_set(register::MCR, register::MCR_LOOPBACK) => {
                match self.carrier {
                    Carrier::Detected => byte,
                    Carrier::Lost => byte & !register::MSR_CARRIER,
                    Carrier::JustLost => {
                        self.carrier = Carrier::Lost;
                        byte & !register::MSR_CARRIER | register::MSR_CARRIER_CHANGED
                    }
                }
            }
            _ => byte,
        }
    }

    fn write(&mut self, register: u8, byte: u8) -> Result<(), DeviceError> {
        if let Some(error) = self.chip.write(register, byte).err().and_then(failure) {
            return Err(error);
        }
        if register == register::IER {
            return self.announce_carrier();
        }
        Ok(())
    }

    /// Interrupts where the guest wants to be told that the carrier is lost, and has not read of it.
    fn announce_carrier(&mut self) -> Result<(), DeviceError> {
        if self.has_carrier_to_announce() {
            let raised = self.chip.interrupt_evt().trigger();
            return raised.map_err(DeviceError::Interrupt);
        }
        Ok(())
    }

    fn has_carrier_to_announce(&mut self) -> bool {
        self.carrier == Carrier::JustLost && self.is_enabled(register::IER_MODEM_STATUS)
    }

    /// Whether the guest wants an interrupt for received data, and there is some. vm-superio takes
    /// the interrupt back at the first byte that is read, and not at the last: a driver that reads a
    /// bounded number of bytes and then looks whether more is to do would wait for the rest for ever.
    fn has_input_to_announce(&mut self) -> bool {
        self.is_enabled(register::IER_DATA_AVAILABLE)
            && self.is_set(register::LSR, register::LSR_DATA_READY)
    }

    fn is_enabled(&mut self, interrupt: u8) -> bool {
        // While the divisor latch is accessible, it takes the place of IER.
        !self.is_set(register::LCR, register::LCR_DIVISOR_LATCH)
            && self.is_set(register::IER, interrupt)
    }

    /// Whether a bit is set in a register that reading does not change.
    fn is_set(&mut self, register: u8, bit: u8) -> bool {
        self.chip.read(register) & bit != 0
    }
}

/// What an error of the UART means for the machine; a full FIFO means nothing.
fn failure(error: Error<io::Error>) -> Option<DeviceError> {
    match error {
        Error::Trigger(error) => Some(DeviceError::Interrupt(error)),
        Error::IOError(error) => Some(DeviceError::Output(error)),
        Error::FullFifo => None,
    }
}

#[cfg(test)]
#[path = "serial_tests.rs"]
mod tests;
