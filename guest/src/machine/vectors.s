# Where the CPU goes on exceptions and interrupts: one stub for each vector, STUB_SIZE bytes apart,
# which says which vector it is. What is done about it is done in Rust. The names in braces are
# the constants that `descriptors.rs` passes.

# The exceptions for which the CPU pushes an error code: 8, 10 to 14, 17, 21, 29, 30.
.set WITH_ERROR_CODE, 0x60227d00

.section .text.vectors, "ax"
.code64
.balign {STUB_SIZE}
.global vectors
vectors:
.set vector, 0
.rept {EXCEPTIONS}
    .balign {STUB_SIZE}
    .if (WITH_ERROR_CODE >> vector) & 1 == 0
    push 0
    .endif
    push vector
    jmp exception_entry
    .set vector, vector + 1
.endr
.rept {INTERRUPTS}
    .balign {STUB_SIZE}
    push vector
    jmp interrupt_entry
    .set vector, vector + 1
.endr

# The last of them: a spurious interrupt is not acknowledged.
    .balign {STUB_SIZE}
    iretq

# Everything is saved for the dump, and restored for the exception that is expected. The order is
# that of `exception::Frame`.
exception_entry:
    cld
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    call exception
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 2 * 8                  # the vector and the error code
    iretq

# Lets interrupts in and halts until one comes. None comes between the two: STI lets them in only
# after the instruction that follows it. (Called from Rust, with interrupts held off.)
.global wait_for_interrupt, halt
wait_for_interrupt:
    .cfi_startproc
    sti
halt:
    hlt
    ret
    .cfi_endproc

# Ends the HLT of a CPU, and does nothing else. On those that are not the first interrupts are let in
# by that HLT alone, which is why it may stay on the stack that is in use there; as for the HLT, see
# `interrupt_entry`.
.global wake
wake:
    push rax
    lea rax, [rip + halt]
    cmp rax, [rsp + 8]
    jne 1f
    inc qword ptr [rsp + 8]
1:
    mov eax, {END_OF_INTERRUPT}
    mov dword ptr [rax], 0
    pop rax
    iretq

# Pushes a register, and tells a debugger where it is.
.macro save register
    push \register
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset \register, 0
.endm

# What the ABI lets a function change is saved. The stack is aligned: the CPU aligned it by 16
# before it pushed five words; the vector, nine registers and the gap make eleven more.
#
# An interrupt that comes before the HLT all the same would be slept through, so the HLT, an
# instruction of one byte, is then stepped over. It does come there in a nested VM under QEMU's
# emulation of AMD-V, which forgets about the STI when something else interrupts the VM there.
#
# For a debugger it is called by what it interrupts: the CPU has pushed where that is to go on, and
# its stack pointer; the vector lies below that.
interrupt_entry:
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa rsp, 6 * 8
    .cfi_offset rip, -5 * 8
    .cfi_offset rsp, -2 * 8
    cld
    save rax
    lea rax, [rip + halt]
    cmp rax, [rsp + 2 * 8]
    jne 1f
    inc qword ptr [rsp + 2 * 8]
1:
    save rcx
    save rdx
    save rsi
    save rdi
    save r8
    save r9
    save r10
    save r11
    mov rdi, [rsp + 9 * 8]
    sub rsp, 8
    .cfi_adjust_cfa_offset 8
    call interrupt
    add rsp, 8
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 8
    iretq
    .cfi_endproc
