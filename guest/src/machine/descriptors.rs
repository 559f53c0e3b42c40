//! The CPU's tables for exceptions and interrupts: the IDT, and the task state segment with the
//! stacks for what must not use the one that is in use. Who is called is in `vectors.s`.

use core::arch::{asm, global_asm};
use core::mem::size_of;

use spec::board::IOAPIC_PINS;

use super::apic::END_OF_INTERRUPT;

global_asm!(
    include_str!("vectors.s"),
    EXCEPTIONS = const FIRST_INTERRUPT,
    INTERRUPTS = const INTERRUPTS,
    STUB_SIZE = const STUB_SIZE,
    END_OF_INTERRUPT = const END_OF_INTERRUPT,
);

/// Vector of the first interrupt; those below are exceptions.
pub const FIRST_INTERRUPT: u8 = 32;
/// How many interrupts there are: one for each pin of the IOAPIC.
pub const INTERRUPTS: u8 = IOAPIC_PINS;
/// Vector of what wakes a CPU that is not the first.
pub const WAKE: u8 = FIRST_INTERRUPT + INTERRUPTS;
/// Vector of what wakes the first.
pub const WAKE_FIRST: u8 = WAKE + 1;
/// Vector from which on those are nobody's, up to [`SPURIOUS`].
pub const FIRST_FREE: u8 = WAKE_FIRST + 1;
/// Vector of spurious interrupts.
pub const SPURIOUS: u8 = 0xff;

/// Selector of the code segment in `boot.s`.
const CODE64: u16 = 0x08;
const TSS_INDEX: usize = 3;
/// Size of a stub in `vectors.s`, in bytes.
const STUB_SIZE: u64 = 16;

/// Numbers in the interrupt stack table: of none, which goes on with the stack in use; of the one
/// for what can come when that is no good; and of the one for interrupts. What these interrupt
/// goes on afterwards, and may have data below its stack pointer: in the red zone, which `core`
/// uses where it was compiled for a hosted target. They do not nest, so that one stack is enough.
pub const SAME_STACK: u8 = 0;
const FAULT_STACK: u8 = 1;
pub const INTERRUPT_STACK: u8 = 2;
const STACK_SIZE: usize = 16 << 10;

/// The stack that the CPU changes to for `vector`.
const fn stack_of(vector: u8) -> u8 {
    match vector {
        // Non-maskable interrupt, double fault, machine check.
        2 | 8 | 18 => FAULT_STACK,
        // Nobody returns from an exception, but from one that our own code expects, which has no
        // red zone.
        0..FIRST_INTERRUPT => SAME_STACK,
        _ => INTERRUPT_STACK,
    }
}

/// An entry of the IDT.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    stack: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

/// Present, privilege level 0, interrupt gate: further interrupts are held off.
const INTERRUPT_GATE: u8 = 0x8e;

impl Gate {
    const ABSENT: Self = Self {
        offset_low: 0,
        selector: 0,
        stack: 0,
        kind: 0,
        offset_middle: 0,
        offset_high: 0,
        reserved: 0,
    };

    const fn to(handler: u64, stack: u8) -> Self {
        Self {
            offset_low: handler as u16,
            selector: CODE64,
            stack,
            kind: INTERRUPT_GATE,
            offset_middle: (handler >> 16) as u16,
            offset_high: (handler >> 32) as u32,
            reserved: 0,
        }
    }
}

/// The 64-bit task state segment.
#[repr(C, packed(4))]
struct TaskState {
    reserved0: u32,
    privilege_stacks: [u64; 3],
    reserved1: u64,
    interrupt_stacks: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map_base: u16,
}

/// What LGDT and LIDT take.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

