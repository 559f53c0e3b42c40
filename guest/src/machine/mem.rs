//! The memory functions that compilers call by name. There is no C library here to have them,
//! and string instructions of eight bytes a step are what a software KVM, which emulates step by
//! step, is quickest at.

use core::arch::asm;

/// Bytes in a step.
const WORD: usize = 8;

/// Copies `len` bytes from `from` to `to`; they must not overlap.
///
/// # Safety
/// As for the function of the same name in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges, of which this copies the words and then the
    // rest; the direction flag is clear, as the ABI asks.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {rest:e}",
            "rep movsb",
            rest = in(reg) len % WORD,
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rcx") len / WORD => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Copies `len` bytes from `from` to `to`; they may overlap.
///
/// # Safety
/// As for the function of the same name in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // Upwards nothing is overwritten before it is read.
        // SAFETY: the caller vouches for both ranges.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: the caller vouches for both ranges, and as `from < to < from + len` here, `len` is
    // not 0. Downwards nothing is overwritten before it is read; the direction flag is put back.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rdi") to.add(len).sub(1) => _,
            inout("rsi") from.add(len).sub(1) => _,
            inout("rcx") len => _,
            options(nostack)
        );
    }
    to
}

/// Sets `len` bytes at `to` to `byte`.
///
/// # Safety
/// As for the function of the same name in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let word = u64::from_ne_bytes([byte as u8; WORD]);
    // SAFETY: the caller vouches for the range, of which this sets the words and then the rest;
    // the direction flag is clear, as the ABI asks.
    unsafe {
        asm!(
            "rep stosq",
            "mov ecx, {rest:e}",
            "rep stosb",
            rest = in(reg) len % WORD,
            in("rax") word,
            inout("rdi") to => _,
            inout("rcx") len / WORD => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Compares `len` bytes at `a` and `b`, as unsigned numbers.
///
/// # Safety
/// As for the function of the same name in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let (above, below): (u8, u8);
    // SAFETY: the caller vouches for both ranges; the direction flag is clear, as the ABI asks.
    // The words are compared first; where one differs, its bytes are compared once more, or else
    // the rest is. Comparing RSP with itself makes the flags say "equal" where a count is 0.
    unsafe {
        asm!(
            "cmp rsp, rsp",
            "repe cmpsq",
            "je 2f",
            "sub rsi, 8",
            "sub rdi, 8",
            "mov {rest:e}, 8",
            "2:",
            "mov ecx, {rest:e}",
            "cmp rsp, rsp",
            "repe cmpsb",
            "seta {above}",
            "setb {below}",
            above = out(reg_byte) above,
            below = out(reg_byte) below,
            rest = inout(reg) len % WORD => _,
            inout("rsi") a => _,
            inout("rdi") b => _,
            inout("rcx") len / WORD => _,
            options(nostack, readonly)
        );
    }
    i32::from(above) - i32::from(below)
}

/// Whether `len` bytes at `a` and `b` differ: 0 if not.
///
/// # Safety
/// As for the function of the same name in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, len) }
}
