//! `run=storm`: a guest that asks too much, for as long as it is told to, so that it can be seen that
//! the VMM neither logs, nor allocates, nor spins without bound. That each single thing is survived is
//! `hostile`'s matter. The disk is not written.

use core::sync::atomic::{AtomicBool, Ordering};

use spec::Features;
use spec::block::{config, status};
use spec::board::HOLE_START;
use spec::mmio::{DEVICE_ID_BLOCK, DeviceStatus, Register};

use super::params::Parameters;
use super::{Environment, Failure, Machine, find};
use crate::cmdline::Window;
use crate::virtio::raw::RawDriver;
use crate::virtio::{Error, Transport, Width};

mod chains;

use chains::{Chains, IN_FLIGHT};

/// An I/O port where nothing is.
const NO_PORT: u16 = 0x5a5a;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let kind = parameters.choice("kind", &["bad", "large", "full"])?;
    let rounds = parameters.number("rounds", 1, 1..=u64::MAX)?;
    let halts = parameters.choice("then", &["end", "halt"])? == "halt";
    let (console, machine, arena) = environment.parts();
    let window = find(parameters.command_line(), machine, parameters.disk()?)?;
    let chains = Chains::new(&mut arena.scope())?;
    writeln!(console, "storm kind={kind} begins")?;
    let done = Storm::new(machine, window, chains).and_then(|mut storm| {
        match kind {
            "large" => storm.large(rounds),
            "full" => storm.full(rounds),
            _ => storm.bad(rounds),
        }?;
        storm.read()
    });
    done.map_err(|error| Failure::Device { window, error })?;
    writeln!(console, "storm kind={kind} rounds={rounds} ok")?;
    if halts {
        machine.halt();
    }
    Ok(())
}

struct Storm<'s, 'm> {
    machine: &'s mut dyn Machine,
    window: Window,
    features: Features,
    /// The largest segment, in bytes.
    size_max: u32,
    chains: Chains<'m>,
}

impl<'s, 'm> Storm<'s, 'm> {
    fn new(
        machine: &'s mut dyn Machine,
        window: Window,
        chains: Chains<'m>,
    ) -> Result<Self, Error> {
        let transport = machine.device(window)?;
        transport.check(DEVICE_ID_BLOCK)?;
        let features = Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_F_INDIRECT_DESC;
        Ok(Self {
            features: transport.offered_features() & features,
            size_max: transport.read_config(config::SIZE_MAX),
            machine,
            window,
            chains,
        })
    }

    fn driver(&mut self) -> Result<RawDriver<'_, 'm>, Error> {
        Ok(RawDriver {
            transport: self.machine.device(self.window)?,
            queue: self.chains.queue,
        })
    }

    /// The device, brought up with nothing in its rings.
    fn live_driver(&mut self) -> Result<RawDriver<'_, 'm>, Error> {
        let features = self.features;
        let mut driver = self.driver()?;
        driver.bring_up(features)?;
        Ok(driver)
    }

    /// All that is wrong in chains, rings and registers, again and again.
    fn bad(&mut self, rounds: u64) -> Result<(), Error> {
        let chains = self.chains.write_bad();
        for _ in 0..rounds {
            let mut driver = self.live_driver()?;
            // One that is there already, and one that is none.
            for (i, chain) in (0..).zip((0..chains).chain([0, u16::MAX])) {
                driver.queue.set_avail_entry(i, chains::head(chain));
            }
            driver.queue.set_avail_idx(chains + 2);
            driver.kick(0);
            for _ in 0..chains {
                driver.wait_used()?;
            }
            // A ring that cannot be.
            driver.queue.set_avail_idx(0x8000);
            driver.kick(0);
            if driver.wait_used() != Err(Error::NeedsReset) {
                return Err(Error::NotUsed);
            }
            let features = self.features;
            let mut driver = self.driver()?;
            misuse(driver.transport);
            driver.negotiate(Features::all())?;
            driver.negotiate(features)?;
            for (num, areas) in [
                (0, driver.queue.areas()),
                (u32::MAX, driver.queue.areas()),
                (4, [1; 3]),
                (4, [HOLE_START; 3]),
                (4, [driver.queue.areas()[0]; 3]),
            ] {
                driver.describe(num, areas);
                driver.set_ready(1);
            }
            for width in [Width::One, Width::Two, Width::Four] {
                self.machine.write_port(NO_PORT, width, 0);
                _ = self.machine.read_port(NO_PORT, width);
            }
        }
        Ok(())
    }

    /// Requests as large as there can be, and the longest tables, again and again.
    fn large(&mut self, rounds: u64) -> Result<(), Error> {
        self.chains.write_large(self.size_max);
        let mut driver = self.live_driver()?;
        for _ in 0..rounds {
            for request in 0..IN_FLIGHT {
                driver.queue.offer(chains::head(request));
            }
            driver.kick(0);
            for _ in 0..IN_FLIGHT {
                driver.wait_used()?;
            }
        }
        Ok(())
    }

    /// A queue that is kept full: by this CPU, or by the second while this one reads a register of the
    /// device, or by the third while the second notifies.
    fn full(&mut self, rounds: u64) -> Result<(), Error> {
        self.chains.write_small();
        let (window, queue) = (self.window, self.chains.queue);
        let cpus = self.machine.cpus();
        self.live_driver()?;
        for slot in 0..queue.size {
            queue.set_avail_entry(slot, chains::head(slot % IN_FLIGHT));
        }
        let over = AtomicBool::new(false);
        let job = |cpu: usize, transport: &mut dyn Transport| {
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                if cpu == (cpus - 1).min(2) {
                    // Requests come back in order, so that none is in flight twice.
                    queue.set_avail_idx(queue.used_idx().wrapping_add(IN_FLIGHT));
                }
                if cpu == (cpus - 1).min(1) {
                    transport.notify(0);
                }
                if cpu == 0 {
                    _ = transport.status();
                    over.store(round >= rounds, Ordering::Relaxed);
                }
            }
        };
        self.machine.work_together(window, cpus, &job)?;
        let status = self.driver()?.transport.status();
        if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
            return Err(Error::NeedsReset);
        }
        Ok(())
    }

    /// Sees that the device goes on.
    fn read(&mut self) -> Result<(), Error> {
        self.chains.write_small();
        let mut driver = self.live_driver()?;
        driver.queue.offer(chains::head(0));
        driver.kick(0);
        driver.wait_used()?;
        match self.chains.status() {
            status::OK => Ok(()),
            status => Err(Error::Status(status)),
        }
    }
}

/// Accesses to registers, and values for them, that are not as they should be.
fn misuse(transport: &mut dyn Transport) {
    for width in Width::ALL {
        for offset in [
            Register::Status.offset() + 1,
            Register::QueueNum.offset() + 2,
            0x200,
        ] {
            _ = transport.read_at(offset, width);
            transport.write_at(offset, width, u64::MAX);
        }
    }
    _ = transport.read(Register::QueueNotify);
    for (register, value) in [
        (Register::MagicValue, 0),
        (Register::Status, u32::MAX),
        (Register::Status, DeviceStatus::ACKNOWLEDGE.bits()),
        (Register::QueueSel, u32::MAX),
        (Register::QueueNum, 1),
        (Register::QueueReady, 1),
        (Register::QueueNotify, u32::MAX),
        (Register::InterruptACK, u32::MAX),
        (Register::QueueSel, 0),
        (Register::QueueNum, 1),
        (Register::QueueReady, 1),
    ] {
        transport.write(register, value);
    }
}
