//! From what a recorder has seen to the story: what was followed, and what the reader has to know of
//! it. Invents nothing.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use devices::virtio::block::throttle::Limits;
use spec::block::SECTOR_SIZE;
use spec::board::{FLAT_LOAD_ADDR, VIRTIO_MMIO_SIZE};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::recorder::Recorder;
use super::registers::features;
use super::story::{Act, Device, Event, FORMAT, Machine, Operation, Range, Step, Story};
use crate::config::{Registers, VmConfig};
use crate::layout::VirtioMmio;
use crate::vm::BUILT_IN_GUEST;

/// What is different with registers that are memory.
const MAPPED: &str = "registers=mapped: the guest reads the device's registers as memory, a load without an exit, and \
     from DRIVER_OK on it writes to InterruptACK, and to all that is behind it, as memory: the device \
     finds that at the next notification. Neither is seen here: a driver that reads InterruptStatus \
     and acknowledges has two exits less for each interrupt, and one less for each read of the \
     negotiation. Where a waiter goes on is where the guest leaves next.";
/// How it is known where an interrupt leads.
const ENTERED: &str = "That KVM injects an interrupt is no exit: that it has is taken from the driver's read of \
     InterruptStatus. The vector is the one that the IOAPIC has for the GSI, the handler the one that \
     the IDT has for the vector, and what was interrupted is on the handler's stack.";

/// What is told of.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The device.
    pub window: VirtioMmio,
    /// Whether the guest's functions are known.
    pub has_symbols: bool,
    /// Whether the disk is the built-in one.
    pub is_built_in: bool,
}

/// The story of what `recorder` has seen of the machine of `config` with this `memory`.
#[must_use]
pub fn story(
    config: &VmConfig,
    memory: &GuestMemoryMmap,
    subject: &Subject,
    recorder: &Recorder,
) -> Story {
    let path = |path: &Path| path.display().to_string();
    let window = subject.window;
    let disk = config.disks.first();
    let negotiation = recorder.negotiation();
    Story {
        format: FORMAT,
        machine: Machine {
            vmm: env!("CARGO_PKG_VERSION").into(),
            kernel: config.kernel.as_deref().map(path),
            initrd: config.initrd.as_deref().map(path),
            cmdline: config.cmdline.to_string_lossy().into_owned(),
            vcpus: config.cpus,
            ranges: ranges(config, memory, subject),
        },
        device: Device {
            base: window.base,
            gsi: window.gsi,
            notify: disk.map_or(String::new(), |disk| disk.notify.name().into()),
            registers: disk.map_or(String::new(), |disk| disk.registers.name().into()),
            disk: disk
                .filter(|_| !subject.is_built_in)
                .map(|disk| path(&disk.path)),
            id: disk.map_or(String::new(), |disk| disk.id.clone()),
            capacity: disk.map_or(0, |disk| capacity(&disk.path)),
            read_only: disk.is_some_and(|disk| disk.readonly),
            offered: features(negotiation.offered),
            accepted: features(negotiation.accepted),
        },
        queue: negotiation.queue.clone(),
        negotiation: negotiation.accesses.clone(),
        acts: recorder.acts.clone(),
        notes: notes(config, subject, recorder),
    }
}

/// What of a story is missing, as the end of a sentence; `None` where it is all there.
#[must_use]
pub fn missing(recorder: &Recorder) -> Option<&'static str> {
    let has = |operation| recorder.acts.iter().any(|act| act.operation == operation);
    let negotiation = recorder.negotiation();
    match (has(Operation::Read), has(Operation::Write)) {
        _ if negotiation.accesses.is_empty() => Some("before the guest touched the disk"),
        (false, false) if !negotiation.is_complete() => {
            Some("before the driver was ready for requests")
        }
        (false, false) => Some("before the guest read or wrote a sector"),
        (true, false) => Some("before the guest wrote a sector"),
        (false, true) => Some("before the guest read a sector"),
        (true, true) if !recorder.acts.iter().all(is_whole) => {
            Some("before the last request was completed")
        }
        (true, true) => None,
    }
}

