//! The tables of a stock Linux guest, and what is to be said below them of where it was measured.

use super::super::format::{digits, time};
use super::super::linux::Figure;
use super::super::report::{Linux, LinuxDisk};
use super::{NONE, Table, head};

pub(super) fn tables(linux: &Linux) -> Vec<Table> {
    if linux.disks.is_empty() {
        return vec![Table {
            title: "Linux guest".into(),
            head: Vec::new(),
            rows: Vec::new(),
            notes: linux.missing.clone(),
        }];
    }
    vec![random(linux), scattered(linux)]
}

fn random(linux: &Linux) -> Table {
    let rest = |disk: &LinuxDisk| {
        vec![
            time(disk.latency.summary.median),
            digits(disk.exits_to_user),
            digits(disk.exits),
        ]
    };
    let mut notes = Vec::new();
    if let Some(host) = &linux.host {
        notes.push(format!("Measured on {}.", host.description));
        if host.emulated {
            notes.push(
                "That CPU is emulated itself: of these figures the ratios alone mean something."
                    .into(),
            );
        }
    }
    notes.push(
        "'exits' are those of one read that KVM's counters io_exits, mmio_exits and signal_exits \
         tell of, to user space, and 'all' its counter exits."
            .into(),
    );
    Table {
        title: "Linux guest: random reads of 4 KiB past its page cache, one at a time".into(),
        head: compared_head("IOPS", linux)
            .into_iter()
            .chain(head("median | exits | all"))
            .collect(),
        rows: (linux.disks.iter())
            .map(|disk| [compared(disk, |disk| &disk.iops, linux), rest(disk)].concat())
            .collect(),
        notes,
    }
}

fn scattered(linux: &Linux) -> Table {
    Table {
        title: "Linux guest: reads of 1 MiB into 256 scattered pages, one at a time".into(),
        head: compared_head("MiB/s", linux),
        rows: (linux.disks.iter())
            .map(|disk| compared(disk, |disk| &disk.scattered, linux))
            .collect(),
        notes: linux.missing.clone(),
    }
}

/// The headings of [`compared`].
fn compared_head(unit: &str, linux: &Linux) -> Vec<String> {
    let mut names = head(&format!("disk | {unit} | × trap"));
    let machine = linux
        .other()
        .and_then(|other| other.machine.split(' ').next());
    names.extend(machine.map(|machine| format!("× {machine}")));
    names
}

/// A disk's figure, how many times that of the disk with other registers it is, measured in turns
/// with it, and how many times that of another VMM, if there is one.
fn compared(disk: &LinuxDisk, figure: Figure, linux: &Linux) -> Vec<String> {
    let value = figure(disk).summary.median;
    let by_trap = linux.by_trap(disk, figure);
    let mut row = vec![
        disk.name(),
        digits(value),
        by_trap.map_or(NONE.into(), |ratio| digits(ratio.summary.median)),
    ];
    row.extend(linux.other().map(|other| {
        let base = figure(other).summary.median;
        if base > 0.0 && other != disk {
            digits(value / base)
        } else {
            NONE.into()
        }
    }));
    row
}
