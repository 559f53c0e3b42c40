# How the second CPU gets from real mode to `main`. The names in braces are what `second_cpu.rs`
# passes; the tables are those of the first.

.set SECOND_CR0, (1 << 31) | (1 << 4) | (1 << 0)    # paging, ET, protection; caches not disabled
.set SECOND_CR4, 1 << 5                             # PAE
.set SECOND_EFER, 0xc0000080
.set SECOND_LME, 1 << 8

# Copied to where it runs, so that it is data here, and must not depend on where that is.
.section .rodata.trampoline, "a"
.code16
.global trampoline
trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    mov eax, SECOND_CR4
    mov cr4, eax
    mov eax, offset page_map
    mov cr3, eax
    mov ecx, SECOND_EFER
    rdmsr
    or eax, SECOND_LME
    wrmsr
    lgdt [SECOND_GDT]
    mov eax, SECOND_CR0
    mov cr0, eax
    # jmp CODE64:second_cpu, with an offset of 32 bits.
    .byte 0x66, 0xea
    .long second_cpu
    .word {CODE64}
.set SECOND_GDT, . - trampoline
    .word 5 * 8 - 1
    .long gdt
.global trampoline_end
trampoline_end:

.section .text.second_cpu, "ax"
.code64
second_cpu:
    mov eax, {DATA}
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + second_stack_end]
    xor ebp, ebp
    call {MAIN}

.section .bss.second_cpu, "aw", @nobits
.balign 16
    .zero 16 * 1024
second_stack_end:
