//! Kernels of a few instructions, as flat binaries: entered at their first byte in 64-bit mode.

/// Ends with `status`.
pub fn exit(status: u8) -> Vec<u8> {
    vec![
        0xb0, status, // mov al, status
        0xe6, 0xf4, // out 0xf4, al
        0xf4, // hlt
    ]
}

/// Ends with `value`, written as 32 bits.
pub fn exit_long(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8]; // mov eax, value
    code.extend(value.to_le_bytes());
    code.extend([
        0xe7, 0xf4, // out 0xf4, eax
        0xf4, // hlt
    ]);
    code
}

/// Resets the machine through the keyboard controller.
pub const RESET: &[u8] = &[
    0xb0, 0xfe, // mov al, 0xfe
    0xe6, 0x64, // out 0x64, al
    0xf4, // hlt
];

/// Meets an invalid instruction at 0x100005, without an IDT, with 0x12345678 in EAX.
pub const CRASH: &[u8] = &[
    0xb8, 0x78, 0x56, 0x34, 0x12, // mov eax, 0x12345678
    0x0f, 0x0b, // ud2
];

/// Crashes where there is no RAM: at 0xd0100000, in the hole for devices.
pub const CRASH_OUTSIDE_RAM: &[u8] = &[
    0xb8, 0x00, 0x00, 0x10, 0xd0, // mov eax, 0xd0100000
    0xff, 0xe0, // jmp rax
];

/// Prints `R` and halts for ever.
pub const READY_AND_HALT: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'R', // mov al, 'R'
    0xee, // out dx, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];

/// Prints `R` and spins for ever.
pub const READY_AND_SPIN: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'R', // mov al, 'R'
    0xee, // out dx, al
    0xeb, 0xfe, // jmp to itself
];

/// Prints without end.
pub const FLOOD: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'.', // mov al, '.'
    0xee, // out dx, al
    0xeb, 0xfd, // jmp to the out
];

/// Prints `text` by one string instruction, and ends with 0.
pub fn print_string(text: &[u8]) -> Vec<u8> {
    let mut code = vec![
        0xfc, // cld
        0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x48, 0x8d, 0x35, 0x0c, 0x00, 0x00, 0x00, // lea rsi, [rip + 12]: the text
        0xb9, // mov ecx, length
    ];
    code.extend((text.len() as u32).to_le_bytes());
    code.extend([
        0xf3, 0x6e, // rep outsb
        0x31, 0xc0, // xor eax, eax
        0xe6, 0xf4, // out 0xf4, al
        0xf4, // hlt
    ]);
    code.extend(text);
    code
}

/// Prints `R`, then every byte that comes in, until Ctrl-D, which ends with 0.
pub const ECHO: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'R', // mov al, 'R'
    0xee, // out dx, al
    // wait:
    0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd: the line status
    0xec, // in al, dx
    0xa8, 0x01, // test al, 1: data ready
    0x74, 0xfb, // jz to the in
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xec, // in al, dx
    0x3c, 0x04, // cmp al, 4
    0x74, 0x03, // je end
    0xee, // out dx, al
    0xeb, 0xeb, // jmp wait
    // end:
    0x31, 0xc0, // xor eax, eax
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Prints `R`, and crashes when a byte comes in.
pub const CRASH_AT_KEY: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'R', // mov al, 'R'
    0xee, // out dx, al
    0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd: the line status
    0xec, // in al, dx
    0xa8, 0x01, // test al, 1: data ready
    0x74, 0xfb, // jz to the in
    0x0f, 0x0b, // ud2
];
