//! The kinds of exit that are measured, in the order of the report: what each is called, where it
//! ends, and how a figure is got from the guest's commands. Measures nothing.

use spec::bench::{Kind, LATENCIES_MAX};

use super::report::Handled;

/// A kind of exit, as it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// What the guest does.
    pub kind: Kind,
    /// Its name in the report.
    pub name: &'static str,
    /// Where it ends, unless KVM's counters show that it is elsewhere.
    pub handled: Handled,
    /// How it is timed.
    pub timing: Timing,
    /// Whether a CPU of the host sleeps meanwhile, unless it is kept from that.
    pub sleeps: bool,
    /// What else the reader of its figures has to know; empty, or a sentence.
    pub note: &'static str,
}

/// How a kind is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// The guest does it many times in a row, and takes the time of all.
    Loop,
    /// The guest takes the time of each.
    Each,
    /// The host raises an interrupt each time, and takes the time until the guest's handler says by
    /// a port that it runs.
    Interrupt,
}

impl Timing {
    /// The most operations for one command.
    #[must_use]
    pub fn max_iterations(self) -> u64 {
        match self {
            Self::Loop => 1 << 28,
            // Each of them is a sample that the report keeps.
            Self::Each | Self::Interrupt => EACH_MAX,
        }
    }
}

/// The most operations that are timed one by one for a command.
const EACH_MAX: u64 = 20;
const _: () = assert!(EACH_MAX <= LATENCIES_MAX);

const fn subject(kind: Kind, name: &'static str, handled: Handled, timing: Timing) -> Subject {
    Subject {
        kind,
        name,
        handled,
        timing,
        sleeps: false,
        note: "",
    }
}

impl Subject {
    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    const fn sleeps(self) -> Self {
        Self {
            sleeps: true,
            ..self
        }
    }

    /// How it is measured, in a few sentences.
    #[must_use]
    pub fn method(&self) -> String {
        let how = match self.timing {
            Timing::Loop => {
                "Mean of many in a row by the guest's TSC, less the same loop with nothing in it."
            }
            Timing::Each => "Each by itself, by the guest's TSC.",
            Timing::Interrupt => {
                "Each by itself, by the host's clock: from the write to the irqfd to the exit by \
                 which the guest's handler says that it runs."
            }
        };
        let awake = if self.sleeps {
            "All CPUs of the host are kept busy, so that none has to wake from an idle state, \
             which can take ten times as long."
        } else {
            ""
        };
        let sentences = [how, self.note, awake];
        let sentences: Vec<&str> = sentences.into_iter().filter(|s| !s.is_empty()).collect();
        sentences.join(" ")
    }
}

/// The loop that is taken off each [`Timing::Loop`].
pub const EMPTY: Subject = subject(Kind::Empty, "empty loop", Handled::Guest, Timing::Loop);

/// Name of [`Kind::Doorbell`].
pub const DOORBELL: &str = "mmio write to irq handler";

/// The kinds that leave the machine with the value of a register, and nothing more: their cost is
/// that of an exit to user space.
pub const TO_USER: [&str; 4] = ["pio out", "pio in", "mmio write", "mmio read"];

/// What a machine with one CPU can do.
pub const ONE_CPU: [Subject; 19] = {
    use Handled::{Guest, Kernel, User};
    use Timing::{Each, Interrupt, Loop};
    [
        subject(Kind::Alu, "alu", Guest, Loop),
        subject(Kind::Rdtsc, "rdtsc", Guest, Loop),
        subject(Kind::Cpuid, "cpuid", Kernel, Loop).note("Leaf 0."),
        subject(Kind::Wrmsr, "wrmsr", Kernel, Loop).note("IA32_APIC_BASE."),
        subject(Kind::Rdmsr, "rdmsr", Kernel, Loop).note("IA32_APIC_BASE."),
        subject(Kind::PioOut, TO_USER[0], User, Loop),
        subject(Kind::PioIn, TO_USER[1], User, Loop),
        subject(Kind::MmioWrite, TO_USER[2], User, Loop),
        subject(Kind::MmioRead, TO_USER[3], User, Loop),
        subject(Kind::PioEvent, "pio ioeventfd", Kernel, Loop)
            .note("Of any width and value. KVM counts it among its io_exits."),
        subject(Kind::PioMatch, "pio ioeventfd datamatch", Kernel, Loop)
            .note("KVM counts it among its io_exits."),
        subject(Kind::MmioEvent, "mmio ioeventfd", Kernel, Loop).note("Of any width and value."),
        subject(Kind::MmioMatch, "mmio ioeventfd datamatch", Kernel, Loop),
        subject(Kind::Hypercall, "hypercall", Kernel, Loop).note("KVM_HC_VAPIC_POLL_IRQ."),
        subject(Kind::SelfIpi, "self-ipi and eoi", Kernel, Loop),
        subject(Kind::HltTimer, "hlt until timer", Kernel, Each)
            .note("From the moment for which the timer was set to its handler.")
            .sleeps(),
        subject(Kind::Doorbell, DOORBELL, User, Each).note(
            "From before the write to the handler of the interrupt that it makes the VMM raise.",
        ),
        subject(Kind::IrqHalted, "irqfd to halted guest", User, Interrupt).sleeps(),
        subject(Kind::IrqRunning, "irqfd to running guest", User, Interrupt).note(
            "A KVM that emulates instructions delivers it only at the end of a batch of them.",
        ),
    ]
};

/// What takes two.
pub const TWO_CPUS: [Subject; 1] = [subject(
    Kind::Ipi,
    "ipi to halted cpu and back",
    Handled::Kernel,
    Timing::Each,
)
.sleeps()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_but_those_of_block_i_o_and_the_loop_is_measured_once_and_under_a_name_of_its_own()
    {
        let subjects: Vec<Subject> = ONE_CPU.into_iter().chain(TWO_CPUS).collect();
        for kind in Kind::ALL {
            let expected = !matches!(kind, Kind::Empty | Kind::Block | Kind::BlockNotify);
            let found = subjects.iter().filter(|s| s.kind == kind).count();
            assert_eq!(found, usize::from(expected), "{kind:?}");
        }
        for subject in &subjects {
            let name = subject.name;
            assert_eq!(subjects.iter().filter(|s| s.name == name).count(), 1);
        }
    }
}
