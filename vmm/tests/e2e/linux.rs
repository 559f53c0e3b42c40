//! A stock Linux guest: a distribution's kernel, unchanged, with an initrd that loads its drivers
//! (resources/linux): how it boots, what it sees, how it ends. Skipped where it has not been made,
//! or KVM cannot run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::guests::without_pvh_note;
use crate::harness::{Vmm, file, run_kernel, write_all};
use crate::needs::Needs;
use crate::pty::Pty;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Linux(&[]), body);
    vec![
        crate::harness::test(
            "linux_boots_from_its_elf_file_by_pvh_and_in_64_bit_mode",
            Needs::Linux(&["vmlinux"]),
            boot_elf,
        ),
        test(
            "linux_sees_4_cpus_and_the_memory_above_4_gib",
            cpus_and_memory,
        ),
        test(
            "linux_console_takes_ctrl_c_and_a_paste_of_10000_characters",
            console,
        ),
        test("linux_poweroff_is_status_0", power_off),
        test("linux_reboot_is_status_0", reboot),
        test("linux_reboot_by_acpi_is_status_0", reboot_acpi),
        test(
            "linux_reboot_by_the_keyboard_controller_is_status_0",
            reboot_keyboard,
        ),
        test("linux_panic_with_a_reset_is_status_0", panic),
        test("linux_triple_fault_is_status_126", triple_fault),
    ]
}

/// What the shell of the initrd shows when it waits for a command.
const PROMPT: &str = "/ # ";

/// Enables SSE, computes with it, and ends with 42.
const SSE: &[u8] = &[
    0x0f, 0x20, 0xe0, // mov rax, cr4
    0x66, 0x0d, 0x00, 0x02, // or ax, 0x200: OSFXSR
    0x0f, 0x22, 0xe0, // mov cr4, rax
    0x0f, 0x58, 0xc1, // addps xmm0, xmm1
    0xb0, 0x2a, // mov al, 42
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Why there is no Linux guest with these files on this machine, which has a usable /dev/kvm, if
/// there is none. Some software KVMs run plain integer code alone, and Linux is compiled for more.
pub fn missing(files: &[&str]) -> Option<String> {
    static SSE_RUNS: LazyLock<bool> = LazyLock::new(|| run_kernel(SSE).code() == 42);
    let made = ["vmlinuz", "initrd"];
    let mut all = made.iter().chain(files);
    if let Some(name) = all.find(|name| !linux(name).is_file()) {
        Some(format!(
            "no {name} of a Linux guest: resources/linux makes it"
        ))
    } else if !*SSE_RUNS {
        Some("this KVM cannot compute with SSE, as Linux does".into())
    } else {
        None
    }
}

/// A file that the makers in resources/linux leave.
pub fn linux(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/linux")
        .join(name)
}

/// A machine that boots Linux with this added to its command line, and with these `--disk`s.
pub fn boot(cmdline: &str, disks: &[String]) -> Vmm {
    boot_kernel(&linux("vmlinuz"), cmdline, disks)
}

fn boot_kernel(kernel: &Path, cmdline: &str, disks: &[String]) -> Vmm {
    let cmdline = format!("console=ttyS0 quiet {cmdline}");
    Vmm::new(["--cmdline", &cmdline]).command(|command| {
        command.arg("--kernel").arg(kernel);
        command.arg("--initrd").arg(linux("initrd"));
        for disk in disks {
            command.args(["--disk", disk]);
        }
    })
}

/// A Linux guest that runs a script.
pub struct Script<'a> {
    pub kernel: PathBuf,
    /// Added to the kernel command line.
    pub cmdline: &'a str,
    /// Values of `--disk`.
    pub disks: &'a [String],
    pub cpus: &'a str,
    pub memory: &'a str,
}

impl Default for Script<'_> {
    fn default() -> Self {
        Self {
            kernel: linux("vmlinuz"),
            cmdline: "",
            disks: &[],
            cpus: "1",
            memory: "256M",
        }
    }
}

