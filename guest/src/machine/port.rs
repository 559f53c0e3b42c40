//! Port I/O. One instruction each, nothing of what is behind the port.

use core::arch::asm;

/// Writes a byte to `port`.
pub fn out8(port: u16, value: u8) {
    // SAFETY: a port access touches no memory of this program; what the device behind it does
    // is the device's matter, and the devices here are not told to write to memory by ports.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

/// Writes two bytes to `port`.
pub fn out16(port: u16, value: u16) {
    // SAFETY: as for `out8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack)) }
}

/// Writes four bytes to `port`.
pub fn out32(port: u16, value: u32) {
    // SAFETY: as for `out8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack)) }
}

/// Reads four bytes from `port`, where what is behind it may read and write shared memory
/// meanwhile.
pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: no memory of this program is touched but what it shares with the device.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) }
    value
}

/// Writes `bytes` to `port`, one after the other: under a hypervisor this is one VM exit, where
/// as many `out8` would be as many exits.
pub fn out8_string(port: u16, bytes: &[u8]) {
    // SAFETY: RSI and RCX are the start and the length of a slice that is valid for reads; the
    // direction flag is clear, as the ABI asks.
    unsafe {
        asm!(
            "rep outsb",
            in("dx") port,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(readonly, nostack)
        );
    }
}

/// Reads a byte from `port`.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as for `out8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

/// Reads two bytes from `port`.
pub fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: as for `out8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack)) }
    value
}
