//! A virtio-mmio device on bare metal: its registers as memory, its interrupt as a handler, on the
//! first CPU, that wakes who waits. What the registers mean is the library's matter.

use core::arch::asm;
use core::hint;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guest::cmdline::Window;
use guest::virtio::{Error, Transport, VirtQueue, Width};
use spec::block::config;
use spec::board::{HOLE_END, HOLE_START};
use spec::mmio::{CONFIG_OFFSET, InterruptStatus, Register};

use super::descriptors::{self, FIRST_INTERRUPT, INTERRUPTS};
use super::sleepers::{self, Sleeper};
use super::{apic, bench, cpu};

/// The least size of a window: the registers, and what is used of the configuration space.
const MIN_SIZE: u64 = CONFIG_OFFSET + config::SIZE as u64;

/// How long a moment is, in ticks of the time stamp counter.
const MOMENT: u64 = 50_000;

/// What the interrupt handler of a GSI and who waits for it share.
pub struct Line {
    /// Where the registers of its device are; 0 where there is none.
    base: AtomicU64,
    /// What the handler has read from InterruptStatus since it was last taken from here.
    pending: AtomicU32,
    /// How often it has read there that the configuration has changed.
    changes: AtomicU32,
    /// How often the handler has been called.
    interrupts: AtomicU64,
}

impl Line {
    /// How often the device has told that its configuration has changed.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::SeqCst)
    }
}

static LINES: [Line; INTERRUPTS as usize] = [const {
    Line {
        base: AtomicU64::new(0),
        pending: AtomicU32::new(0),
        changes: AtomicU32::new(0),
        interrupts: AtomicU64::new(0),
    }
}; INTERRUPTS as usize];

/// The GSI of the device at `window`, and its line.
fn line(window: Window) -> Option<(u8, &'static Line)> {
    let gsi = u8::try_from(window.gsi).ok()?;
    Some((gsi, LINES.get(usize::from(gsi))?))
}

/// A device in its window.
pub struct Device {
    base: u64,
    /// The GSI and its line; none where the GSI is not one that the IOAPIC has, or is another's to
    /// handle.
    line: Option<(u8, &'static Line)>,
    /// Whether its handler only notes the time.
    timed: bool,
    /// How a CPU waits that is not the only one to drive the device.
    sleeper: Option<Sleeper>,
}

impl Device {
    /// The device at `window`. Its interrupts are handled from now on.
    ///
    /// # Errors
    /// [`Error::NoWindow`] where there could be memory, or there is no room for registers.
    pub fn new(window: Window) -> Result<Self, Error> {
        let device = Self::without_interrupt(window)?;
        let line = line(window);
        if let Some((gsi, line)) = line {
            descriptors::restore_handler(FIRST_INTERRUPT + gsi);
            line.pending.store(0, Ordering::Relaxed);
            line.base.store(window.base, Ordering::Relaxed);
            apic::route(gsi);
        }
        Ok(Self { line, ..device })
    }

    /// The device at `window` as CPU number `cpu` reaches it, one of several. Its interrupts are
    /// handled where there is a [`new`](Self::new) one too.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn shared(window: Window, cpu: usize) -> Result<Self, Error> {
        Ok(Self {
            sleeper: line(window).map(|(_, line)| Sleeper::new(cpu, line)),
            ..Self::without_interrupt(window)?
        })
    }

    /// The device at `window`, of whose interrupts nothing is known here.
    fn without_interrupt(window: Window) -> Result<Self, Error> {
        let end = window.base.checked_add(window.size);
        let in_hole = window.base >= HOLE_START && end.is_some_and(|end| end <= HOLE_END);
        if !in_hole || !window.base.is_multiple_of(4) || window.size < MIN_SIZE {
            return Err(Error::NoWindow);
        }
        Ok(Self {
            base: window.base,
            line: None,
            timed: false,
            sleeper: None,
        })
    }

    /// The address at `offset` from the start of the window. One that is no device's to have is a
    /// mistake in this program and panics.
    fn address(&self, offset: u64) -> u64 {
        let address = self.base.wrapping_add(offset);
        let end = address.checked_add(Width::Eight.bytes() as u64);
        assert!(address >= HOLE_START && end.is_some_and(|end| end <= HOLE_END));
        address
    }
}

impl Transport for Device {
    fn read(&mut self, register: Register) -> u32 {
        read(self.base + register.offset())
    }

    fn write(&mut self, register: Register, value: u32) {
        write(self.base + register.offset(), value);
    }

    fn read_config(&mut self, offset: u64) -> u32 {
        read(self.base + CONFIG_OFFSET + offset)
    }

