//! The other CPUs. Each is started to do one thing; when that is done it halts for good, until it is
//! started again. What they do is not decided here, nor which of them there are needed.

use core::arch::global_asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::boot_info::BootInfo;
use super::{apic, cpu, descriptors, sleepers};

global_asm!(
    include_str!("boot.s"),
    STACK = sym STACK,
    MAIN = sym main,
);

/// How many CPUs can be used: the first, and the others that there is a stack for.
pub const MAX_CPUS: usize = 8;
/// Where a CPU begins, in real mode: below 1 MiB, behind what the VMM has written there.
const TRAMPOLINE: u64 = 0x1_0000;
/// Room for it, in bytes.
const TRAMPOLINE_SIZE: u64 = 0x1000;
/// How long a CPU is waited for that is to start, in ticks: a few seconds, since the host may have
/// other things to do.
const PATIENCE: u64 = 1 << 33;
/// CPUID leaf of the topology, and the index of the level whose units are the CPUs of the machine.
const TOPOLOGY_LEAF: u32 = 0xb;
const CORE_LEVEL: u32 = 1;

/// Size of the stack of a CPU that is not the first, in bytes.
const STACK_SIZE: usize = 32 << 10;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

static mut STACKS: [Stack; MAX_CPUS - 1] = [const { Stack([0; STACK_SIZE]) }; MAX_CPUS - 1];

/// For the CPU that is being started: where its stack ends, what it is to do, and with what.
static STACK: AtomicU64 = AtomicU64::new(0);
static WORK: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static ARGUMENT: AtomicU64 = AtomicU64::new(0);

/// How far a CPU has come: one of the states below. The first one's is not used.
static STATES: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(HALTED) }; MAX_CPUS];
const HALTED: u32 = 0;
const STARTING: u32 = 1;
const WORKING: u32 = 2;

/// The CPU that is being started.
static STARTED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    /// In `boot.s`: what is copied to where a CPU begins.
    static trampoline: [u8; 0];
    static trampoline_end: [u8; 0];
}

/// Why there is no other CPU to be started.
#[derive(Clone, Copy, Debug)]
pub enum StartError {
    /// There is no RAM for it to begin in.
    NoRam,
    /// It does not start.
    Silent,
}

/// The CPUs of the machine, by the IDs of their local APICs, which VMMs count from 0.
pub struct Cpus {
    /// Whether there is RAM for others to begin in.
    has_trampoline: bool,
}

impl Cpus {
    /// The CPUs of a machine that was booted so.
    pub fn new(boot: &BootInfo) -> Self {
        Self {
            has_trampoline: boot.has_ram(TRAMPOLINE, TRAMPOLINE + TRAMPOLINE_SIZE),
        }
    }

    /// How many can be used, as CPUID tells: at least 1.
    pub fn count(&self) -> usize {
        if !self.has_trampoline || __cpuid(0).eax < TOPOLOGY_LEAF {
            return 1;
        }
        let cpus = __cpuid_count(TOPOLOGY_LEAF, CORE_LEVEL).ebx & 0xffff;
        (cpus as usize).clamp(1, MAX_CPUS)
    }

    /// Has the CPU `index`, from 1 to below [`MAX_CPUS`], call `work` with its index and `argument`.
    /// Interrupts are held off there. It may have been started before, but must have come to the
    /// end of that.
    ///
    /// # Errors
    /// There is no such CPU.
    pub fn start(
        &mut self,
        index: usize,
        work: extern "C" fn(usize, u64),
        argument: u64,
    ) -> Result<(), StartError> {
        if !self.has_trampoline {
            return Err(StartError::NoRam);
        }
        let (start, end) = (
            (&raw const trampoline).addr(),
            (&raw const trampoline_end).addr(),
        );
        // SAFETY: the trampoline is read where the image has it, and written to where there is RAM
        // that nobody else uses.
        unsafe {
            ptr::copy_nonoverlapping(
                ptr::with_exposed_provenance::<u8>(start),
                ptr::with_exposed_provenance_mut(TRAMPOLINE as usize),
                end - start,
            );
        }
        let stack = (&raw const STACKS).addr() + index * STACK_SIZE;
        STACK.store(stack as u64, Ordering::Relaxed);
        WORK.store(work as *mut (), Ordering::Relaxed);
        ARGUMENT.store(argument, Ordering::Relaxed);
        STARTED.store(index as u32, Ordering::Relaxed);
        STATES[index].store(STARTING, Ordering::Release);
        apic::send_to(index as u8);
        apic::start_cpu((TRAMPOLINE >> 12) as u8);
        let begin = cpu::ticks();
        while STATES[index].load(Ordering::Acquire) == STARTING {
            if cpu::ticks() - begin > PATIENCE {
                return Err(StartError::Silent);
            }
        }
        Ok(())
    }

    /// Waits halted, on the first CPU, until the CPU `index` has done what it was started for.
    pub fn join(&self, index: usize) {
        sleepers::wait_for_others(0, || STATES[index].load(Ordering::Acquire) == HALTED);
    }
}

/// What a CPU does that has been started, from the end of its stack on.
extern "C" fn main() -> ! {
    descriptors::load_idt();
    apic::enable();
    let index = STARTED.load(Ordering::Acquire) as usize;
    let (work, argument) = (
        WORK.load(Ordering::Relaxed),
        ARGUMENT.load(Ordering::Relaxed),
    );
    // SAFETY: `start` has stored this function, and waits for the state to change before it stores
    // another.
    let work = unsafe { core::mem::transmute::<*mut (), extern "C" fn(usize, u64)>(work) };
    STATES[index].store(WORKING, Ordering::Release);
    work(index, argument);
    STATES[index].store(HALTED, Ordering::Release);
    sleepers::wake_waiting(index);
    cpu::halt_for_good()
}
