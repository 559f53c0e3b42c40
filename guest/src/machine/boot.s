# The three ways in, that of the other CPUs, and the tables that a CPU needs before Rust can run. All
# of it is static data where it can be: guest instructions are dear on a software KVM. What is found
# out about the machine is found out in Rust, not here. The names in braces are what `cpus.rs` passes.

.set CODE64, 0x08
.set DATA,   0x10

.set CR0_PE, 1 << 0
.set CR0_ET, 1 << 4
.set CR0_PG, 1 << 31
.set CR4_PAE, 1 << 5
.set MSR_EFER, 0xc0000080
.set EFER_LME, 1 << 8

.set PRESENT, 1 << 0
.set WRITABLE, 1 << 1
.set UNCACHED, (1 << 3) | (1 << 4)  # PWT and PCD
.set HUGE, 1 << 7                   # this entry maps 2 MiB

# From 16- or 32-bit code, with the GDT loaded, to where a far jump to CODE64 goes on in long mode.
.macro enter_long_mode
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, offset page_map
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, CR0_PG | CR0_ET | CR0_PE   # caches are on
    mov cr0, eax
.endm

.macro load_data_segments
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
.endm

# Entry of the flat binary and of the ELF header, in long mode. RBX may point to a PVH
# hvm_start_info, else RSI to a Linux boot_params; either may be garbage.
.section .boot, "ax"
.code64
.global _start
_start:
    .cfi_startproc
    .cfi_undefined rip              # a debugger finds no caller
    cli
    cld
    mov edx, 64
    mov eax, offset page_map
    mov cr3, rax
    lgdt [gdt_pointer]
long_mode:
    mov eax, offset boot_stack_end
    mov rsp, rax
    # A far return is how CS is loaded in 64-bit mode.
    push CODE64
    lea rax, [rip + 1f]
    push rax
    retfq
1:
    load_data_segments
    # The page below the stack is not mapped, so that an overflow ends in a register dump. It is
    # one of those in `low_page_table`: see `image.ld`.
    mov eax, offset boot_stack_guard
    shr eax, 12
    mov qword ptr [low_page_table + rax * 8], 0
    xor ebp, ebp
    mov rdi, rbx                    # start(start_info, boot_params, entry_bits)
    call start
    .cfi_endproc

# Entry of the PVH note, in 32-bit protected mode without paging. EBX points to an
# hvm_start_info.
.section .boot32, "ax"
.code32
pvh_start:
    cli
    cld
    lgdt [gdt_pointer]
    enter_long_mode
    xor esi, esi
    mov edx, 32
    # jmp CODE64:pvh_long_mode, for which assemblers' Intel syntax has no agreed spelling.
    .byte 0xea
    .long pvh_long_mode
    .word CODE64

.section .boot, "ax"
.code64
pvh_long_mode:
    # The upper halves of the registers are undefined after the switch.
    mov ebx, ebx
    mov esi, esi
    mov edx, edx
    jmp long_mode

# Entry of the other CPUs, in real mode at the start of a page. Copied to where it runs, so that it
# is data here, and must not depend on where that is.
.section .rodata.trampoline, "a"
.code16
.global trampoline
trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    lgdt [TRAMPOLINE_GDT]
    enter_long_mode
    # jmp CODE64:other_long_mode, with an offset of 32 bits.
    .byte 0x66, 0xea
    .long other_long_mode
    .word CODE64
.set TRAMPOLINE_GDT, . - trampoline
    .word gdt_pointer - gdt - 1
    .long gdt
.global trampoline_end
trampoline_end:

.section .boot, "ax"
.code64
other_long_mode:
    load_data_segments
    mov rsp, [rip + {STACK}]
    xor ebp, ebp
    call {MAIN}

# "This kernel can be entered at this address by the PVH protocol."
.set XEN_ELFNOTE_PHYS32_ENTRY, 18
.section .note.Xen, "a", @note
.balign 4
    .long 4                         # length of the name
    .long 8                         # length of the value
    .long XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

.section .data.boot, "aw"
.balign 4096
page_map:                           # PML4: the first 512 GiB
    .quad directory_pointers + PRESENT + WRITABLE
    .zero 511 * 8
directory_pointers:                 # the first 4 GiB
    .quad directories + 0x0000 + PRESENT + WRITABLE
    .quad directories + 0x1000 + PRESENT + WRITABLE
    .quad directories + 0x2000 + PRESENT + WRITABLE
    .quad directories + 0x3000 + PRESENT + WRITABLE
    .zero 508 * 8
directories:                        # 2 MiB an entry
    .quad low_page_table + PRESENT + WRITABLE
    .set address, 0x200000
    .rept 3 * 512 - 1
    .quad address + PRESENT + WRITABLE + HUGE
    .set address, address + 0x200000
    .endr
    .rept 512                       # 3 to 4 GiB: devices
    .quad address + PRESENT + WRITABLE + HUGE + UNCACHED
    .set address, address + 0x200000
    .endr
low_page_table:                     # the first 2 MiB, page 0 left out: it catches null pointers
    .quad 0
    .set address, 0x1000
    .rept 511
    .quad address + PRESENT + WRITABLE
    .set address, address + 0x1000
    .endr

.balign 8
.global gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # CODE64: execute, read, 64-bit
    .quad 0x00cf93000000ffff        # DATA: read, write
    .quad 0, 0                      # the task state segment, filled in by `descriptors`
gdt_pointer:
    .word . - gdt - 1
    .quad gdt

.section .bss.boot, "aw", @nobits
.balign 4096
.global boot_stack_guard
boot_stack_guard:
    .zero 4096
    .zero 128 * 1024
boot_stack_end:
