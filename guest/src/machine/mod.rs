//! The bare machine: how the image is entered, what the CPU and the board need to be told, and
//! how it ends. Nothing of VIRTIO but where its registers are: the rest is the library's.

use core::fmt::{self, Write};

use guest::cmdline::Window;
use guest::dma::{Arena, OutOfMemory};
use guest::virtio::{Error, Transport, Width};
use guest::workloads::bench::Probes;
use guest::workloads::{Crash, Job, Machine};

use bench::Bench;
use boot_info::{BootInfo, Protocol, RAM};
use cpus::Cpus;
use device::Device;

mod apic;
mod bench;
pub mod boot_info;
mod cpu;
mod cpus;
mod crash;
mod descriptors;
mod device;
mod exception;
pub mod exit;
pub mod heap;
mod mem;
mod port;
pub mod serial;
mod sleepers;
mod together;

/// The machine, once it is able to handle exceptions and interrupts.
pub struct BareMetal {
    boot: BootInfo,
    /// How many bits wide the mode was in which the image was entered.
    entry_bits: u32,
    device: Option<Device>,
    bench: Bench,
    cpus: Cpus,
    /// What becomes the heap, once it is needed.
    heap: Option<Arena<'static>>,
}

/// Makes the CPU report exceptions. To be called once, first of all.
pub fn init() {
    descriptors::init();
}

impl BareMetal {
    /// Puts the interrupt controllers into use and lets interrupts in. To be called once, after
    /// [`init`].
    pub fn new(boot: BootInfo, entry_bits: u32, heap: Arena<'static>) -> Self {
        apic::init();
        cpu::enable_interrupts();
        Self {
            entry_bits,
            device: None,
            bench: Bench::new(Cpus::new(&boot)),
            cpus: Cpus::new(&boot),
            boot,
            heap: Some(heap),
        }
    }
}

impl Machine for BareMetal {
    fn device(&mut self, window: Window) -> Result<&mut dyn Transport, Error> {
        let device = Device::new(window)?;
        // A benchmark may have held off what the driver waits for.
        cpu::enable_interrupts();
        Ok(self.device.insert(device))
    }

    fn read_port(&mut self, port: u16, width: Width) -> u32 {
        match width {
            Width::One => port::in8(port).into(),
            Width::Two => port::in16(port).into(),
            Width::Four | Width::Eight => port::in32(port),
        }
    }

    fn write_port(&mut self, port: u16, width: Width, value: u32) {
        match width {
            Width::One => port::out8(port, value as u8),
            Width::Two => port::out16(port, value as u16),
            Width::Four | Width::Eight => port::out32(port, value),
        }
    }

    fn probes(&mut self) -> &mut dyn Probes {
        &mut self.bench
    }

    fn cpus(&self) -> usize {
        self.cpus.count()
    }

    fn work_together(&mut self, window: Window, cpus: usize, job: &Job<'_>) -> Result<(), Error> {
        together::work(&mut self.cpus, window, cpus, job)
    }

    fn start_heap(&mut self) -> Result<(), OutOfMemory> {
        self.heap.take().map_or(Ok(()), heap::init)
    }

    fn exit(&mut self, status: u8) -> ! {
        exit::exit(status)
    }

    fn halt(&mut self) -> ! {
        cpu::halt_for_good()
    }

    fn crash(&mut self, how: Crash) -> ! {
        crash::crash(how)
    }

    fn describe(&self, out: &mut dyn Write) -> fmt::Result {
        let (protocol, address) = match self.boot.protocol() {
            (Protocol::Pvh, address) => ("hvm_start_info", address),
            (Protocol::Linux, address) => ("boot_params", address),
        };
        writeln!(
            out,
            "  entry         {}-bit, {protocol} at {address:#x}",
            self.entry_bits
        )?;
        write!(out, "  CPU           {}", trimmed(&cpu::vendor()))?;
        let brand = cpu::brand();
        if brand[0] != 0 {
            write!(out, ", {}", trimmed(&brand))?;
        }
        match cpu::hypervisor() {
            Some(signature) => writeln!(out, ", under {}", trimmed(&signature))?,
            None => writeln!(out)?,
        }
        let mut title = "  memory";
        for (start, size, kind) in self.boot.memory_map().filter(|&(_, size, _)| size > 0) {
            let last = start.wrapping_add(size).wrapping_sub(1);
            let kind = if kind == RAM { "RAM" } else { "reserved" };
            writeln!(
                out,
                "{title:16}{start:#012x}-{last:#012x} {:>9} KiB {kind}",
                size >> 10
            )?;
            title = "";
        }
        Ok(())
    }
}

/// Text that fills an array, without what is around it.
fn trimmed(text: &[u8]) -> impl fmt::Display {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    text.trim_ascii().escape_ascii()
}
