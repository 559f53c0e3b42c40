# Interrupt handlers of benchmarks. The names in braces are what `handlers.rs` passes.

.section .text.handlers, "ax"
.code64

# The end of a handler that has pushed RAX and RDX. A HLT that the interrupt came before, all the
# same, is stepped over: see `interrupt_entry`.
.macro finish
    inc qword ptr [rip + {HANDLED}]
    lea rax, [rip + halt]
    cmp rax, [rsp + 2 * 8]
    jne 1f
    inc qword ptr [rsp + 2 * 8]
1:
    mov eax, {END_OF_INTERRUPT}
    mov dword ptr [rax], 0
    pop rdx
    pop rax
    iretq
.endm

# Notes when it is called.
.global note_time
note_time:
    push rax
    push rdx
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov [rip + {NOTED}], rax
    finish

# Tells the VMM that it is called.
.global tell_host
tell_host:
    push rax
    push rdx
    mov edx, {HANDLED_PORT}
    out dx, eax
    finish

# On the second CPU: interrupts CPU 0, which is where its local APIC is set to send to.
.global answer
answer:
    push rax
    mov eax, {END_OF_INTERRUPT}
    mov dword ptr [rax], 0
    mov eax, {COMMAND}
    mov dword ptr [rax], {NOTE_TIME_VECTOR}
    pop rax
    iretq