/// Whether the driver has been told, or did not want to be.
fn is_whole(act: &Act) -> bool {
    let told = |event: &Event| {
        matches!(
            event,
            Event::Interrupt { .. } | Event::InterruptUnwanted { .. }
        )
    };
    act.steps.iter().any(|step| told(&step.event))
}

fn ranges(config: &VmConfig, memory: &GuestMemoryMmap, subject: &Subject) -> Vec<Range> {
    let range = |name: &str, address, len| Range {
        name: name.into(),
        address,
        len,
    };
    let mut ranges: Vec<Range> = memory
        .iter()
        .map(|region| range("RAM", region.start_addr().0, region.len()))
        .collect();
    if config.kernel.is_none() {
        let len = BUILT_IN_GUEST.len() as u64;
        ranges.push(range("guest", FLAT_LOAD_ADDR, len));
    }
    let base = subject.window.base;
    ranges.push(range("virtio-mmio 0", base, VIRTIO_MMIO_SIZE));
    ranges.sort_by_key(|range| range.address);
    ranges
}

/// Size of the disk at `path`, in sectors: a block device's too.
fn capacity(path: &Path) -> u64 {
    let end = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
    end.unwrap_or_default() / SECTOR_SIZE
}

/// What the reader has to know.
fn notes(config: &VmConfig, subject: &Subject, recorder: &Recorder) -> Vec<String> {
    let mut notes = vec![
        "Times are the host's, from one exit to the next and between the device's steps; they stand \
         still while the VMM looks at the guest for this story, but not while the host does other \
         things. What the driver does between two \
         exits has no times: it is shown in the order that the driver has to keep to."
            .to_owned(),
    ];
    if let Some(missing) = missing(recorder) {
        notes.push(format!("The story ends early: {missing}."));
    }
    let count = recorder.negotiation().left_out;
    if count > 0 {
        notes.push(format!(
            "{count} more accesses of the negotiation are left out."
        ));
    }
    if !subject.has_symbols {
        let whose = "The kernel has no symbols that could be read: functions have no names here.";
        notes.push(whose.into());
    }
    let disk = config.disks.first();
    if disk.is_some_and(|disk| disk.readonly) {
        notes.push("The disk is read-only: it is to refuse what would write it.".into());
    }
    if disk.is_some_and(|disk| disk.limits != Limits::default()) {
        let waits = "The disk is throttled: a request that has to wait does so between where the \
                     device takes its head and where it is parsed.";
        notes.push(waits.into());
    }
    if disk.is_some_and(|disk| disk.registers == Registers::Mapped) {
        notes.push(MAPPED.into());
    }
    let entered = |step: &Step| matches!(step.event, Event::HandlerEntered { .. });
    if recorder
        .acts
        .iter()
        .any(|act| act.steps.iter().any(entered))
    {
        notes.push(ENTERED.into());
    }
    for act in &recorder.acts {
        notes.extend(unseen(act).map(|what| {
            let operation = match act.operation {
                Operation::Read => "read",
                Operation::Write => "write",
            };
            format!("Of the {operation} it cannot be seen {what}.")
        }));
    }
    notes
}

/// What the story of `act` lacks although it has come to its end.
fn unseen(act: &Act) -> Option<&'static str> {
    let has = |wanted: fn(&Event) -> bool| act.steps.iter().any(|step| wanted(&step.event));
    let interrupt = has(|event| matches!(event, Event::Interrupt { .. }));
    let handler = has(|event| matches!(event, Event::HandlerEntered { .. }));
    let woken = has(|event| matches!(event, Event::Woken { .. }));
    match (interrupt, handler, woken) {
        (true, false, true) => Some("which vector and which handler the guest entered"),
        (true, false, false) => {
            Some("which handler the guest entered, nor where it went on: the guest does not tell")
        }
        (_, _, false) if is_whole(act) => {
            Some("when and where whoever waited for it went on: the guest does not tell")
        }
        _ => None,
    }
}
