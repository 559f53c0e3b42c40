//! What tests need of the machine, and why they cannot run on it, or are not run in the lab. Runs
//! nothing that is tested.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use vmm::kvm::KvmError;

/// Whether this runs in the lab, as resources/lab/lab tells whatever it runs.
fn in_lab() -> bool {
    std::env::var_os("IN_LAB").is_some()
}

/// What a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Needs {
    Nothing,
    /// A usable /dev/kvm.
    Kvm,
    /// A usable /dev/kvm, but not the lab's: what is slow there, and shows nothing that other tests
    /// do not show there too.
    OwnKvm,
    /// A usable /dev/kvm, and io_uring.
    #[cfg(feature = "io-uring")]
    KvmAndIoUring,
    /// The same, but not the lab's.
    #[cfg(feature = "io-uring")]
    OwnKvmAndIoUring,
    /// To be root in a mount namespace of its own.
    MountNamespace,
    /// To be root in a mount namespace of its own, and a usable /dev/kvm, but not the lab's.
    KvmAndMountNamespace,
    /// To make block devices of files, and a usable /dev/kvm.
    Loop,
    /// The same, and this program.
    #[cfg(feature = "qcow2")]
    LoopAndTool(&'static str),
    /// A Linux guest, made of these files too, a usable /dev/kvm that can run it, and to make block
    /// devices of files.
    LinuxAndLoop(&'static [&'static str]),
    /// To make block devices by the device mapper, which is done in the lab alone, and a usable
    /// /dev/kvm.
    DeviceMapper,
    /// This program.
    Tool(&'static str),
    /// A usable /dev/kvm, and that the kernel leaves core files where a process dies.
    Cores,
    /// A usable /dev/kvm, and this program.
    KvmAndTool(&'static str),
    /// A usable /dev/kvm, but not the lab's, and this program.
    #[cfg(any(feature = "explain", feature = "gdb", feature = "qcow2"))]
    OwnKvmAndTool(&'static str),
    /// A usable /dev/kvm that can do this for a debugger, and gdb; or what is said of it.
    #[cfg(feature = "gdb")]
    Debugger(fn(vmm::gdb::Abilities) -> bool, &'static str),
    /// A usable /dev/kvm, but not the lab's, and Perfetto's trace processor.
    Perfetto,
    /// A Linux guest, made of these files too, and a usable /dev/kvm that can run it.
    Linux(&'static [&'static str]),
    /// The same, and this program.
    LinuxAndTool(&'static [&'static str], &'static str),
}

impl Needs {
    /// Why this machine cannot run a test with this need, if it cannot.
    pub fn missing(self) -> Option<String> {
        static KVM: LazyLock<Option<String>> = LazyLock::new(missing_kvm);
        static MOUNT: LazyLock<bool> = LazyLock::new(|| {
            let script = "mount -t tmpfs none /dev && setpriv --reuid 65534 true";
            let mut command = Command::new("unshare");
            command
                .args(["-m", "sh", "-c", script])
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        });
        let needs_no_kvm = matches!(self, Self::Nothing | Self::MountNamespace | Self::Tool(_));
        if in_lab() && needs_no_kvm {
            return Some("not in the lab: does not use KVM".into());
        }
        match self {
            Self::Nothing => None,
            Self::Kvm => KVM.clone(),
            Self::OwnKvm if in_lab() => Some("not in the lab: slow, and others cover it".into()),
            Self::OwnKvm => KVM.clone(),
            #[cfg(feature = "io-uring")]
            Self::KvmAndIoUring => Self::Kvm.missing().or_else(missing_io_uring),
            #[cfg(feature = "io-uring")]
            Self::OwnKvmAndIoUring => Self::OwnKvm.missing().or_else(missing_io_uring),
            Self::MountNamespace => (!*MOUNT).then(|| "no root, or no unshare and setpriv".into()),
            Self::KvmAndMountNamespace => Self::OwnKvm
                .missing()
                .or_else(|| Self::MountNamespace.missing()),
            Self::Loop => Self::Kvm.missing().or_else(missing_loop),
            #[cfg(feature = "qcow2")]
            Self::LoopAndTool(name) => Self::Loop.missing().or_else(|| missing_tool(name)),
            Self::LinuxAndLoop(files) => Self::Linux(files).missing().or_else(missing_loop),
            Self::DeviceMapper if !in_lab() => Some("only in the lab: makes block devices".into()),
            Self::DeviceMapper => Self::Kvm.missing().or_else(missing_device_mapper),
            Self::Tool(name) => missing_tool(name),
            Self::Cores => Self::Kvm.missing().or_else(missing_cores),
            Self::KvmAndTool(name) => Self::Kvm.missing().or_else(|| missing_tool(name)),
            #[cfg(any(feature = "explain", feature = "gdb", feature = "qcow2"))]
            Self::OwnKvmAndTool(name) => Self::OwnKvm.missing().or_else(|| missing_tool(name)),
            #[cfg(feature = "gdb")]
            Self::Debugger(can, otherwise) => Self::KvmAndTool("gdb")
                .missing()
                .or_else(|| (!can(abilities())).then(|| otherwise.into())),
            Self::Perfetto => Self::OwnKvm
                .missing()
                .or_else(|| missing_tool("node"))
                .or_else(crate::trace::perfetto::missing),
            Self::Linux(files) => Self::Kvm.missing().or_else(|| crate::linux::missing(files)),
            Self::LinuxAndTool(files, name) => {
                Self::Linux(files).missing().or_else(|| missing_tool(name))
            }
        }
    }
}

/// What KVM can do for a debugger.
#[cfg(feature = "gdb")]
pub fn abilities() -> vmm::gdb::Abilities {
    static ABILITIES: LazyLock<vmm::gdb::Abilities> = LazyLock::new(|| {
        let kvm = vmm::kvm::open().unwrap();
        vmm::gdb::Abilities::find_out(&kvm).unwrap()
    });
    *ABILITIES
}

/// This program, to be started.
pub fn tool(name: &str) -> Command {
    Command::new(find_tool(name).unwrap_or_else(|| name.into()))
}

fn missing_tool(name: &str) -> Option<String> {
    let missing = find_tool(name).is_none();
    missing.then(|| format!("{name} is not installed"))
}

/// Looks beyond PATH where resources/install-test-tools does.
fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Why no file can be made a block device.
fn missing_loop() -> Option<String> {
    static WORKS: LazyLock<bool> = LazyLock::new(|| {
        let mut modprobe = tool("modprobe");
        // Where it fails, the driver may be there already.
        let _ = modprobe.args(["-q", "loop"]).stderr(Stdio::null()).status();
        let Ok(file) = tempfile::NamedTempFile::new() else {
            return false;
        };
        let (mut attach, mut detach) = (tool("losetup"), tool("losetup"));
        attach.args(["--find", "--show"]).arg(file.path());
        let attached = attach.stderr(Stdio::null()).output();
        let Some(device) = attached.ok().filter(|output| output.status.success()) else {
            return false;
        };
        let device = String::from_utf8_lossy(&device.stdout).trim().to_owned();
        let detached = detach.arg("--detach").arg(device).status();
        detached.is_ok_and(|status| status.success())
    });
    (!*WORKS).then(|| "no file can be made a block device: no root, or no losetup".into())
}

/// Why there is no device mapper with all that tests make of it.
fn missing_device_mapper() -> Option<String> {
    static MODULES: LazyLock<bool> = LazyLock::new(|| {
        let modules = ["loop", "ext4", "dm-log-writes"];
        let mut modprobe = tool("modprobe");
        modprobe.arg("-a").args(modules).stderr(Stdio::null());
        modprobe.status().is_ok_and(|status| status.success())
    });
    let tools = ["dmsetup", "losetup", "mkfs.ext4", "mount", "umount"];
    let no_modules = || (!*MODULES).then(|| "no modules loop, ext4, dm-log-writes".into());
    tools.into_iter().find_map(missing_tool).or_else(no_modules)
}

/// Whether the VMM can have io_uring.
pub fn has_io_uring() -> bool {
    cfg!(feature = "io-uring") && missing_io_uring().is_none()
}

fn missing_io_uring() -> Option<String> {
    // What the kernel takes for parameters, and fills: 120 bytes, of which none need be set.
    let mut parameters = [0_u64; 15];
    // SAFETY: a system call that writes to the parameters alone.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    if ring < 0 {
        let error = std::io::Error::last_os_error();
        return Some(format!("no io_uring: {error}"));
    }
    // SAFETY: it is open, and nobody else's.
    unsafe { libc::close(ring as i32) };
    None
}

fn missing_cores() -> Option<String> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let elsewhere = pattern.trim().is_empty() || pattern.starts_with('|') || pattern.contains('/');
    elsewhere.then(|| format!("core files go to '{}'", pattern.trim()))
}

/// Why there is no usable /dev/kvm: in short, since each test that needs it says so.
fn missing_kvm() -> Option<String> {
    let reason = match vmm::kvm::open().err()? {
        KvmError::Missing(error) | KvmError::NotPermitted(error) | KvmError::Open(error) => {
            error.to_string()
        }
        other => other.to_string(),
    };
    Some(format!("no usable /dev/kvm: {reason}"))
}
