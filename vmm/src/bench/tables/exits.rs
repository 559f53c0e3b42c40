//! The tables of exits, and what is to be said below them so that nobody takes a figure for another.

use super::super::format::{beyond, count, digits, time};
use super::super::report::{ExitCost, ExitKind, Exits, Handled};
use super::{NONE, Table, head, mean};

/// How far two counts of the same exits may be apart, for one operation.
const SAME_COUNT: f64 = 0.01;

pub(super) fn times(exits: &Exits) -> Table {
    let row = |(kind, cost): (&ExitKind, &ExitCost)| {
        let (vmm, floor) = (cost.vmm.summary, cost.floor.summary);
        let above = cost.vmm.difference(&cost.floor);
        let ratio = cost.vmm.ratio(&cost.floor);
        vec![
            kind.name.clone(),
            time(vmm.median),
            time(vmm.min),
            time(vmm.p99),
            mean(&cost.vmm),
            time(floor.median),
            above.map_or(NONE.into(), |above| time(above.summary.median)),
            ratio.map_or(String::new(), |ratio| beyond(ratio.summary.median)),
        ]
    };
    let mut notes = vec![
        "'above' is the median of what each sample is above that of the floor in the same round."
            .into(),
    ];
    let single = |(_, cost): &(&ExitKind, &ExitCost)| cost.per_sample == 1;
    if let Some(names) = names(measured(exits).filter(single)) {
        notes.push(format!(
            "Timed one by one: {names}. Of all others a sample is the mean of a loop, and p99 that of \
             loops."
        ));
    }
    notes.extend(
        (exits.kinds.iter())
            .filter_map(|kind| Some(format!("{}: {}", kind.name, kind.cost.as_ref().err()?))),
    );
    Table {
        title: "Exits: time of one operation, as the guest sees it".into(),
        head: head("operation | median | min | p99 | mean ± 95 % | floor | above | "),
        rows: measured(exits).map(row).collect(),
        notes,
    }
}

pub(super) fn counts(exits: &Exits) -> Table {
    let row = |(kind, cost): (&ExitKind, &ExitCost)| {
        let cycles = cost.vmm.summary.median * f64::from(exits.tsc_khz) / 1e6;
        let mark = if disagree(cost) { " !" } else { "" };
        vec![
            format!("{}{mark}", kind.name),
            handled_by(kind.handled).into(),
            digits(cycles),
            time(cost.with_stats.summary.median),
            time(cost.cpu.summary.median),
            count(cost.exits.vmm),
            cost.exits.kernel_to_user.map_or(NONE.into(), count),
            cost.exits.kernel.map_or(NONE.into(), count),
        ]
    };
    Table {
        title:
            "Exits: where one is handled, and how many to user space this VMM and KVM count for it"
                .into(),
        head: head(
            "operation | handled by | TSC cycles | --stats | CPU time | exits | by KVM | all by KVM",
        ),
        rows: measured(exits).map(row).collect(),
        notes: count_notes(exits),
    }
}

/// What the counts are of, and where the two sides differ.
fn count_notes(exits: &Exits) -> Vec<String> {
    let mut notes = vec![
        "'exits' are returns of KVM_RUN, 'by KVM' what the kernel's counters io_exits, mmio_exits \
         and signal_exits have gone up, and 'all by KVM' its counter exits. CPU time is that of the \
         vCPU's thread, with what the guest does between operations that are timed one by one."
            .into(),
    ];
    let emulated = |(kind, cost): &(&ExitKind, &ExitCost)| {
        kind.handled == Handled::Kernel && cost.exits.kernel.is_some_and(|exits| exits < 0.5)
    };
    if let Some(names) = names(measured(exits).filter(emulated)) {
        notes.push(format!(
            "Handled by the kernel without an exit that it counts: {names}. So does a KVM that \
             emulates the guest's instructions, in which the guest is left for none of them."
        ));
    }
    let uncounted = |cost: &ExitCost| {
        cost.exits
            .kernel_to_user
            .is_some_and(|exits| exits < SAME_COUNT)
    };
    let missed = measured(exits).filter(|(_, cost)| disagree(cost) && uncounted(cost));
    if let Some(names) = names(missed) {
        notes.push(format!(
            "! {names}: KVM_RUN returned, and the counters of 'by KVM' stayed where they were: this \
             KVM does not count such exits there, or not in these counters."
        ));
    }
    for (kind, cost) in measured(exits).filter(|(_, cost)| disagree(cost) && !uncounted(cost)) {
        notes.push(format!(
            "! {}: this VMM counts {} exits for one operation, KVM counts {} to user space.",
            kind.name,
            count(cost.exits.vmm),
            cost.exits.kernel_to_user.map_or(NONE.into(), count)
        ));
    }
    notes
}

/// The kinds that have been measured, each with its cost.
fn measured(exits: &Exits) -> impl Iterator<Item = (&ExitKind, &ExitCost)> {
    let kinds = exits.kinds.iter();
    kinds.filter_map(|kind| Some((kind, kind.cost.as_ref().ok()?)))
}

/// Names of `kinds`, if there are any.
fn names<'e>(kinds: impl Iterator<Item = (&'e ExitKind, &'e ExitCost)>) -> Option<String> {
    let names: Vec<&str> = kinds.map(|(kind, _)| kind.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Whether this VMM and KVM count different numbers of the same exits.
fn disagree(cost: &ExitCost) -> bool {
    let counted = cost.exits.kernel_to_user;
    counted.is_some_and(|counted| (counted - cost.exits.vmm).abs() > SAME_COUNT)
}

fn handled_by(handled: Handled) -> &'static str {
    match handled {
        Handled::Guest => "no exit",
        Handled::Kernel => "kernel",
        Handled::User => "user space",
    }
}