    fn read_at(&mut self, offset: u64, width: Width) -> u64 {
        let address = self.address(offset);
        let value: u64;
        // SAFETY: `address` saw that no memory is there; that part of the address space is mapped,
        // uncached.
        unsafe {
            match width {
                Width::One => {
                    asm!("movzx {:e}, byte ptr [{}]", out(reg) value, in(reg) address, options(nostack));
                }
                Width::Two => {
                    asm!("movzx {:e}, word ptr [{}]", out(reg) value, in(reg) address, options(nostack));
                }
                Width::Four => {
                    asm!("mov {:e}, [{}]", out(reg) value, in(reg) address, options(nostack));
                }
                Width::Eight => {
                    asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack));
                }
            }
        }
        value
    }

    fn write_at(&mut self, offset: u64, width: Width, value: u64) {
        let address = self.address(offset);
        // SAFETY: as for `read_at`. What a device does about it can change memory, but only memory
        // that is shared with devices.
        unsafe {
            match width {
                Width::One => {
                    asm!("mov [{}], {}", in(reg) address, in(reg_byte) value as u8, options(nostack));
                }
                Width::Two => {
                    asm!("mov [{}], {:x}", in(reg) address, in(reg) value, options(nostack));
                }
                Width::Four => {
                    asm!("mov [{}], {:e}", in(reg) address, in(reg) value, options(nostack));
                }
                Width::Eight => {
                    asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack));
                }
            }
        }
    }

    fn take_events(&mut self) -> InterruptStatus {
        let pending = self
            .line
            .map_or(0, |(_, line)| line.pending.swap(0, Ordering::Relaxed));
        InterruptStatus::from_bits_retain(pending)
    }

    fn pause(&mut self) {
        let begin = cpu::ticks();
        while cpu::ticks().wrapping_sub(begin) < MOMENT {
            hint::spin_loop();
        }
    }

    fn wait(&mut self) -> Result<InterruptStatus, Error> {
        let (_, line) = self.line.ok_or(Error::NoInterrupt)?;
        let mut pending = 0;
        cpu::halt_until(|| {
            pending = line.pending.swap(0, Ordering::Relaxed);
            pending != 0
        });
        Ok(InterruptStatus::from_bits_retain(pending))
    }

    fn wait_for(&mut self, queue: &VirtQueue<'_>, chains: u16) -> Result<InterruptStatus, Error> {
        match &mut self.sleeper {
            Some(sleeper) => Ok(sleeper.sleep(queue, chains)),
            None => self.wait(),
        }
    }

    fn wait_for_others(&mut self, done: &dyn Fn() -> bool) {
        match &self.sleeper {
            Some(sleeper) => sleepers::wait_for_others(sleeper.cpu(), done),
            None => {
                while !done() {
                    self.pause();
                }
            }
        }
    }

    fn wake_others(&mut self) {
        if let Some(sleeper) = &self.sleeper {
            sleepers::wake_waiting(sleeper.cpu());
        }
    }

    fn time_notify(&mut self, queue: u16, submit: &mut dyn FnMut()) -> Result<u64, Error> {
        let (gsi, line) = self.line.ok_or(Error::NoInterrupt)?;
        // That handler acknowledges nothing: our device raises an edge for each event all the same,
        // and what is pending ends with the next reset.
        if !core::mem::replace(&mut self.timed, true) {
            bench::gsi::note_time_of(gsi);
        }
        let address = self.base + Register::QueueNotify.offset();
        // SAFETY: `Device::new` saw that there is a device there, if anything.
        let ticks = unsafe { bench::gsi::write_and_wait(address, queue.into(), submit) };
        line.interrupts.fetch_add(1, Ordering::Relaxed);
        Ok(ticks)
    }

    fn interrupts(&self) -> u64 {
        self.line
            .map_or(0, |(_, line)| line.interrupts.load(Ordering::Relaxed))
    }
}

/// Called by the stubs in `vectors.s`, with interrupts disabled.
#[unsafe(no_mangle)]
extern "C" fn interrupt(vector: u64) {
    let line = LINES.get((vector as usize).wrapping_sub(FIRST_INTERRUPT.into()));
    if let Some(line) = line {
        let base = line.base.load(Ordering::Relaxed);
        if base != 0 {
            let status = read(base + Register::InterruptStatus.offset());
            write(base + Register::InterruptACK.offset(), status);
            line.pending.fetch_or(status, Ordering::Relaxed);
            line.interrupts.fetch_add(1, Ordering::Relaxed);
            let changed = status & InterruptStatus::CONFIG_CHANGE.bits();
            line.changes
                .fetch_add((changed != 0).into(), Ordering::SeqCst);
            sleepers::wake(line, changed != 0);
        }
    }
    apic::end_of_interrupt();
}

fn read(address: u64) -> u32 {
    // SAFETY: `Device::new` saw that the window is where this machine has devices and no memory;
    // that part of the address space is mapped, uncached.
    u32::from_le(unsafe { ptr::read_volatile(ptr::with_exposed_provenance(address as usize)) })
}

fn write(address: u64, value: u32) {
    // SAFETY: as for `read`.
    unsafe {
        ptr::write_volatile(
            ptr::with_exposed_provenance_mut(address as usize),
            value.to_le(),
        );
    }
}
