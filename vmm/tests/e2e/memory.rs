//! Guest RAM: what a guest is told of it, on both sides of the hole below 4 GiB, and what it costs
//! the host.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm::boot::{BootState, CpuMode};
use vmm::error::Error;
use vmm::vcpu_setup::VcpuSetup;

use crate::guests::start_on;
use crate::harness::{Vmm, file};
use crate::kernels::READY_AND_HALT;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("memory_above_4_gib_is_in_the_map_of_the_guest", map),
        test("memory_above_4_gib_does_not_disturb_our_guest", selftest),
        test("memory_that_no_guest_touches_is_not_taken", untouched),
        test(
            "memory_of_our_guest_that_an_initrd_takes_is_told_and_not_used",
            initrd,
        ),
        test("memory_begins_where_a_huge_page_can", huge_pages),
        test(
            "memory_that_no_cpu_reaches_is_refused_before_there_are_vcpus",
            beyond,
        ),
    ]
}

fn five_gib(command: &mut Command) {
    command.args(["--memory", "5G"]);
}

fn map() {
    let vmm = start_on(None, &[], "run=info").command(five_gib);
    let ended = vmm.spawn().wait();
    ended.assert_ok("info devices=0 ok");
    let text = String::from_utf8(ended.stdout).unwrap();
    for range in [
        "0x0000100000-0x00bfffffff   3144704 KiB RAM",
        "0x0100000000-0x017fffffff   2097152 KiB RAM",
    ] {
        assert!(text.contains(range), "no {range:?} in\n{text}");
    }
}

fn selftest() {
    let (_dir, path) = file("disk.img", &[0; 1 << 20]);
    let disk = path.to_str().unwrap().to_owned();
    let vmm = start_on(None, &[disk], "run=selftest").command(five_gib);
    let ended = vmm.spawn().wait();
    let line = ended.last_line();
    assert!(ended.code() == 0 && line.ends_with(" ok"), "{line}");
}

fn initrd() {
    // From 1.75 MiB to 4 MiB, and from 5.25 MiB to 7.5 MiB: no loader knows of the memory of a flat
    // binary that is not in its file.
    let (_dir, path) = file("initrd", &vec![0x5a; 9 << 18]);
    for (memory, status, last) in [
        (
            "4M",
            1,
            "boot FAILED: the initrd at 0x1c0000 is in the memory of the image, ",
        ),
        ("7680K", 0, "info devices=0 ok"),
    ] {
        let vmm = start_on(None, &[], "run=info").command(|command| {
            command.args(["--memory", memory, "--initrd"]).arg(&path);
        });
        let ended = vmm.spawn().wait();
        let line = ended.last_line();
        assert!(ended.code() == status && line.starts_with(last), "{line}");
    }
}

fn untouched() {
    let vmm = Vmm::with_kernel(READY_AND_HALT);
    let mut vmm = vmm.command(|c| _ = c.args(["--memory", "8G"])).spawn();
    vmm.expect("R");
    let status = fs::read_to_string(vmm.proc("status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = resident
        .unwrap()
        .trim()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(kib < 64 << 10, "{kib} KiB are resident");
}

fn huge_pages() {
    // Not as long as anything else that is mapped.
    const SIZE: u64 = 321 << 20;
    let vmm = Vmm::with_kernel(READY_AND_HALT);
    let size = SIZE.to_string();
    let mut vmm = vmm.command(|c| _ = c.args(["--memory", &size])).spawn();
    vmm.expect("R");
    let maps = fs::read_to_string(vmm.proc("maps")).unwrap();
    let ram = maps.lines().find_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        (end - start >= SIZE).then_some(start)
    });
    assert_eq!(ram.unwrap() % (2 << 20), 0, "{maps}");
}

fn beyond() {
    let state = BootState {
        mode: CpuMode::Long64,
        rip: 0,
        rsp: 0,
        rbx: 0,
        rsi: 0,
    };
    for (address, is_beyond) in [(0, false), (1 << 60, true)] {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(address), 4096)]).unwrap();
        let setup = VcpuSetup::new(vmm::kvm::open().unwrap(), 1, &memory, state);
        let refused = matches!(setup, Err(Error::AddressBits { .. }));
        assert_eq!(refused, is_beyond, "{address:#x}: {setup:?}");
    }
}
