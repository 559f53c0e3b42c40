//! The same guest on a machine and a device that we did not write: QEMU's microvm, its
//! virtio-blk over virtio-mmio, and TCG. KVM has no part in this.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use elf::ElfBytes;
use elf::endian::LittleEndian;
use libtest_mimic::Trial;

use crate::guests::GUEST_ELF;
use crate::harness::{Ended, Vmm, file};
use crate::needs::{Needs, tool};

const QEMU: &str = "qemu-system-x86_64";

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Tool(QEMU), body);
    vec![
        test("qemu_guest_reads_what_is_in_the_image", read),
        test("qemu_guest_writes_to_the_image", fill),
        test("qemu_guest_verifies_with_many_requests_in_flight", verify),
        test("qemu_guest_selftest", selftest),
        test("qemu_guest_describes_the_disk", info),
        test("qemu_guest_shell_takes_what_is_typed", shell),
        test(
            "qemu_guest_handles_interrupts_on_a_stack_of_their_own",
            interrupt_stack,
        ),
    ]
}

/// Runs the guest on `image`, to which QEMU has nothing to say.
#[track_caller]
fn run(image: &Path, cmdline: &str) -> Ended {
    let ended = boot(image, cmdline, &[]);
    assert_eq!(ended.stderr, "");
    ended
}

/// Runs the guest on `image`, with more arguments for QEMU. Its status is 2n + 1 where the guest
/// wrote n to the exit port.
fn boot(image: &Path, cmdline: &str, arguments: &[&str]) -> Ended {
    start(image, cmdline, arguments).spawn().wait()
}

/// The same, to be started.
fn start(image: &Path, cmdline: &str, arguments: &[&str]) -> Vmm {
    let drive = format!("id=disk,if=none,format=raw,file={}", image.display());
    let mut qemu = tool(QEMU);
    // With ACPI, QEMU tells of its devices by that alone, and not on the command line.
    qemu.args(["-M", "microvm,accel=tcg,acpi=off", "-m", "128M"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
        .args(["-global", "virtio-mmio.force-legacy=false"])
        .args(["-drive", &drive])
        .args(["-device", "virtio-blk-device,drive=disk,serial=qemu-disk"])
        .args(["-kernel", GUEST_ELF, "-append", cmdline])
        .args(arguments);
    Vmm::from_command(qemu)
}

fn shell() {
    let (_dir, path) = file("disk.img", &[0x11; 64 * 512]);
    let mut qemu = start(&path, "run=shell", &[]).stdin(Stdio::piped()).spawn();
    let mut stdin = qemu.stdin.take().unwrap();
    // What comes earlier, the guest clears out of the UART.
    qemu.expect("disk 0> ");
    let crc = crc32fast::hash(&[0x11; 512]);
    for (command, shown) in [
        ("crc 3", format!("crc lba=3 count=1 crc32={crc:08x} ok\n")),
        ("avail 1000", "head 1000\n".into()),
        ("driver", "disk 0> ".into()),
    ] {
        stdin.write_all(format!("{command}\r").as_bytes()).unwrap();
        qemu.expect(&shown);
    }
    stdin.write_all(b"exit 7\r").unwrap();
    let ended = qemu.wait();
    assert_eq!(ended.code(), 15);
    assert_eq!(ended.last_line(), "shell commands=3 exit=7");
}

#[track_caller]
fn assert_ok(ended: &Ended, last_line: &str) {
    assert_eq!((ended.code(), ended.last_line()), (1, last_line));
}

fn read() {
    let bytes: Vec<u8> = (0..64 * 512_u32).map(|i| ((i * i) >> 7) as u8).collect();
    let (_dir, path) = file("disk.img", &bytes);
    let crc = crc32fast::hash(&bytes[7 * 512..12 * 512]);
    for wait in ["irq", "poll"] {
        let ended = run(&path, &format!("run=read lba=7 count=5 wait={wait}"));
        assert_ok(&ended, &format!("read lba=7 count=5 crc32={crc:08x} ok"));
    }
}

fn fill() {
    let (_dir, path) = file("disk.img", &[0x11; 64 * 512]);
    let ended = run(&path, "run=fill lba=60 count=4 byte=0x5a");
    assert_ok(&ended, "fill lba=60 count=4 byte=0x5a ok");
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[..60 * 512].iter().all(|&byte| byte == 0x11));
    assert!(bytes[60 * 512..].iter().all(|&byte| byte == 0x5a));

    let ended = run(&path, "run=fill lba=61 count=4 byte=0");
    assert_eq!(ended.code(), 3, "{}", ended.last_line());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

fn verify() {
    let (_dir, path) = file("disk.img", &vec![0; 1024 * 512]);
    for mode in ["", " event_idx=off", " indirect=off", " wait=poll"] {
        let ended = run(
            &path,
            &format!("run=verify count=1024 seed=3 depth=32{mode}"),
        );
        assert_ok(&ended, "verify lba=0 count=1024 seed=3 depth=32 ok");
    }
}

fn selftest() {
    let (_dir, path) = file("disk.img", &vec![0; 2048 * 512]);
    let ended = boot(&path, "run=selftest", &[]);
    let line = ended.last_line();
    // It tells of the requests that are none.
    for told in ended.stderr.lines() {
        assert!(told.contains("virtio-blk"), "{told}");
    }
    assert!(
        ended.code() == 1 && line.starts_with("selftest cases=") && line.ends_with(" ok"),
        "{}",
        String::from_utf8_lossy(&ended.stdout)
    );
}

fn info() {
    let (_dir, path) = file("disk.img", &[0; 32 * 512]);
    let ended = run(&path, "run=info");
    assert_eq!(ended.code(), 1);
    let text = String::from_utf8_lossy(&ended.stdout);
    for part in ["32 sectors", "qemu-disk", "VIRTIO_F_VERSION_1", "32-bit"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// The address of `name` in the guest.
fn symbol(name: &str) -> u64 {
    let file = fs::read(GUEST_ELF).unwrap();
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&file).unwrap();
    let (symbols, names) = elf.symbol_table().unwrap().unwrap();
    let is_it = |index: u32| names.get(index as usize).unwrap() == name;
    let mut found = symbols.iter().filter(|symbol| is_it(symbol.st_name));
    found.next().unwrap().st_value
}

/// What an interrupt interrupts may use the memory below its stack pointer: its red zone.
fn interrupt_stack() {
    let (dir, path) = file("disk.img", &[0; 32 * 512]);
    let log = dir.path().join("log");
    let handler = symbol("interrupt");
    let filter = format!("{handler:#x}..{handler:#x}");
    let log_file = log.to_str().unwrap();
    // QEMU logs the registers at each entry of the handler.
    let arguments = [
        "-d",
        "exec,cpu,nochain",
        "-dfilter",
        &filter,
        "-D",
        log_file,
    ];
    let ended = boot(&path, "run=read", &arguments);
    assert_eq!(ended.code(), 1, "{}", ended.last_line());

    let log = fs::read_to_string(log).unwrap();
    let stack_pointers: Vec<_> = log
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("RSP="))
        .map(|value| u64::from_str_radix(value, 16).unwrap())
        .collect();
    assert!(!stack_pointers.is_empty(), "no interrupt: {log}");
    let interrupted = symbol("boot_stack_guard")..=symbol("boot_stack_end");
    for rsp in stack_pointers {
        assert!(!interrupted.contains(&rsp), "{rsp:#x} in {interrupted:#x?}");
    }
}
