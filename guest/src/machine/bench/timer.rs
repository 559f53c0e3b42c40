//! The timer of the local APIC, to be woken by from a HLT.

use core::arch::x86_64::__cpuid;

use guest::workloads::bench::Latencies;

use super::handlers;
use crate::machine::{apic, cpu};

/// CPUID leaf 1, ECX: the timer can be set to a moment of the TSC.
const TSC_DEADLINE: u32 = 1 << 24;
/// How long a wait is, in ticks of the TSC: a few hundred microseconds, so that a host that looks
/// for something to do before it lets the CPU sleep finds nothing.
const WAIT: u64 = 1 << 20;
/// How often the timer is compared with the TSC; the best of these counts.
const COMPARISONS: u32 = 8;

/// How the timer is set.
pub enum Timer {
    /// To a moment of the TSC.
    Deadline,
    /// To count down: from here in [`WAIT`].
    Count(u32),
}

impl Timer {
    /// The timer of this CPU; where it counts, its frequency is found out.
    pub fn new() -> Self {
        if __cpuid(1).ecx & TSC_DEADLINE != 0 {
            return Self::Deadline;
        }
        apic::set_timer(None);
        let comparisons = (0..COMPARISONS).map(|_| compare());
        let (_, count) = comparisons.min().unwrap_or((0, 1));
        apic::count_down(0);
        Self::Count(count)
    }

    /// Halts until the timer fires, `iterations` times. The latencies are from when it was to.
    pub fn halt(&self, iterations: u64, latencies: &mut Latencies<'_>) {
        let vector = handlers::install_note_time();
        apic::set_timer(Some((vector, matches!(self, Self::Deadline))));
        for _ in 0..iterations {
            let handled = handlers::count();
            cpu::disable_interrupts();
            let due = cpu::ticks() + WAIT;
            match self {
                Self::Deadline => cpu::set_tsc_deadline(due),
                Self::Count(count) => apic::count_down(*count),
            }
            cpu::halt_until(|| handlers::count() != handled);
            latencies.push(handlers::noted().saturating_sub(due));
        }
        apic::set_timer(None);
    }
}

/// How far the timer counts in [`WAIT`], and before it how many ticks of the TSC went by in which
/// that was read: the fewer, the truer it is.
fn compare() -> (u64, u32) {
    let before = cpu::ticks();
    apic::count_down(u32::MAX);
    let begin = cpu::ticks();
    let mut end = begin;
    while end - begin < WAIT {
        end = cpu::ticks();
    }
    let counted = u64::from(u32::MAX - apic::timer_count());
    let after = cpu::ticks();
    let count = counted * WAIT / (end - begin);
    ((begin - before) + (after - end), count.max(1) as u32)
}