impl Script<'_> {
    /// The machine that runs `script`, to be started, and the file that `script` is in.
    pub fn start(&self, script: &str) -> (TempDir, Vmm) {
        // One more disk, which the shell reads as the file that it is but for its length.
        let len = (script.len() + 1).next_multiple_of(512);
        let (dir, path) = file("script", format!("{script:\n<len$}").as_bytes());
        let letter = char::from(b'a' + self.disks.len() as u8);
        let cmdline = format!("panic=-1 script=/dev/vd{letter} {}", self.cmdline);
        let disk = format!("{},readonly=on", path.display());
        let vmm = boot_kernel(&self.kernel, &cmdline, &[self.disks, &[disk]].concat());
        let args = ["--cpus", self.cpus, "--memory", self.memory];
        (dir, vmm.command(|c| _ = c.args(args)))
    }

    /// Runs `script`, which is to end the machine, and returns the exit status and what was
    /// printed.
    #[track_caller]
    pub fn run(&self, script: &str) -> (i32, String) {
        let (_dir, vmm) = self.start(script);
        let ended = vmm.spawn().wait();
        let printed = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
        (ended.code(), printed)
    }

    /// Runs `script` and powers off: succeeds where each of its lines does.
    #[track_caller]
    pub fn succeed(&self, script: &str) -> String {
        let script = format!("set -e\n{script}\necho DONE\npoweroff -f\n");
        let (status, printed) = self.run(&script);
        assert!(
            status == 0 && printed.contains("DONE"),
            "{status}: {printed}"
        );
        printed
    }
}

fn boot_elf() {
    let elf = fs::read(linux("vmlinux")).unwrap();
    let (_dir, without_note) = file("vmlinux", &without_pvh_note(elf));
    // By PVH, Linux itself sets what by the 64-bit entry we do.
    for (kernel, loader) in [(linux("vmlinux"), 0xb0), (without_note, 0xff)] {
        let linux = Script {
            kernel,
            ..Script::default()
        };
        let printed = linux.succeed("echo loader $(cat /proc/sys/kernel/bootloader_type)");
        assert!(printed.contains(&format!("loader {loader}\n")), "{printed}");
    }
}

fn cpus_and_memory() {
    let linux = Script {
        cpus: "4",
        memory: "5G",
        ..Script::default()
    };
    let printed = linux.succeed(
        "echo cpus $(cat /sys/devices/system/cpu/online) $(grep -w ^apicid /proc/cpuinfo)
        grep 'System RAM' /proc/iomem",
    );
    for line in [
        "cpus 0-3 apicid : 0 apicid : 1 apicid : 2 apicid : 3",
        "00100000-bfffffff : System RAM",
        "100000000-17fffffff : System RAM",
    ] {
        assert!(printed.contains(line), "no '{line}' in\n{printed}");
    }
}

fn console() {
    let mut pty = Pty::new();
    let vmm = boot("", &[])
        .stdin(pty.terminal())
        .stdout(pty.terminal())
        .command(Pty::control)
        .spawn();
    pty.expect(PROMPT);
    pty.press(b"echo ready; cat\n");
    pty.expect("ready\r");
    // Once as the echo, once from cat.
    pty.press(b"seen\n");
    pty.expect("seen\r");
    pty.expect("seen\r");
    pty.press(b"\x03");
    pty.expect(PROMPT);

    // Without echo, what comes back has been through the file.
    pty.press(b"stty -echo -opost; echo on; cat > pasted; cat pasted; poweroff -f\n");
    pty.expect("on\r\n");
    let line = |number| format!("{number:03} {}\n", "paste ".repeat(16));
    let text: String = (0..100).map(line).collect();
    assert!(text.len() >= 10_000);
    let pasted = [text.as_bytes(), b"\x04"].concat();
    let writer = write_all(pty.keyboard(), pasted);
    pty.expect(&text.replace('\n', "\r\n"));
    writer.join().unwrap();
    assert_eq!(vmm.wait().code(), 0);
}

/// Ends the machine by `script`, and returns the status and what was printed.
#[track_caller]
fn end(cmdline: &str, script: &str) -> (i32, String) {
    let linux = Script {
        cmdline,
        ..Script::default()
    };
    linux.run(script)
}

fn power_off() {
    let (status, printed) = end("", "poweroff -f");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("reboot: Power down"), "{printed}");
}

fn reboot() {
    assert_reboots("");
}

fn reboot_acpi() {
    assert_reboots("reboot=acpi");
}

fn reboot_keyboard() {
    assert_reboots("reboot=k");
}

#[track_caller]
fn assert_reboots(cmdline: &str) {
    let (status, printed) = end(cmdline, "reboot -f");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("reboot: Restarting"), "{printed}");
}

fn panic() {
    let (status, printed) = end("panic=-1", "echo c > /proc/sysrq-trigger");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("Kernel panic - not syncing"), "{printed}");
}

fn triple_fault() {
    let (status, printed) = end("reboot=t", "reboot -f");
    assert_eq!(status, 126, "{printed}");
}
