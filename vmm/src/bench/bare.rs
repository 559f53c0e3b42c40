//! The floor of a machine's start: the least that runs the same kernel in the same VM, for `start`
//! to execute. Its calls to KVM are those that such a VM takes, with nothing that this VMM has
//! besides: no checks, no devices, no threads, no arguments to understand.
//!
//! This program is that one where its first argument is [`FLOOR`] or [`BYTE`], which is no command
//! of a user's.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};
use spec::board::{COM1_PORT, FLAT_LOAD_ADDR};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::arch::x86_64 as arch;
use crate::boot::{BootState, CpuMode};
use crate::layout;

/// Followed by the name of a flat binary: runs that, with the output of COM1 on stdout.
pub const FLOOR: &str = "__floor";
/// Only writes a byte to stdout: what it costs to execute this program.
pub const BYTE: &str = "__byte";

/// Size of the VM's RAM, in bytes: that of a user who asks for nothing.
pub const MEMORY: usize = 128 << 20;

/// Does what the arguments `args` (the program's name first) ask for, if they are those of
/// [`FLOOR`] or [`BYTE`].
pub fn enter(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    let mode = args.next()?;
    let result = if mode == FLOOR {
        args.next()
            .map_or_else(|| Err(io::ErrorKind::InvalidInput.into()), run)
    } else if mode == BYTE {
        write(b"!")
    } else {
        return None;
    };
    match result {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // When stderr is gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "vmm: {FLOOR}: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn run(kernel: OsString) -> io::Result<()> {
    let memory =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).map_err(io::Error::other)?;
    let mut image = [0; 4096];
    let len = File::open(kernel)?.read(&mut image)?;
    memory
        .write_slice(
            image.get(..len).unwrap_or_default(),
            GuestAddress(FLAT_LOAD_ADDR),
        )
        .map_err(io::Error::other)?;
    arch::write_tables(&memory, CpuMode::Long64).map_err(io::Error::other)?;

    let kvm = Kvm::new()?;
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let vm = kvm.create_vm()?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY as u64,
        userspace_addr: memory
            .get_host_address(GuestAddress(0))
            .map_err(io::Error::other)? as u64,
    };
    // SAFETY: the range is the mapping of `memory`, which lives longer than `vm` as it was made
    // before. Nothing in this process refers to what is in it.
    unsafe { vm.set_user_memory_region(region) }?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)?;
    vm.set_tss_address(layout::KVM_TSS as usize)?;
    vm.create_irq_chip()?;
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&cpuid)?;
    let state = BootState {
        mode: CpuMode::Long64,
        rip: FLAT_LOAD_ADDR,
        rsp: layout::BOOT_STACK_TOP,
        rbx: 0,
        rsi: 0,
    };
    arch::set_registers(&vcpu, &state).map_err(io::Error::other)?;
    loop {
        match vcpu.run()? {
            VcpuExit::IoOut(COM1_PORT, bytes) => write(bytes)?,
            other => return Err(io::Error::other(format!("an unexpected exit: {other:?}"))),
        }
    }
}

/// To stdout, without a buffer.
fn write(bytes: &[u8]) -> io::Result<()> {
    rustix::io::write(io::stdout(), bytes)?;
    Ok(())
}
