//! A stock Linux guest: a distribution's kernel, unchanged, with an initrd that loads its drivers
//! (resources/linux). Skipped where it has not been made, or KVM cannot run it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use libtest_mimic::Trial;

use crate::guests::NOTIFY_MODES;
use crate::harness::{Needs, Vmm, run_kernel, tool, write_all};
use crate::pty::Pty;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Linux, body);
    vec![
        crate::harness::test(
            "linux_root_on_ext4_keeps_what_it_writes_in_every_notify_mode",
            Needs::LinuxAndTool("mkfs.ext4"),
            root_disk,
        ),
        test("linux_names_disks_in_order_and_reads_their_ids", disks),
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

/// Why there is no Linux guest on this machine, which has a usable /dev/kvm, if there is none.
/// Some software KVMs run plain integer code alone, and Linux is compiled for more.
pub fn missing() -> Option<String> {
    static SSE_RUNS: LazyLock<bool> = LazyLock::new(|| run_kernel(SSE).code() == 42);
    let made = ["vmlinuz", "initrd", "busybox"];
    if !made.iter().all(|name| linux(name).is_file()) {
        Some("no Linux guest: make it by resources/linux/make-initrd".into())
    } else if !*SSE_RUNS {
        Some("this KVM cannot compute with SSE, as Linux does".into())
    } else {
        None
    }
}

/// A file that resources/linux/make-initrd leaves.
fn linux(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/linux")
        .join(name)
}

/// A machine that boots Linux with this added to its command line, and with these `--disk`s.
fn boot(cmdline: &str, disks: &[String]) -> Vmm {
    let cmdline = format!("console=ttyS0 quiet {cmdline}");
    let vmm = Vmm::new(["--memory", "256M", "--cmdline", &cmdline]);
    vmm.command(|command| {
        command.arg("--kernel").arg(linux("vmlinuz"));
        command.arg("--initrd").arg(linux("initrd"));
        for disk in disks {
            command.args(["--disk", disk]);
        }
    })
}

/// Boots Linux to its shell, gives it `command` there, and returns the exit status and what was
/// printed after the command.
#[track_caller]
fn run_in_shell(cmdline: &str, disks: &[String], command: &str) -> (i32, String) {
    let mut vmm = boot(cmdline, disks).stdin(Stdio::piped()).spawn();
    vmm.expect(PROMPT);
    let stdin = vmm.stdin.take().unwrap();
    let line = format!("{command}\n").into_bytes();
    write_all(stdin, line).join().unwrap();
    let ended = vmm.wait();
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    (ended.code(), printed)
}

/// Runs a tool of e2fsprogs, and returns what it prints.
#[track_caller]
fn e2fs(name: &str, args: &[&str], image: &Path) -> String {
    let output = tool(name).args(args).arg(image).output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The init of the root disk: reads back what the boot before has written, and writes anew.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
cat /log
echo boot with $(cat /sys/block/vda/serial) >> /log
mkdir -p /files
for i in $(seq 100); do seq $i 1000 > /files/$i; done
sync
echo 3 > /proc/sys/vm/drop_caches
for i in $(seq 100); do seq $i 1000 | cmp - /files/$i || echo MISMATCH $i; done
mount -o remount,ro /
poweroff -f
";

fn root_disk() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for name in ["bin", "sbin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy(linux("busybox"), root.join("bin/busybox")).unwrap();
    fs::write(root.join("sbin/init"), INIT).unwrap();
    fs::write(root.join("log"), "made on the host\n").unwrap();
    for name in ["bin/busybox", "sbin/init"] {
        fs::set_permissions(root.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let image = dir.path().join("disk");
    let make = ["-q", "-E", "root_owner=0:0", "-d", root.to_str().unwrap()];
    let mut command = tool("mkfs.ext4");
    command.args(make).arg(&image).arg("64M");
    assert!(command.status().unwrap().success());

    let mut log = "made on the host\n".to_owned();
    for notify in NOTIFY_MODES {
        let disk = format!("{},id={notify},notify={notify}", image.display());
        let ended = boot("root=/dev/vda", &[disk]).spawn().wait();
        let printed = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
        assert_eq!(ended.code(), 0, "{}\n{printed}", ended.stderr);
        assert!(printed.contains(&log), "{printed}");
        assert!(!printed.contains("MISMATCH"), "{printed}");
        log += &format!("boot with {notify}\n");
    }
    assert_eq!(e2fs("debugfs", &["-R", "cat /log"], &image), log);
    e2fs("e2fsck", &["-fn"], &image);
}

fn disks() {
    let dir = tempfile::tempdir().unwrap();
    let disks: Vec<String> = ["first", "second", "third"]
        .iter()
        .enumerate()
        .map(|(index, id)| {
            let path = dir.path().join(id);
            fs::write(&path, vec![0; 4096 * (index + 1)]).unwrap();
            format!("{},id={id},readonly=on", path.display())
        })
        .collect();
    let script = "for d in vda vdb vdc; do cd /sys/block/$d; \
                  echo $d $(cat serial) $(cat size) $(cat ro); done; poweroff -f";
    let (status, printed) = run_in_shell("", &disks, script);
    assert_eq!(status, 0, "{printed}");
    for line in ["vda first 8 1", "vdb second 16 1", "vdc third 24 1"] {
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

fn power_off() {
    let (status, printed) = run_in_shell("", &[], "poweroff -f");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("reboot: Power down"), "{printed}");
}

fn reboot() {
    let (status, printed) = run_in_shell("", &[], "reboot -f");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("reboot: Restarting"), "{printed}");
}

fn reboot_acpi() {
    let (status, printed) = run_in_shell("reboot=acpi", &[], "reboot -f");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("reboot: Restarting"), "{printed}");
}

fn reboot_keyboard() {
    let (status, printed) = run_in_shell("reboot=k", &[], "reboot -f");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("reboot: Restarting"), "{printed}");
}

fn panic() {
    let crash = "echo c > /proc/sysrq-trigger";
    let (status, printed) = run_in_shell("panic=-1", &[], crash);
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("Kernel panic - not syncing"), "{printed}");
}

fn triple_fault() {
    let (status, printed) = run_in_shell("reboot=t", &[], "reboot -f");
    assert_eq!(status, 126, "{printed}");
}
