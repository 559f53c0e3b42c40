//! CPUs that drive a device together, each by a queue of its own, and sleep until theirs has moved
//! on: how they fall asleep, and whom the handler of the one interrupt wakes. So do those that wait
//! for one another, whom those wake that they wait for.
//!
//! A virtio-mmio device has one interrupt for all its queues, and it comes to the first CPU. There
//! the handler looks at `used.idx` of each CPU that sleeps, a load from memory, and interrupts those
//! that have what they wait for. To interrupt all that sleep, or to have the IOAPIC send to all CPUs,
//! would take fewer lines; but an interrupt is an exit on most hosts, and wakes a CPU that finds
//! nothing, asks for its interrupt once more and halts again: with four queues, three times of four.
//!
//! No wake-up is lost. Who falls asleep says for what (1), then looks at `used.idx` once more (2),
//! and halts (3), with interrupts held off from before (2) until (3). The device writes `used.idx`,
//! then interrupts. Either (2) sees what it wrote; or it wrote later, so that the handler, which is
//! later still, sees what was said at (1) and sends an interrupt, which waits for (3) and ends it.
//! Where a CPU waits for another, that one is the device, and what it sends is the interrupt.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use guest::virtio::VirtQueue;
use spec::mmio::InterruptStatus;

use super::cpus::MAX_CPUS;
use super::descriptors::{WAKE, WAKE_FIRST};
use super::device::Line;
use super::{apic, cpu};

/// What a CPU sleeps for.
struct Bed {
    /// The interrupt of the device.
    line: AtomicPtr<Line>,
    /// Where `used.idx` is.
    used_idx: AtomicU64,
    /// What it was when nothing was left to be popped, and how far it is to get from there.
    popped: AtomicU16,
    chains: AtomicU16,
}

static BEDS: [Bed; MAX_CPUS] = [const {
    Bed {
        line: AtomicPtr::new(ptr::null_mut()),
        used_idx: AtomicU64::new(0),
        popped: AtomicU16::new(0),
        chains: AtomicU16::new(0),
    }
}; MAX_CPUS];

/// The CPUs that sleep, a bit for each. The first is none of them: it has the interrupt itself.
static ASLEEP: AtomicU32 = AtomicU32::new(0);

/// The CPUs that wait for another one, a bit for each.
static WAITING: AtomicU32 = AtomicU32::new(0);

/// A CPU that shares a device with others.
pub struct Sleeper {
    cpu: usize,
    line: &'static Line,
    /// How many changes of the configuration it has been told of.
    changes: u32,
}

impl Sleeper {
    /// CPU number `cpu`, on a device that interrupts by `line`.
    pub fn new(cpu: usize, line: &'static Line) -> Self {
        Self {
            cpu,
            line,
            changes: line.changes(),
        }
    }

    /// Which CPU it is.
    pub const fn cpu(&self) -> usize {
        self.cpu
    }

    /// Sleeps until the device has used `chains` more of `queue` than have been popped, or has
    /// changed its configuration since this was last called, and tells which.
    pub fn sleep(&mut self, queue: &VirtQueue<'_>, chains: u16) -> InterruptStatus {
        let Self { cpu, line, changes } = *self;
        let done = || queue.has_used(chains) || line.changes() != changes;
        if cpu == 0 {
            cpu::halt_until(done);
        } else {
            let (used_idx, popped) = queue.popped();
            let bed = &BEDS[cpu];
            bed.line
                .store(ptr::from_ref(line).cast_mut(), Ordering::Relaxed);
            bed.used_idx.store(used_idx, Ordering::Relaxed);
            bed.popped.store(popped, Ordering::Relaxed);
            bed.chains.store(chains, Ordering::Relaxed);
            // A full fence, as in `wake`: all of the above is seen by whoever interrupts for what is
            // not seen below.
            ASLEEP.fetch_or(1 << cpu, Ordering::SeqCst);
            cpu::halt_held_off_until(done);
            ASLEEP.fetch_and(!(1 << cpu), Ordering::SeqCst);
        }
        self.changes = line.changes();
        match self.changes == changes {
            true => InterruptStatus::USED_BUFFER,
            false => InterruptStatus::CONFIG_CHANGE,
        }
    }
}

/// Wakes the CPUs that sleep on `line` and have what they sleep for, or all of them. For the handler
/// of the interrupt, on the first CPU.
pub fn wake(line: &'static Line, all: bool) {
    let asleep = ASLEEP.load(Ordering::SeqCst);
    if asleep == 0 {
        return;
    }
    for (cpu, bed) in BEDS.iter().enumerate() {
        let sleeps = asleep >> cpu & 1 != 0 && ptr::eq(bed.line.load(Ordering::Relaxed), line);
        if sleeps && (all || bed.has_what_it_is_for()) {
            apic::send_to(cpu as u8);
            apic::send(WAKE);
        }
    }
}

/// Halts CPU number `cpu`, which is this one, until another has made `done` true and called
/// [`wake_waiting`].
pub fn wait_for_others(cpu: usize, done: impl FnMut() -> bool) {
    WAITING.fetch_or(1 << cpu, Ordering::SeqCst);
    match cpu {
        0 => cpu::halt_until(done),
        _ => cpu::halt_held_off_until(done),
    }
    WAITING.fetch_and(!(1 << cpu), Ordering::SeqCst);
}

/// Wakes the CPUs that wait for others to look once more. For CPU number `cpu`, which is this one,
/// outside of handlers.
pub fn wake_waiting(cpu: usize) {
    // As in `sleep`, with the sides exchanged.
    fence(Ordering::SeqCst);
    let waiting = WAITING.load(Ordering::SeqCst);
    // On the first CPU the handler of a device's interrupt sends through the same register.
    if cpu == 0 {
        cpu::disable_interrupts();
    }
    for other in (0..MAX_CPUS).filter(|other| waiting >> other & 1 != 0) {
        apic::send_to(other as u8);
        apic::send(if other == 0 { WAKE_FIRST } else { WAKE });
    }
    if cpu == 0 {
        cpu::enable_interrupts();
    }
}

impl Bed {
    /// Whether the device has used so much. (The CPU may be awake meanwhile, and about to say what it
    /// wants next: then it has yet to look.)
    fn has_what_it_is_for(&self) -> bool {
        let used_idx = self.used_idx.load(Ordering::Relaxed);
        // SAFETY: it is in the memory of a queue, and aligned, and who sleeps keeps the queue.
        let idx =
            unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u16>(used_idx as usize)) };
        let popped = self.popped.load(Ordering::Relaxed);
        u16::from_le(idx).wrapping_sub(popped) >= self.chains.load(Ordering::Relaxed)
    }
}
