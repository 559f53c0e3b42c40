//! What exits cost, measured in haste: that there is a figure for each kind, and that it is counted
//! right. How large the figures are is no test's matter.

use libtest_mimic::Trial;
use spec::bench::{Command, Kind};
use vmm::bench::control::Performed;
use vmm::bench::error::BenchError;
use vmm::bench::exits::{self, ExitsOptions};
use vmm::bench::floor::Floor;
use vmm::bench::kinds::{ONE_CPU, TO_USER, TWO_CPUS};
use vmm::bench::machine::{Machine, MachineOptions};
use vmm::bench::progress::Silent;
use vmm::bench::report::{ExitCost, Exits, Handled};

use crate::harness::TIME_LIMIT;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("exits_of_each_kind_are_measured_and_counted", each_kind),
        test("exits_machine_and_floor_do_the_same_command", same_command),
        test("exits_guest_that_hangs_is_given_up_and_stopped", hang),
        test(
            "exits_machine_that_cannot_be_is_refused",
            impossible_machine,
        ),
    ]
}

fn measure() -> Exits {
    let options = ExitsOptions {
        quick: true,
        ..ExitsOptions::default()
    };
    exits::measure(&options, &mut Silent).unwrap()
}

fn cost<'e>(exits: &'e Exits, name: &str) -> &'e ExitCost {
    let kind = exits.kinds.iter().find(|kind| kind.name == name).unwrap();
    kind.cost.as_ref().unwrap()
}

fn each_kind() {
    let exits = measure();
    let names: Vec<&str> = exits.kinds.iter().map(|kind| kind.name.as_str()).collect();
    let expected = ONE_CPU.iter().chain(&TWO_CPUS);
    assert!(names.iter().eq(expected.map(|subject| &subject.name)));
    assert!(exits.tsc_khz > 100_000 && exits.tsc_khz_by_clock > 100_000);

    for kind in &exits.kinds {
        let Ok(cost) = &kind.cost else { continue };
        let name = &kind.name;
        for series in [&cost.vmm, &cost.floor, &cost.with_stats, &cost.cpu] {
            assert!(series.samples.len() >= 3, "{name}");
            assert!(series.samples.iter().all(|ns| ns.is_finite()), "{name}");
        }
        assert_eq!(
            kind.handled == Handled::User,
            cost.exits.vmm > 0.5,
            "{name}"
        );
    }
    for name in TO_USER {
        let cost = cost(&exits, name);
        assert_eq!(cost.exits.vmm, 1.0, "{name}: {:?}", cost.exits);
        assert!(cost.vmm.summary.min > 0.0, "{name}");
        let kernel = cost.exits.kernel;
        assert!(kernel.is_none_or(|exits| exits > 0.9), "{name}: {kernel:?}");
        assert!(cost.vmm.summary.min > 0.0, "{name}");
    }
    for name in ["alu", "rdtsc", "cpuid", "pio ioeventfd", "mmio ioeventfd"] {
        assert_eq!(cost(&exits, name).exits.vmm, 0.0, "{name}");
    }
    assert_eq!(exits::targets(&exits).len(), TO_USER.len());
}

fn command(kind: Kind, iterations: u64) -> Command {
    Command {
        kind: kind as u64,
        iterations,
        ..Command::default()
    }
}

fn same_command() {
    let options = MachineOptions::default();
    let mut machine = Machine::start(&options).unwrap();
    let mut floor = Floor::start(&options).unwrap();
    let command = command(Kind::Doorbell, 3);
    let check = |performed: Performed| {
        assert_eq!(performed.outcome.iterations, 3);
        assert_eq!(performed.outcome.interrupts, 3);
        assert_eq!(performed.latencies.len(), 3);
        assert!(performed.outcome.ticks > 0 && !performed.cpu.is_zero());
    };
    check(machine.control.perform(&command, TIME_LIMIT).unwrap());
    check(floor.control.perform(&command, TIME_LIMIT).unwrap());
}

fn hang() {
    let options = MachineOptions::default();
    // Nobody raises the interrupt.
    let command = command(Kind::IrqHalted, 1);
    let limit = std::time::Duration::from_millis(100);
    let mut machine = Machine::start(&options).unwrap();
    let error = machine.control.perform(&command, limit).unwrap_err();
    assert!(matches!(error, BenchError::Timeout { .. }), "{error}");
    let mut floor = Floor::start(&options).unwrap();
    let error = floor.control.perform(&command, limit).unwrap_err();
    assert!(matches!(error, BenchError::Timeout { .. }), "{error}");
}

fn impossible_machine() {
    let options = MachineOptions {
        memory: 1 << 60,
        ..MachineOptions::default()
    };
    let error = Machine::start(&options).err().unwrap().to_string();
    assert!(error.starts_with("--memory: "), "{error}");
}
