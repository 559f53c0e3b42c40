//! `run=bench` by the hands of a test that plays the VMM: what becomes of its commands.

use core::arch::x86_64::_rdtsc;

use guest::workloads::bench::{Clock, Latencies, Performed, Probes, Unsupported};
use spec::bench::{
    Command, DATA_SIZE, END, GO, Kind, LATENCIES_MAX, OUTCOME_OFFSET, Outcome, PAGE_SIZE,
    fill_data, outcome,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::host::{Host, Ram, run_with};

/// The VMM's side of the control port, and a machine whose operations all take ten ticks.
pub struct Control {
    memory: GuestMemoryMmap,
    page: GuestAddress,
    commands: Vec<Command>,
    /// How often the port has been read.
    asked: usize,
    /// What came of the commands, and their latencies.
    done: Vec<(Outcome, Vec<u32>)>,
    /// What the port reads, instead of what there is to do.
    reads: Option<u32>,
}

impl Control {
    /// A VMM that has these commands.
    pub fn new(ram: &Ram, commands: Vec<Command>) -> Self {
        Self {
            memory: ram.memory.clone(),
            page: GuestAddress(0),
            commands,
            asked: 0,
            done: Vec::new(),
            reads: None,
        }
    }

    /// A VMM that knows nothing of benchmarks.
    pub fn absent(ram: &Ram) -> Self {
        Self {
            reads: Some(u32::MAX),
            ..Self::new(ram, Vec::new())
        }
    }

    /// Takes the outcome of the last command.
    fn take_outcome(&self) -> (Outcome, Vec<u32>) {
        let mut bytes = [0; Outcome::SIZE];
        let place = GuestAddress(self.page.0 + OUTCOME_OFFSET as u64);
        self.memory.read_slice(&mut bytes, place).unwrap();
        let outcome = Outcome::from_bytes(&bytes);
        let latencies = (0..outcome.latency_count).map(|i| {
            let place = GuestAddress(outcome.latencies + 4 * i);
            u32::from_le(self.memory.read_obj(place).unwrap())
        });
        (outcome, latencies.collect())
    }
}

impl Probes for Control {
    fn announce(&mut self, page: u64) {
        assert!(page.is_multiple_of(PAGE_SIZE as u64));
        self.page = GuestAddress(page);
        let mut data = vec![0; DATA_SIZE];
        fill_data(&mut data);
        let place = GuestAddress(page + PAGE_SIZE as u64);
        self.memory.write_slice(&data, place).unwrap();
    }

    fn ask(&mut self) -> u32 {
        if let Some(value) = self.reads {
            return value;
        }
        if self.asked > 0 {
            self.done.push(self.take_outcome());
        }
        self.asked += 1;
        let Some(command) = self.commands.get(self.asked - 1) else {
            return END;
        };
        self.memory
            .write_slice(&command.to_bytes(), self.page)
            .unwrap();
        GO
    }

    fn clock(&self) -> Clock {
        ticks
    }

    fn perform(
        &mut self,
        kind: Kind,
        iterations: u64,
        latencies: &mut Latencies<'_>,
    ) -> Result<Performed, Unsupported> {
        match kind {
            Kind::Hypercall => return Err(Unsupported("no such instruction")),
            Kind::Doorbell => (0..iterations).for_each(|i| latencies.push(i << 31)),
            _ => (),
        }
        Ok(Performed {
            ticks: 10 * iterations,
            interrupts: latencies.count(),
        })
    }
}

/// The clock of the machine that there is not.
pub fn ticks() -> u64 {
    // SAFETY: every CPU that this runs on has the instruction.
    unsafe { _rdtsc() }
}

/// Has the guest do `commands`; returns what came of them, and what it printed.
pub fn perform(
    ram: &mut Ram,
    hosts: &mut [Host],
    commands: Vec<Command>,
) -> (Vec<(Outcome, Vec<u32>)>, String) {
    let mut control = Control::new(ram, commands);
    let (ok, console) = run_with(ram, hosts, "run=bench", &mut control);
    assert!(ok, "{console}");
    (control.done, console)
}

#[test]
fn every_command_has_its_outcome_until_the_vmm_ends_it() {
    let commands = vec![
        Command::new(Kind::Empty, 7),
        Command::new(Kind::Doorbell, 3),
        Command::new(Kind::Rdtsc, 0),
    ];
    let mut ram = Ram::new();
    let (done, console) = perform(&mut ram, &mut [], commands);
    assert_eq!(console, "bench commands=3 ok\n");
    let found: Vec<_> = done
        .into_iter()
        .map(|(o, latencies)| (o.status, o.iterations, o.ticks, o.interrupts, latencies))
        .collect();
    // The last latency is one that 32 bits do not hold.
    let latencies = vec![0, 1 << 31, u32::MAX];
    assert_eq!(
        found,
        [
            (outcome::DONE, 7, 70, 0, vec![]),
            (outcome::DONE, 3, 30, 3, latencies),
            (outcome::DONE, 0, 0, 0, vec![]),
        ]
    );
}

#[test]
fn a_command_that_cannot_be_done_is_told_and_the_next_one_is_done() {
    let commands = vec![
        Command::new(Kind::Hypercall, 1),
        Command {
            kind: 99,
            ..Command::default()
        },
        Command::new(Kind::Ipi, LATENCIES_MAX + 1),
        Command::new(Kind::Empty, 1),
    ];
    let mut ram = Ram::new();
    let (done, console) = perform(&mut ram, &mut [], commands);
    assert_eq!(
        console,
        "bench kind=14 UNSUPPORTED: no such instruction\n\
         bench kind=99 FAILED: there is no such kind\n\
         bench kind=20 FAILED: there are more iterations than there is room for latencies\n\
         bench commands=4 ok\n"
    );
    let found: Vec<_> = done.iter().map(|(o, _)| (o.status, o.iterations)).collect();
    assert_eq!(
        found,
        [
            (outcome::UNSUPPORTED, 0),
            (outcome::FAILED, 0),
            (outcome::FAILED, 0),
            (outcome::DONE, 1),
        ]
    );
}

#[test]
fn a_machine_without_a_benchmark_is_told_from_one_with() {
    let mut ram = Ram::new();
    for reads in [u32::MAX, 0, 3] {
        let mut control = Control::absent(&ram);
        control.reads = Some(reads);
        let (ok, console) = run_with(&mut ram, &mut [], "run=bench", &mut control);
        let verdict = format!(
            "bench FAILED: port 0x700 reads {reads:#x}: there is no `vmm bench` that has commands\n"
        );
        assert_eq!((ok, console), (false, verdict));
    }
}

#[test]
fn a_machine_without_the_memory_for_latencies_is_told_of_it() {
    let mut ram = Ram::without_more();
    let mut control = Control::new(&ram, vec![Command::new(Kind::Empty, 1)]);
    let (ok, console) = run_with(&mut ram, &mut [], "run=bench", &mut control);
    let verdict = "bench FAILED: out of DMA memory: 1052672 bytes asked for, 0 left\n".to_owned();
    assert_eq!((ok, console), (false, verdict));
}
