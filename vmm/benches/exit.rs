//! What an exit costs in user space, from the return of KVM_RUN to the next: `Bus`, which finds
//! the device, and `handle_exit`, which asks it, both on the buses of a machine with four disks; and
//! what observers add to that, and to a request. Time is that of the thread, which other work of the
//! machine does not count in.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::disk::Answer;
use devices::virtio::block::observe::QueueObserver;
use devices::virtio::block::request::{ParseError, Refusal};
use devices::virtio::block::stats::{DrainCause, QueueRecorder, SharedQueueStats};
use devices::virtio::block::{Block, BlockOptions, NotifyMode};
use devices::virtio::queue::Batch;
use devices::virtio::{Drain, Interrupt, MmioTransport};
use devices::{BusDevice, Response};
use kvm_ioctls::{Kvm, VcpuExit};
use rustix::time::{ClockId, clock_gettime};
use spec::board;
use spec::mmio::{InterruptStatus, Register};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm::config::{Engine, StatsReport, TraceConfig};
use vmm::exit::{Buses, handle_exit};
use vmm::kvm_run::KvmRunPage;
use vmm::layout;
use vmm::observe::{ExitObserver, HandledExit, MachineObserver, QueueName};
use vmm::stats::Statistics;
use vmm::stats::address::AddressMap;
use vmm::stats::exits::ExitSite;
use vmm::trace::Tracer;

const DISKS: usize = 4;

/// A device that does nothing.
struct Inert;

impl BusDevice for Inert {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Response {
        black_box(data);
        Response::Done
    }
}

impl Interrupt for Inert {
    fn signal(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The ports of a machine, with nothing behind them, and virtio-mmio windows with disks.
fn buses() -> Buses {
    let mut buses = Buses::default();
    for (port, count) in [
        (board::COM1_PORT, board::COM1_PORTS),
        (board::DEBUG_EXIT_PORT, 1),
        (board::I8042_COMMAND_PORT, 1),
        (board::SLEEP_CONTROL_PORT, 2),
    ] {
        let device = Arc::new(Mutex::new(Inert));
        buses.pio.insert(port.into(), count.into(), device).unwrap();
    }
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    for window in (0..DISKS).map(layout::virtio_mmio) {
        let options = BlockOptions {
            read_only: false,
            id: String::new(),
            notify: vec![NotifyMode::Trap],
        };
        let block = Block::new(Box::new(MemoryBackend::new(vec![0; 512])), options).unwrap();
        let transport = MmioTransport::new(memory.clone(), Box::new(block), Arc::new(Inert));
        let size = board::VIRTIO_MMIO_SIZE;
        let transport = Arc::new(Mutex::new(transport));
        buses.mmio.insert(window.base, size, transport).unwrap();
    }
    buses
}

/// The register of the last disk that costs the device least.
fn acknowledge() -> u64 {
    layout::virtio_mmio(DISKS - 1).base + Register::InterruptACK.offset()
}

/// For how long this thread has run.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

fn time<T>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut access: impl FnMut() -> T) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let start = cpu_time();
            for _ in 0..times {
                black_box(access());
            }
            cpu_time() - start
        });
    });
}

fn bus(criterion: &mut Criterion) {
    let buses = buses();
    let mut group = criterion.benchmark_group("Bus");
    let (port, address) = (board::COM1_PORT.into(), acknowledge());
    time(&mut group, "write to a device that does nothing", || {
        buses.pio.write(black_box(port), &[0])
    });
    time(&mut group, "write to InterruptACK", || {
        buses.mmio.write(black_box(address), &[0; 4])
    });
    time(&mut group, "read where nothing is", || {
        buses.mmio.read(black_box(0xc000_0000), &mut [0; 4])
    });
}

/// An exit needs the page of a vCPU, and so KVM.
fn exit(criterion: &mut Criterion) {
    let Ok(kvm) = Kvm::new() else {
        println!("handle_exit is not measured: this machine offers no KVM");
        return;
    };
    let vcpu = kvm.create_vm().unwrap().create_vcpu(0).unwrap();
    let page = KvmRunPage::map(&vcpu).unwrap();
    let buses = buses();
    let mut group = criterion.benchmark_group("handle_exit");
    time(&mut group, "MMIO write to InterruptACK", || {
        let mut exit = VcpuExit::MmioWrite(black_box(acknowledge()), &[0; 4]);
        handle_exit(&buses, &mut exit, &page)
    });
    time(&mut group, "PIO out to a device that does nothing", || {
        let mut exit = VcpuExit::IoOut(black_box(board::COM1_PORT), &[0]);
        handle_exit(&buses, &mut exit, &page)
    });
}

/// What is added to an exit, and to a request that is alone in its drain, where there is someone
/// who watches.
fn observers(criterion: &mut Criterion) {
    let Ok(kvm) = Kvm::new() else {
        println!("observers of exits are not measured: this machine offers no KVM");
        return;
    };
    let vcpu = kvm.create_vm().unwrap().create_vcpu(0).unwrap();
    let exit = VcpuExit::MmioWrite(acknowledge(), &[0; 4]);
    let site = ExitSite::of(&Ok(exit));
    let mut tracer = Tracer::new(&TraceConfig {
        path: "never-opened".into(),
        limit: 100_000,
    });
    let map = Arc::new(AddressMap::default());
    let mut statistics = Statistics::new(StatsReport::Nobody, map, Vec::new());

    let mut group = criterion.benchmark_group("exit observer");
    let observers: [(_, Box<dyn ExitObserver>); 2] = [
        ("statistics", Box::new(statistics.add_vcpu(&vcpu))),
        ("trace", tracer.vcpu(0)),
    ];
    for (name, mut observer) in observers {
        time(&mut group, name, || {
            observer.begins(black_box(site));
            observer.ends(&HandledExit {
                site,
                len: 4,
                value: 0,
                vcpu: &vcpu,
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("queue observer");
    let queue = QueueName {
        disk: 0,
        device: "disk".to_owned(),
        queue: 0,
        of: 1,
        engine: Engine::Sync,
    };
    let observers: [(_, Box<dyn QueueObserver>); 2] = [
        (
            "statistics",
            Box::new(QueueRecorder::new(SharedQueueStats::default())),
        ),
        ("trace", tracer.queue(&queue)()),
    ];
    let request = Err(ParseError {
        reason: Refusal::NoStatus,
        status: None,
    });
    let (batch, answer) = (Batch::default(), Answer::default());
    for (name, mut observer) in observers {
        time(&mut group, name, || {
            observer.drain_begins(black_box(DrainCause::Trap), 0);
            observer.taken(&batch);
            observer.submitted(0, &[], &request);
            observer.completed(0, 0, &answer);
            observer.drain_ends(Drain::Complete, true);
            observer.interrupted(InterruptStatus::USED_BUFFER);
        });
    }
}

criterion_group! {
    name = exits;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = bus, exit, observers
}
criterion_main!(exits);
