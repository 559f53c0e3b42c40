//! The boot protocols, as kernels find them: the mode they are entered in, and what the registers
//! point to.

use libtest_mimic::Trial;

use crate::harness::{Vmm, run, run_kernel};
use crate::needs::Needs;
use crate::test_elf::TestElf;

/// Where the kernels of these tests are linked.
const BASE: u64 = 0x20_0000;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("boot_the_built_in_guest_without_a_kernel", built_in),
        test("boot_a_flat_binary_in_64_bit_mode", flat),
        test("boot_an_elf_with_a_pvh_note_in_32_bit_mode", pvh),
        test(
            "boot_an_elf_without_one_in_64_bit_mode_with_boot_params",
            linux64,
        ),
        test("boot_with_the_first_4_gib_mapped", identity_map),
    ]
}

/// Ends with the first byte of what RBX points to: 'x', of the magic number of `hvm_start_info`.
const START_INFO: &[u8] = &[
    0x8a, 0x03, // mov al, [rbx] (or [ebx])
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Ends with 64 in 64-bit mode, where 0x48 is a prefix, and with 63 where it is `dec eax`.
const MODE: &[u8] = &[
    0xb0, 0x40, // mov al, 64
    0x48, 0x90, // dec eax; nop (or a nop alone)
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Ends with 0x55, of `boot_flag` in `boot_params`.
const BOOT_FLAG: &[u8] = &[
    0x8a, 0x86, 0xfe, 0x01, 0x00, 0x00, // mov al, [rsi + 0x1fe]
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Reads at the last virtio-mmio window, where no disk is, and by way of the stack ends with 123
/// if that gave all ones.
const HIGH_READ: &[u8] = &[
    0xbb, 0x00, 0x20, 0x01, 0xd0, // mov ebx, 0xd0012000
    0x8b, 0x03, // mov eax, [rbx]
    0x50, // push rax
    0x58, // pop rax
    0x24, 0x7b, // and al, 123
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

#[track_caller]
fn assert_status(kernel: &[u8], status: u8) {
    let ended = run_kernel(kernel);
    assert_eq!(ended.code(), i32::from(status), "{}", ended.stderr);
}

fn elf(code: &[u8]) -> TestElf {
    let mut elf = TestElf::at(BASE);
    elf.body = code.to_vec();
    elf.phdrs[0].filesz = code.len() as u64;
    elf
}

fn built_in() {
    let ended = run::<&str>([]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(!ended.stdout.is_empty());
}

fn flat() {
    assert_status(MODE, 64);
    assert_status(START_INFO, b'x');
}

fn pvh() {
    let pvh = |code| elf(code).with_pvh(BASE as u32).bytes();
    assert_status(&pvh(MODE), 63);
    assert_status(&pvh(START_INFO), b'x');
}

fn linux64() {
    assert_status(&elf(MODE).bytes(), 64);
    assert_status(&elf(START_INFO).bytes(), b'x');
    assert_status(&elf(BOOT_FLAG).bytes(), 0x55);
}

fn identity_map() {
    // Nothing is there: all ones.
    assert_status(HIGH_READ, 123);
    let vmm = Vmm::with_kernel(HIGH_READ).command(|c| _ = c.args(["--memory", "4G"]));
    assert_eq!(vmm.spawn().wait().code(), 123);
}
