//! The names of values that conditions in the list may use, and nothing else.

/// The value that is called `name`: as C's headers define it, in 32 bits.
pub fn value(name: &str) -> Result<u32, String> {
    let found = VALUES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("unknown value '{name}': vmm/build/seccomp/names.rs has them all"))
}

/// What linux/prctl.h calls so ("AUXV"), and libc does not have.
const PR_GET_AUXV: u32 = 0x4155_5856;

/// What linux/fs.h calls so, and libc does not have.
const BLKDISCARD: u32 = 0x1277;

/// All flags of io_uring_enter but those to wait for completions (1), and to wake the kernel's thread
/// (2) or wait for it (4).
const ENTER_OTHER: u32 = !7;

const VALUES: &[(&str, u32)] = &[
    ("BLKDISCARD", BLKDISCARD),
    ("ENTER_OTHER", ENTER_OTHER),
    ("FIONBIO", libc::FIONBIO as u32),
    ("F_GETFD", libc::F_GETFD as u32),
    ("KVM_GET_MP_STATE", 0x8004_ae98),
    ("KVM_GET_REGS", 0x8090_ae81),
    ("KVM_GET_SREGS", 0x8138_ae83),
    ("KVM_GET_XSAVE", 0x9000_aea4),
    ("KVM_IRQ_LINE", 0x4008_ae61),
    ("KVM_RUN", 0xae80),
    ("KVM_SET_GUEST_DEBUG", 0x4048_ae9b),
    ("KVM_SET_REGS", 0x4090_ae82),
    ("KVM_SET_SREGS", 0x4138_ae84),
    ("KVM_SET_USER_MEMORY_REGION", 0x4020_ae46),
    ("KVM_SET_XSAVE", 0x5000_aea5),
    ("KVM_TRANSLATE", 0xc018_ae85),
    ("MADV_DONTNEED", libc::MADV_DONTNEED as u32),
    ("MADV_HUGEPAGE", libc::MADV_HUGEPAGE as u32),
    ("PR_GET_AUXV", PR_GET_AUXV),
    ("PROT_EXEC", libc::PROT_EXEC as u32),
    (
        "PUNCH_HOLE",
        (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32,
    ),
    ("SEEK_END", libc::SEEK_END as u32),
    // Where a thread is asked for: the one that asks.
    ("SELF", 0),
    ("SIGABRT", libc::SIGABRT as u32),
    ("SIGBUS", libc::SIGBUS as u32),
    // The first that is not the C library's own.
    ("SIGRTMIN", 34),
    ("SIGRTMIN_MUSL", 35),
    ("SIGSEGV", libc::SIGSEGV as u32),
    ("TCP_NODELAY", libc::TCP_NODELAY as u32),
    ("TCSETS", libc::TCSETS as u32),
    ("TCSETS2", libc::TCSETS2 as u32),
    (
        "ZERO_RANGE",
        (libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE) as u32,
    ),
];
