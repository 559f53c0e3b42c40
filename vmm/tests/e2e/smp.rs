//! Several vCPUs: started by the guest through its local APIC, as any PC's CPUs are, and all
//! ended by whatever ends one.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use libtest_mimic::Trial;

use crate::guests::{NOTIFY_MODES, start_on};
use crate::harness::{Ended, Running, Vmm, file, run};
use crate::kernels;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test(
            "smp_init_and_sipi_start_all_other_cpus_each_with_its_apic_id",
            start_all,
        ),
        test(
            "smp_other_cpus_find_their_msrs_as_firmware_leaves_them",
            msrs,
        ),
        test("smp_any_cpu_can_end_the_run", any_cpu_ends),
        test("smp_a_crash_is_told_with_its_vcpu", crash),
        test("smp_a_signal_ends_all_cpus_busy_halted_or_waiting", signal),
        test("smp_every_vcpu_has_a_thread_of_its_name", thread_names),
        test("smp_our_guest_passes_with_4_cpus", our_guest),
        test("smp_as_many_cpus_as_there_can_be_run", most),
        test(
            "smp_more_cpus_than_there_can_be_are_refused_with_the_limit",
            too_many,
        ),
    ]
}

/// A flat kernel whose first CPU starts all others in real mode at the first byte of `others`, and
/// then goes on with `first`.
pub fn kernel(first: &[u8], others: &[u8]) -> Vec<u8> {
    let between = [
        0xbf, 0x00, 0x00, 0x02, 0x00, // mov edi, 0x20000
        0xb9, 0x80, 0x00, 0x00, 0x00, // mov ecx, 128
        0xf3, 0xa4, // rep movsb
        0xbb, 0x00, 0x03, 0xe0, 0xfe, // mov ebx, 0xfee00300: the ICR of the local APIC
        0xc7, 0x03, 0x00, 0x45, 0x0c, 0x00, // mov dword [rbx], 0xc4500: INIT, all but self
        0xc7, 0x03, 0x20, 0x46, 0x0c, 0x00, // mov dword [rbx], 0xc4620: SIPI to 0x20000
    ];
    assert!(others.len() <= 128);
    let lea = [0x48, 0x8d, 0x35]; // lea rsi, [rip + distance]: the code of the others
    let distance = ((between.len() + first.len()) as u32).to_le_bytes();
    [&lea[..], &distance, &between, first, others].concat()
}

