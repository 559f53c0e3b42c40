//! Writes inputs that are valid, one or more for each target, into the directory named: what
//! fuzzing begins with when the form of an input has changed, and no corpus is of use.

// This is a tool for whoever works on the targets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vmm/src/boot/test_bzimage.rs"]
mod test_bzimage;
#[path = "../../vmm/src/boot/test_elf.rs"]
mod test_elf;

use std::env;
use std::fs;
use std::path::Path;

use spec::block::{RequestHeader, Segment, request_type};
use spec::mmio::Register;
use spec::queue::{DescFlags, Descriptor};
use test_bzimage::TestBzImage;
use test_elf::TestElf;

const MIB: u64 = 1 << 20;

fn main() {
    let directory = env::args_os().nth(1).expect("no directory named");
    let seeds = [
        ("registers", registers()),
        ("request", requests()),
        ("queue", queues()),
        ("device", devices()),
        ("loaders", loaders()),
        ("qcow2", images()),
        ("command_line", command_lines()),
    ];
    for (target, seeds) in seeds {
        let directory = Path::new(&directory).join(target);
        fs::create_dir_all(&directory).unwrap();
        for (number, seed) in seeds.into_iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

fn record(code: u8, a: u8, b: u16, value: u32) -> Vec<u8> {
    let [b0, b1] = b.to_le_bytes();
    let mut record = vec![code, a, b0, b1];
    record.extend(value.to_le_bytes());
    record
}

/// The initialization sequence, and reads of every register.
fn registers() -> Vec<Vec<u8>> {
    let write = |register: Register, value| record(3, 4, register.offset() as u16, value);
    let read = |offset| record(2, 4, offset, 0);
    let bring_up = [
        (Register::Status, 0),
        (Register::Status, 1),
        (Register::Status, 3),
        (Register::DriverFeaturesSel, 1),
        (Register::DriverFeatures, 1),
        (Register::DriverFeaturesSel, 0),
        (
            Register::DriverFeatures,
            1 << 9 | 1 << 11 | 1 << 28 | 1 << 29,
        ),
        (Register::Status, 11),
        (Register::QueueSel, 0),
        (Register::QueueNum, 8),
        (Register::QueueDescLow, 0x1000),
        (Register::QueueDriverLow, 0x2000),
        (Register::QueueDeviceLow, 0x3000),
        (Register::QueueReady, 1),
        (Register::Status, 15),
        (Register::QueueNotify, 0),
        (Register::InterruptACK, 3),
    ];
    let bring_up = bring_up
        .map(|(register, value)| write(register, value))
        .concat();
    let reads = (0..0x100).step_by(4).map(read).collect::<Vec<_>>().concat();
    let config = (0..0x40_u16)
        .map(|n| record(0, (n % 9) as u8, 0x100 + n, 0))
        .collect::<Vec<_>>();
    let overlap = |areas: [u32; 3]| {
        let set = [
            (Register::QueueNum, 256),
            (Register::QueueDescLow, areas[0]),
            (Register::QueueDriverLow, areas[1]),
            (Register::QueueDeviceLow, areas[2]),
            (Register::QueueReady, 1),
        ];
        let set = set.map(|(register, value)| write(register, value)).concat();
        [&[0][..], &set, &read(0x44)].concat()
    };
    // Features that were accepted before a reset are not accepted after it.
    let again = [0, 1, 3, 11].map(|status| write(Register::Status, status));
    let again = [again.concat(), read(0x70)].concat();
    let writeback = [1, 0].map(|on| record(1, 1, 0x120, on)).concat();
    let all = [&config.concat()[..], &writeback, &config.concat()].concat();
    let stop = write(Register::QueueReady, 0);
    vec![
        [&[0][..], &bring_up, &reads, &all, &again].concat(),
        [&[1][..], &reads, &bring_up, &stop, &bring_up].concat(),
        overlap([0x1000, 0x4000, 0x1ff0]),
        overlap([0x1000, 0x1ffe, 0x4000]),
        overlap([0x1000, 0x4000, 0x4204]),
        overlap([0x1000, 0x2000, 0x2208]),
    ]
}

/// Images of 64 KiB with clusters of 512 bytes: of each version and with refcounts of several widths, each
/// used in several ways.
fn images() -> Vec<Vec<u8>> {
    const CLUSTER: u64 = 512;
    /// What is data and in no other place, in an entry.
    const COPIED: u64 = 1 << 63;
    let mut seeds = Vec::new();
    for (seed, (version, refcount_order)) in
        [(2, 4), (3, 0), (3, 3), (3, 4), (3, 6)].iter().enumerate()
    {
        let mut image = vec![0; 16 * CLUSTER as usize];
        let mut put =
            |at: u64, bytes: &[u8]| image[at as usize..][..bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb");
        // Version, cluster bits, entries of the L1 table, clusters of the refcount table, refcount
        // order, length of the header.
        for (at, value) in [
            (4, *version),
            (20, 9),
            (36, 2),
            (56, 1),
            (96, *refcount_order),
            (100, 104),
        ] {
            if at < 72 || *version > 2 {
                put(at, &u32::to_be_bytes(value));
            }
        }
        // Size, L1 table, refcount table and, in these, two L2 tables and a refcount block.
        for (at, value) in [
            (24, 128 * CLUSTER),
            (40, CLUSTER),
            (48, 2 * CLUSTER),
            (CLUSTER, COPIED + 4 * CLUSTER),
            (CLUSTER + 8, COPIED + 5 * CLUSTER),
            (2 * CLUSTER, 3 * CLUSTER),
        ] {
            put(at, &u64::to_be_bytes(value));
        }
        // Data, and zeros with room for data.
        for entry in 0..8 {
            let place = COPIED + (6 + entry) * CLUSTER + (entry & u64::from(*version - 2));
            put(4 * CLUSTER + 8 * 3 * entry, &place.to_be_bytes());
        }
        for cluster in 0..14_u64 {
            let bit = cluster << refcount_order;
            let place = 3 * CLUSTER + bit / 8;
            match refcount_order {
                0 => put(place, &[if cluster < 8 { 0xff } else { 0x3f }]),
                _ => put(place + (1 << refcount_order) / 8 - 1, &[1]),
            }
        }
        seeds.push([&(seed as u64).to_le_bytes()[..], &image].concat());
    }
    seeds
}

/// A request of each type on a disk of 64 sectors, at its start and around its end; and as much data
/// as a request may have, and more.
fn requests() -> Vec<Vec<u8>> {
    let start = |capacity: u64, request_type, sector| {
        let header = RequestHeader {
            request_type,
            sector,
        }
        .to_bytes();
        let disk = [capacity.to_le_bytes(), [6, 0, 0, 0, 0, 0, 0, 0]].concat();
        [&disk[..], &header, &[0; 16], &record(14, 0, 0, 16)].concat()
    };
    let status = record(3, 0, 0x500, 1);
    let mut seeds = Vec::new();
    for request_type in [0, 1, 4, 8, 10, 11, 13, 14] {
        for sector in [2, 61, 62, u64::MAX / 512] {
            let data_flag = u8::from(request_type != request_type::OUT);
            let mut seed = start(64, request_type, sector);
            if request_type != request_type::FLUSH {
                seed.extend(record(2 | data_flag, 0, 0x1000, 512));
                seed.extend(record(2 | data_flag, 0, 0x7f00, 1024));
            }
            seed.extend(&status);
            seeds.push(seed);
        }
    }
    for request_type in [request_type::DISCARD, request_type::WRITE_ZEROES] {
        for flags in 0..2 {
            let segment = Segment {
                sector: 60,
                num_sectors: 4,
                flags,
            };
            // The segment is what follows the header.
            let mut seed = start(64, request_type, 0);
            seed[32..48].copy_from_slice(&segment.to_bytes());
            seed.extend(record(14, 0, 16, 16));
            seed.extend(&status);
            seeds.push(seed);
        }
    }
    for times in [169, 170, 171] {
        // 48 KiB, over two regions.
        let mut seed = start(1 << 40, request_type::OUT, 0);
        seed.extend(record(2, 0, 0, 0xc000));
        seed.extend(record(0, times, 0, 0));
        seed.extend(&status);
        seeds.push(seed);
    }
    seeds
}

/// A queue of eight in which there are a read, a write and a GET_ID, with and without each feature.
fn queues() -> Vec<Vec<u8>> {
    let seed = |features: u8| {
        let chain = |first: u16, header, data_flags: DescFlags| {
            let next = DescFlags::NEXT;
            [
                Descriptor {
                    addr: header,
                    len: 16,
                    flags: next,
                    next: first + 1,
                },
                Descriptor {
                    addr: 0x7000,
                    len: 512,
                    flags: next | data_flags,
                    next: first + 2,
                },
                Descriptor {
                    addr: 0x6400,
                    len: 1,
                    flags: DescFlags::WRITE,
                    next: 0,
                },
            ]
        };
        let mut table = Vec::new();
        table.extend(chain(0, 0x6000, DescFlags::WRITE));
        table.extend(chain(3, 0x6010, DescFlags::empty()));
        // The last two descriptors: an indirect table that holds a chain.
        let (addr, len) = (0x6020, 48);
        table.push(Descriptor {
            addr,
            len,
            flags: DescFlags::INDIRECT,
            next: 0,
        });
        table.push(Descriptor::default());
        let mut seed = vec![features, 3];
        seed.extend(table.iter().flat_map(|descriptor| descriptor.to_bytes()));
        for field in [0_u16, 3, 0, 3, 6, 0, 0, 0, 0, 0, 0] {
            seed.extend(field.to_le_bytes());
        }
        for (request_type, sector) in [(request_type::IN, 1), (request_type::OUT, 2)] {
            seed.extend(
                RequestHeader {
                    request_type,
                    sector,
                }
                .to_bytes(),
            );
        }
        let nested = chain(0, 0x6000, DescFlags::WRITE);
        seed.extend(nested.iter().flat_map(|descriptor| descriptor.to_bytes()));
        seed
    };
    let mut seeds: Vec<_> = (0..8).map(seed).chain([seed(0x87)]).collect();

    // A chain of three in a queue of two: one descriptor, and a table of two.
    let next = DescFlags::NEXT;
    let (table, count) = (0x6010, 32);
    let chain = [
        Descriptor {
            addr: 0x6000,
            len: 16,
            flags: next,
            next: 1,
        },
        Descriptor {
            addr: table,
            len: count,
            flags: DescFlags::INDIRECT,
            next: 0,
        },
    ];
    let nested = [
        Descriptor {
            addr: 0x7000,
            len: 512,
            flags: next | DescFlags::WRITE,
            next: 1,
        },
        Descriptor {
            addr: 0x7400,
            len: 1,
            flags: DescFlags::WRITE,
            next: 0,
        },
    ];
    // And a table that refers to itself.
    let itself = [
        Descriptor {
            addr: table,
            len: count,
            flags: DescFlags::INDIRECT,
            next: 0,
        },
        nested[1],
    ];
    for table in [nested, itself] {
        let mut seed = vec![2, 1];
        seed.extend(chain.iter().flat_map(|descriptor| descriptor.to_bytes()));
        seed.extend([0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        seed.extend([0; 16]);
        seed.extend(table.iter().flat_map(|descriptor| descriptor.to_bytes()));
        seeds.push(seed);
    }
    seeds
}

/// Requests of each type, direct and indirect, in each mode, with what is written in memory, and with what a hostile driver does.
fn devices() -> Vec<Vec<u8>> {
    let add_data = |count: u8, sector: u16, writable: bool| {
        record(0, (count - 1) << 4 | u8::from(writable), sector, 0)
    };
    let request = |code: u8, how: u8, shape: u16, request_type: u32, sector: u32| {
        record(code, how, shape, request_type | sector << 16)
    };
    let notify = record(6, 0, 0, 0);
    let mut seeds = Vec::new();
    for kind in [0, 1, 16, 17, 28, 29, 30] {
        for how in [0, 1] {
            let mut seed = vec![kind];
            for (request_type, writable) in
                [(0, true), (1, false), (8, true), (4, false), (11, false)]
            {
                if request_type != 4 {
                    seed.extend(add_data(1, 2, writable));
                    seed.extend(add_data(3, 5, writable));
                }
                seed.extend(request(3, how, 0, request_type, 7));
                seed.extend(&notify);
            }
            for request_type in [11, 13] {
                seed.extend(record(2, 0, 3, 8));
                seed.extend(record(2, u8::from(request_type == 13), 60, 4));
                seed.extend(request(3, how, 0, request_type, 0));
                seed.extend(&notify);
            }
            // A header in two, one past the end, and no status.
            seed.extend(request(3, how, 2, 4, 0));
            seed.extend(add_data(4, 1, true));
            seed.extend(request(3, how, 0x8000, 0, 1));
            seed.extend(request(3, how, 0x700, 4, 0));
            seed.extend(&notify);
            seed.extend(record(10, 3, 0, 0));
            seed.extend(record(10, 0x40, 0, 0));
            seed.extend(record(10, 0x10, 8, 0x99));
            seed.extend(record(10, 0x20, 0, 143));
            seed.extend(record(11, 1, 0, 0));
            seed.extend(add_data(1, 2, false));
            seed.extend(request(8, how, 0, 1, 7));
            seed.extend(record(7, 1, 2, 0));
            seed.extend(record(12, 0, 3, 0));
            seed.extend(record(10, 0x20, 0, 131));
            seed.extend(record(7, 1, 2, 0));
            seed.extend(record(13, 0, 100, 0));
            seed.extend(&notify);
            seed.extend(record(9, 0, 0, 0));
            seeds.push(seed);
        }
    }

    // Several queues, of which one is stopped, and one broken where nobody watches it.
    for kind in [0x20, 0x40, 0x60, 0x61, 0x60 | 16, 0x60 | 28, 0x60 | 30] {
        let mut seed = vec![kind];
        let queues = kind >> 5;
        let turn = |seed: &mut Vec<u8>, how: u8| {
            for queue in 0..=queues {
                let of_queue = |code: u8| code | queue << 4;
                for (request_type, writable) in [(1, false), (0, true)] {
                    seed.extend(add_data(1, u16::from(queue), writable));
                    let sector = 3 * u32::from(queue);
                    seed.extend(request(of_queue(3), how, 0, request_type, sector));
                }
                seed.extend(record(of_queue(11), how, 0, 0));
            }
            for queue in (0..=queues).rev() {
                seed.extend(record(6 | queue << 4, 0, 0, 0));
            }
        };
        turn(&mut seed, 0);
        turn(&mut seed, 1);
        seed.extend(record(9 | 1 << 4, 0, 0, 0));
        turn(&mut seed, 0);
        seed.extend(record(13 | queues << 4, 0, 100, 0));
        seed.extend(record(10, 3, 0, 0));
        turn(&mut seed, 1);
        seed.extend(add_data(1, 2, false));
        seed.extend(request(8 | queues << 4, 0, 0, 1, 7));
        turn(&mut seed, 0);
        seeds.push(seed);
    }

    // More flushes than fit the share of a drain, and loops.
    let mut seed = [&[0][..], &record(7, 0, 5, 0)].concat();
    for _ in 0..20 {
        seed.extend(request(3, 1, 0, 4, 0));
    }
    seed.extend(&notify);
    seed.extend(request(3, 0xe, 0, 4, 0));
    seed.extend(request(3, 0xf, 0, 4, 0));
    seeds.push(seed);
    seeds
}

/// A kernel of each kind, with an initrd and without; and kernels at the borders of where one may be.
fn loaders() -> Vec<Vec<u8>> {
    const SMALL: [u8; 4] = [0, 0, 0, 0];
    /// With RAM above the hole.
    const LARGE: [u8; 4] = [15, 1, 0, 0];
    /// With an initrd as long as the RAM from 1 MiB on.
    const FULL: [u8; 4] = [0, 0, 0x40, 15];
    const OTHERS: [[u8; 4]; 2] = [[0x11, 0, 0x30, 0], [15, 1, 0, 15]];
    let bzimage = |change: fn(&mut TestBzImage)| {
        let mut image = TestBzImage::default();
        change(&mut image);
        image.bytes()
    };
    let kernels = [
        vec![0xfa, 0xf4],
        TestElf::at(MIB).bytes(),
        TestElf::at(MIB).with_pvh(MIB as u32 + 4).bytes(),
        bzimage(|_| {}),
    ];
    let machines = [SMALL, LARGE, FULL].into_iter().chain(OTHERS);
    let mut pairs: Vec<_> = machines
        .flat_map(|machine| kernels.iter().map(move |kernel| (machine, kernel.clone())))
        .collect();
    for paddr in [0x8000, 0x9_f000, 0xe_0000, 0xf_fff8, 0x1f_fff8] {
        pairs.push((SMALL, TestElf::at(paddr).bytes()));
    }
    for paddr in [0xbfff_fff8, 0xc000_0000, 0x1_0000_0000, 0x1_001f_fff8] {
        pairs.push((LARGE, TestElf::at(paddr).bytes()));
    }
    pairs.push((SMALL, TestElf::at(MIB).with_pvh(MIB as u32 + 16).bytes()));
    let changes: [fn(&mut TestBzImage); 3] = [
        |image| image.header.pref_address = 0xf_f000,
        |image| image.header.init_size += 1,
        |image| image.header.cmdline_size = 0,
    ];
    pairs.extend(changes.map(|change| (OTHERS[0], bzimage(change))));
    pairs.extend(changes.map(|change| (SMALL, bzimage(change))));
    pairs
        .into_iter()
        .map(|(machine, kernel)| [&machine[..], &kernel].concat())
        .collect()
}

fn command_lines() -> Vec<Vec<u8>> {
    let lines = [
        "--kernel\0k\0--initrd\0i\0--disk\0d,readonly=on,id=a,notify=poll\0--disk\0e\0--cpus\x002",
        "--memory\x0064M\0--cmdline\0run=read lba=0 -- x\0--disk\0d\0--stats=json",
        "--disk=a,notify=ioeventfd-datamatch\0--disk=b,readonly=off,id=scratch\0--memory=3G",
        "bench\0exits\0--pin\0--quick\0--json\0a\0--csv\0b\0--html\0c",
        "bench\0blk\0--bs\x004K,64K\0--depth\x001,32\0--notify\0trap,poll\0--seconds\x002\0--rw\0randwrite\0--size\x001M",
        "bench\0blk\0--count\x00100\0--wait\0poll\0--disk\0d",
        "bench\0compare\0a\0b\0--json\0c",
        "--memory\x002097153",
        "--disk\0d,id=aaaaaaaaaaaaaaaaaaaaa",
        "--help",
        "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=512@1:2:3 run=read lba=0x10 flag",
        "4096 0x10 12K 3M 1G +1 -1 +1K 0x+1",
    ];
    lines.map(Vec::from).into()
}
