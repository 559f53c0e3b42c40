//! The memory functions that compilers call by name. There is no C library here to have them,
//! and string instructions are the fastest way where guest instructions are emulated one by one.

use core::arch::asm;

/// Copies `len` bytes from `from` to `to`; they must not overlap.
///
/// # Safety
/// As for the function of the same name in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; the direction flag is clear, as the ABI asks.
    unsafe {
        asm!(
            "rep movsb",
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rcx") len => _,
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
    // SAFETY: the caller vouches for the range; the direction flag is clear, as the ABI asks.
    unsafe {
        asm!(
            "rep stosb",
            inout("rdi") to => _,
            in("al") byte as u8,
            inout("rcx") len => _,
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
    // Comparing RCX with itself first makes the flags say "equal" when `len` is 0.
    unsafe {
        asm!(
            "cmp rcx, rcx",
            "repe cmpsb",
            "seta {above}",
            "setb {below}",
            above = lateout(reg_byte) above,
            below = lateout(reg_byte) below,
            inout("rsi") a => _,
            inout("rdi") b => _,
            inout("rcx") len => _,
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