/// Waits until every other CPU has set its bit, and ends with the number of CPUs that CPUID tells.
const COUNT: &[u8] = &[
    0xb8, 0x0b, 0x00, 0x00, 0x00, // mov eax, 0xb
    0xb9, 0x01, 0x00, 0x00, 0x00, // mov ecx, 1
    0x0f, 0xa2, // cpuid: the CPUs of the package in EBX
    0x89, 0xde, // mov esi, ebx
    0xbd, 0x01, 0x00, 0x00, 0x00, // mov ebp, 1
    0x89, 0xd9, // mov ecx, ebx
    0xd3, 0xe5, // shl ebp, cl
    0x83, 0xed, 0x02, // sub ebp, 2: a bit for each CPU but 0
    // wait:
    0xf3, 0x90, // pause
    0x3b, 0x2c, 0x25, 0x00, 0x10, 0x02, 0x00, // cmp ebp, [0x21000]
    0x75, 0xf5, // jne wait
    0x89, 0xf0, // mov eax, esi
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Sets the bit of the CPU's APIC id at 0x21000; ends with 99 where CPUID tells another id than the
/// APIC.
const CHECK_IN: &[u8] = &[
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, // mov ecx, 0x1b: the MSR APIC_BASE
    0x0f, 0x32, // rdmsr
    0x0d, 0x00, 0x04, // or ax, 0x400: x2APIC mode
    0x0f, 0x30, // wrmsr
    0x66, 0xb9, 0x02, 0x08, 0x00, 0x00, // mov ecx, 0x802: the MSR with the APIC id
    0x0f, 0x32, // rdmsr
    0x66, 0x89, 0xc6, // mov esi, eax
    0x66, 0xb8, 0x0b, 0x00, 0x00, 0x00, // mov eax, 0xb
    0x66, 0x31, 0xc9, // xor ecx, ecx
    0x0f, 0xa2, // cpuid: the id in EDX
    0x66, 0x89, 0xd7, // mov edi, edx
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0x0f, 0xa2, // cpuid: the id in bits 24 to 31 of EBX
    0x66, 0xc1, 0xeb, 0x18, // shr ebx, 24
    0x66, 0x39, 0xf3, // cmp ebx, esi
    0x75, 0x14, // jne wrong
    0x66, 0x39, 0xf7, // cmp edi, esi
    0x75, 0x0f, // jne wrong
    0xb8, 0x00, 0x21, // mov ax, 0x2100
    0x8e, 0xd8, // mov ds, ax
    0x66, 0xf0, 0x0f, 0xab, 0x36, 0x00, 0x00, // lock bts dword [0], esi
    // idle:
    0xf4, // hlt
    0xeb, 0xfd, // jmp idle
    // wrong:
    0xb0, 0x63, // mov al, 99
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Spins for ever.
pub const SPIN: &[u8] = &[0xeb, 0xfe]; // jmp to itself

/// Ends with 42.
const EXIT_42: &[u8] = &[
    0xb0, 0x2a, // mov al, 42
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Ends with 42 where the MTRRs make memory write-back and fast strings are on, else with 99.
const CHECK_MSRS: &[u8] = &[
    0x66, 0xb9, 0xff, 0x02, 0x00, 0x00, // mov ecx, 0x2ff: MTRRdefType
    0x0f, 0x32, // rdmsr
    0x66, 0x3d, 0x06, 0x08, 0x00, 0x00, // cmp eax, 0x806: enabled, write-back
    0x75, 0x11, // jne wrong
    0x66, 0xb9, 0xa0, 0x01, 0x00, 0x00, // mov ecx, 0x1a0: MISC_ENABLE
    0x0f, 0x32, // rdmsr
    0xa8, 0x01, // test al, 1
    0x74, 0x05, // jz wrong
    0xb0, 0x2a, // mov al, 42
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
    // wrong:
    0xb0, 0x63, // mov al, 99
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Meets an invalid instruction with an IDT of a single byte (what is at address 0 is zero).
const CRASH: &[u8] = &[
    0x0f, 0x01, 0x1e, 0x00, 0x00, // lidt [0]
    0x0f, 0x0b, // ud2
];

/// Prints `R` and halts for ever.
pub const READY: &[u8] = &[
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'R', // mov al, 'R'
    0xee, // out dx, al
    // halt:
    0xf4, // hlt
    0xeb, 0xfd, // jmp halt
];

fn start(kernel: &[u8], cpus: u32) -> Running {
    let cpus = cpus.to_string();
    let vmm = Vmm::with_kernel(kernel);
    vmm.command(|c| _ = c.args(["--cpus", &cpus])).spawn()
}

#[track_caller]
fn assert_status(ended: &Ended, status: i32) {
    assert_eq!(
        (ended.code(), ended.stderr.as_str()),
        (status, ""),
        "{}",
        ended.command
    );
}

fn start_all() {
    for cpus in [1, 2, 3, 4, 16] {
        let ended = start(&kernel(COUNT, CHECK_IN), cpus).wait();
        assert_status(&ended, cpus as i32);
    }
}

fn msrs() {
    assert_status(&start(&kernel(SPIN, CHECK_MSRS), 2).wait(), 42);
}

fn any_cpu_ends() {
    assert_status(&start(&kernel(SPIN, EXIT_42), 2).wait(), 42);
    assert_status(&start(&kernel(SPIN, kernels::RESET), 2).wait(), 0);
}

fn crash() {
    let ended = start(&kernel(SPIN, CRASH), 2).wait();
    assert_eq!(ended.code(), 126);
    let start = "vmm: the guest crashed on vCPU 1: ";
    assert!(ended.stderr.starts_with(start), "{}", ended.stderr);
}

fn signal() {
    for kernel in [kernels::READY_AND_SPIN, kernels::READY_AND_HALT] {
        let mut vmm = start(kernel, 4);
        vmm.expect("R");
        vmm.signal(libc::SIGTERM);
        assert_status(&vmm.wait(), 128 + libc::SIGTERM);
    }
}

fn thread_names() {
    let mut vmm = start(&kernel(SPIN, READY), 4);
    vmm.expect("RRR");
    let threads = fs::read_dir(vmm.proc("task")).unwrap();
    // A thread that has ended since has no name.
    let names: BTreeSet<String> = threads
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok())
        .collect();
    for name in ["vcpu0\n", "vcpu1\n", "vcpu2\n", "vcpu3\n"] {
        assert!(names.contains(name), "no {name:?} in {names:?}");
    }
}

fn our_guest() {
    for notify in NOTIFY_MODES {
        for (cmdline, line) in [
            ("run=selftest", "selftest cases="),
            ("run=verify count=300 depth=32", "verify lba=0 count=300"),
        ] {
            let (_dir, path) = file("disk.img", &[0; 1 << 20]);
            let disk = format!("{},notify={notify}", path.display());
            let four_cpus = |command: &mut Command| _ = command.args(["--cpus", "4"]);
            let vmm = start_on(None, &[disk], cmdline).command(four_cpus);
            let ended = vmm.spawn().wait();
            let last = ended.last_line();
            assert!(
                ended.code() == 0 && last.starts_with(line) && last.ends_with(" ok"),
                "notify={notify}: {last}\n{}",
                ended.stderr
            );
        }
    }
}

/// How many CPUs there can be.
fn limit() -> usize {
    let kvm = vmm::kvm::open().unwrap();
    kvm.get_max_vcpus().min(255)
}

fn most() {
    let kernel = kernel(SPIN, EXIT_42);
    assert_status(&start(&kernel, limit() as u32).wait(), 42);
}

fn too_many() {
    let limit = limit();
    for cpus in [limit + 1, 100_000, u32::MAX as usize] {
        let ended = run(["--cpus", &cpus.to_string()]);
        assert_eq!(ended.code(), 125);
        let start = format!("--cpus: {cpus} vCPUs are more than the {limit} that ");
        assert!(ended.message().starts_with(&start), "{}", ended.stderr);
    }
}