static mut IDT: [Gate; 256] = [Gate::ABSENT; 256];
/// For [`FAULT_STACK`] and [`INTERRUPT_STACK`].
static mut STACKS: [Stack; 2] = [const { Stack([0; STACK_SIZE]) }; 2];
static mut TASK_STATE: TaskState = TaskState {
    reserved0: 0,
    privilege_stacks: [0; 3],
    reserved1: 0,
    interrupt_stacks: [0; 7],
    reserved2: 0,
    reserved3: 0,
    io_map_base: size_of::<TaskState>() as u16,
};

unsafe extern "C" {
    /// In `boot.s`; the entry `TSS_INDEX` is two zeros.
    static mut gdt: [u64; TSS_INDEX + 2];
    /// In `vectors.s`: the stubs.
    static vectors: [u8; 0];
    /// In `vectors.s`: the handler of [`WAKE`] and [`WAKE_FIRST`].
    fn wake();
}

/// Puts the tables into use. To be called once, before interrupts are enabled.
pub fn init() {
    let state = (&raw const TASK_STATE).addr() as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    // SAFETY: there is one CPU and interrupts are off, so that nobody else uses these statics
    // now; after this, only the CPU does.
    unsafe {
        for vector in 0..FIRST_INTERRUPT + INTERRUPTS {
            IDT[usize::from(vector)] = Gate::to(stub(vector), stack_of(vector));
        }
        let wake = wake as *const () as u64;
        IDT[usize::from(WAKE)] = Gate::to(wake, SAME_STACK);
        IDT[usize::from(WAKE_FIRST)] = Gate::to(wake, INTERRUPT_STACK);
        IDT[usize::from(SPURIOUS)] =
            Gate::to(stub(FIRST_INTERRUPT + INTERRUPTS), stack_of(SPURIOUS));

        let stacks = (&raw const STACKS).addr();
        for stack in [FAULT_STACK, INTERRUPT_STACK].map(usize::from) {
            TASK_STATE.interrupt_stacks[stack - 1] = (stacks + stack * STACK_SIZE) as u64;
        }

        // Present, available 64-bit TSS; the base is spread over four fields.
        gdt[TSS_INDEX] =
            limit | (state & 0xff_ffff) << 16 | 0x89 << 40 | (state >> 24 & 0xff) << 56;
        gdt[TSS_INDEX + 1] = state >> 32;
    }
    load_idt();
    // SAFETY: the descriptor of the TSS has just been filled in, and lives for ever.
    unsafe {
        asm!("ltr {:x}", in(reg) (TSS_INDEX * 8) as u16, options(nostack, preserves_flags));
    }
}

/// Has this CPU use the IDT, which `init` has filled in.
pub fn load_idt() {
    let idt = Pointer {
        limit: (size_of::<[Gate; 256]>() - 1) as u16,
        base: (&raw const IDT).addr() as u64,
    };
    // SAFETY: the table lives for ever.
    unsafe {
        asm!("lidt [{}]", in(reg) &raw const idt, options(readonly, nostack, preserves_flags))
    }
}

/// The address of the stub of this number in `vectors.s`.
fn stub(index: u8) -> u64 {
    (&raw const vectors).addr() as u64 + u64::from(index) * STUB_SIZE
}

/// Has the interrupt `vector` handled as `init` said, after [`set_handler`]. No interrupt by that
/// vector may come meanwhile.
pub fn restore_handler(vector: u8) {
    set_gate(vector, Gate::to(stub(vector), stack_of(vector)));
}

/// Has `handler`, which is no Rust function, called for `vector` on the stack of this number. No
/// interrupt by that vector may come meanwhile.
pub fn set_handler(vector: u8, handler: unsafe extern "C" fn(), stack: u8) {
    set_gate(vector, Gate::to(handler as usize as u64, stack));
}

fn set_gate(vector: u8, gate: Gate) {
    // SAFETY: the one CPU that runs this program writes to the table, and no CPU reads this entry
    // now. Volatile, as those that read it are not in this program.
    unsafe { (&raw mut IDT[usize::from(vector)]).write_volatile(gate) }
}
