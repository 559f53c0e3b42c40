//! A report made up for tests: of everything a little, with names that need care.

use super::report::*;

/// A series around `middle`.
pub fn series(middle: f64) -> Series {
    let samples = (0..20).map(|i| middle * (1.0 + 0.01 * f64::from((i * 7) % 20 - 10) / 10.0));
    Series::new(samples.collect())
}

fn kind(name: &str, handled: Handled, ns: f64, floor: f64, counts: (f64, Option<f64>)) -> ExitKind {
    ExitKind {
        name: name.into(),
        method: format!("A loop of 1000 times {name}, less the empty loop."),
        handled,
        cost: Ok(ExitCost {
            per_sample: 1000,
            vmm: series(ns),
            floor: series(floor),
            with_stats: series(ns * 1.02),
            cpu: series(ns * 0.98),
            exits: ExitCounts {
                vmm: counts.0,
                kernel_to_user: counts.1,
                kernel: counts.1.map(|count| count + 0.001),
            },
        }),
    }
}

fn throughput(iops: f64, depth: u32) -> Throughput {
    let p50 = (1e9 * f64::from(depth) / iops) as u64;
    Throughput {
        iops: series(iops),
        latency: Latency {
            count: 10_000,
            min: p50 / 2,
            p50,
            p99: p50 * 2,
            p999: p50 * 5,
            max: p50 * 9,
        },
    }
}

fn cell(notify: &str, depth: u32) -> BlockCell {
    let per_notify = match notify {
        "poll" => 0.0,
        _ => 1.0 / f64::from(depth),
    };
    let exits = if notify == "trap" { per_notify } else { 0.0 };
    let base = if notify == "poll" { 30_000.0 } else { 18_000.0 };
    let iops = base * f64::from(depth).sqrt();
    BlockCell {
        rw: "randread".into(),
        block_size: 4096,
        depth,
        notify: notify.into(),
        wait: "irq".into(),
        figures: Ok(BlockFigures {
            throughput: throughput(iops, depth),
            exits,
            notify_exits: exits,
            notifications: per_notify,
            interrupts: per_notify,
            cpu: CpuSplit {
                guest: 21_000.0,
                kernel: 4_000.0,
                vmm: 900.0,
            },
        }),
        floors: vec![
            ("pread".into(), Ok(throughput(900_000.0, depth))),
            ("io_uring".into(), Err("the kernel refuses io_uring".into())),
        ],
    }
}

fn disk(machine: &str, options: &str, iops: f64, exits_to_user: f64) -> LinuxDisk {
    LinuxDisk {
        machine: machine.into(),
        options: options.into(),
        iops: series(iops),
        latency: series(1e9 / iops),
        exits: exits_to_user + 1.5,
        exits_to_user,
        scattered: series(iops / 4.0),
    }
}

fn queues_cells() -> Vec<QueuesCell> {
    let cell = |queues, iops| QueuesCell {
        queues,
        cpus: 4,
        registers: "mapped".into(),
        cell: BlockCell {
            figures: cell("ioeventfd", 32).figures.map(|figures| BlockFigures {
                throughput: throughput(iops, 32),
                ..figures
            }),
            floors: Vec::new(),
            ..cell("ioeventfd", 32)
        },
    };
    let mut cells = vec![cell(1, 30_000.0), cell(2, 51_000.0)];
    cells.push(QueuesCell {
        cell: BlockCell {
            figures: Err("there are fewer CPUs than queues".into()),
            ..cell(4, 1.0).cell
        },
        ..cell(4, 1.0)
    });
    cells
}

/// A whole report.
pub fn report() -> Report {
    let mut kinds = vec![
        kind("rdtsc", Handled::Guest, 24.0, 24.1, (0.0, Some(0.0))),
        kind("cpuid", Handled::Kernel, 3_508.0, 3_500.0, (0.0, Some(0.0))),
        kind("pio out", Handled::User, 7_084.0, 6_950.0, (1.0, None)),
        kind(
            "mmio write",
            Handled::User,
            7_486.0,
            7_306.0,
            (1.0, Some(1.25)),
        ),
        kind(
            "ipi to halted cpu and back",
            Handled::Kernel,
            560_000.0,
            558_000.0,
            (0.0, Some(0.0)),
        ),
    ];
    kinds.push(ExitKind {
        cost: Err("the guest's console said: \"invalid opcode\" & <nothing> else".into()),
        ..kind("hypercall", Handled::Kernel, 1.0, 1.0, (0.0, None))
    });
    let mut cells: Vec<BlockCell> = ["trap", "ioeventfd-datamatch", "poll"]
        .into_iter()
        .flat_map(|notify| [1, 8, 32, 128].map(|depth| cell(notify, depth)))
        .collect();
    cells.push(BlockCell {
        figures: Err("the disk is too small".into()),
        ..cell("trap", 64)
    });
    Report {
        format: FORMAT,
        host: Host {
            time: 1_790_000_000,
            vmm: "0.1.0".into(),
            facts: vec![
                (
                    "CPU".into(),
                    "Imaginary <CPU> & \"Friends\" @ 3.00GHz".into(),
                ),
                ("KVM module".into(), "kvm_amd, nested".into()),
            ],
        },
        warnings: vec!["Only one CPU: the threads of the machine take turns.".into()],
        exits: Some(Exits {
            tsc_khz: 2_000_000,
            tsc_khz_by_clock: 2_000_100,
            kinds,
        }),
        block: Some(Block {
            disk: "a scratch file in /tmp/<dir>".into(),
            size: 64 << 20,
            cells,
            notes: vec!["Latencies are the guest's own.".into()],
            queues: queues_cells(),
            queues_notes: vec!["This host has 2 CPUs.".into()],
        }),
        linux: Some(Linux {
            host: Some(LinuxHost {
                description: "an imaginary <CPU>, Linux 6.1".into(),
                emulated: true,
            }),
            disks: vec![
                disk("vmm", "registers=trap notify=trap", 1_000.0, 3.0),
                disk("vmm", "registers=mapped notify=trap", 1_550.0, 1.0),
                disk("QEMU 7.2.22 microvm", "", 620.0, 2.0),
            ],
            missing: vec!["Other <VMMs>: none is installed.".into()],
        }),
        start: Some(Start {
            vmm: series(2.1e6),
            floor: series(1.9e6),
            exec: series(0.9e6),
            resident: 2_800_000,
            floor_resident: 1_300_000,
        }),
        targets: vec![
            Target {
                name: "cost of an exit to user space against the floor".into(),
                value: 1.019,
                limit: 1.03,
                unit: String::new(),
                from: "The median of pio out, by that of the floor.".into(),
            },
            Target {
                name: "memory beyond the guest's".into(),
                value: 4_000_000.0,
                limit: 3_145_728.0,
                unit: "bytes".into(),
                from: "VmHWM less what the guest touched.".into(),
            },
        ],
    }
}
