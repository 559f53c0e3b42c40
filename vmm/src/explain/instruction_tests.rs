use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use proptest::prelude::*;

use super::*;

const START: u64 = 0x10_0000;

/// What is at the beginning of `code`.
fn text(code: &[u8]) -> Option<String> {
    decode(code).map(|instruction| instruction.text)
}

#[test]
fn instructions_that_access_devices_are_written_as_an_assembler_writes_them() {
    for (code, expected) in [
        (&[0x89, 0x41, 0x50][..], "mov dword ptr [rcx+0x50], eax"),
        (&[0x8b, 0x50, 0x60], "mov edx, dword ptr [rax+0x60]"),
        (&[0x41, 0x88, 0x3c, 0x24], "mov byte ptr [r12], dil"),
        (&[0x88, 0x23], "mov byte ptr [rbx], ah"),
        (&[0x66, 0x89, 0x37], "mov word ptr [rdi], si"),
        (
            &[0x4c, 0x89, 0x7c, 0x88, 0xf8],
            "mov qword ptr [rax+rcx*4-0x8], r15",
        ),
        (&[0x0f, 0xb6, 0x07], "movzx eax, byte ptr [rdi]"),
        (&[0x48, 0x0f, 0xbf, 0x07], "movsx rax, word ptr [rdi]"),
        (&[0x48, 0x63, 0x07], "movsxd rax, dword ptr [rdi]"),
        (
            &[0xc7, 0x47, 0x70, 1, 0, 0, 0],
            "mov dword ptr [rdi+0x70], 0x1",
        ),
        (&[0xc6, 0x07, 0xff], "mov byte ptr [rdi], 0xff"),
        (&[0x8b, 0x05, 0, 1, 0, 0], "mov eax, dword ptr [rip+0x100]"),
        (&[0xa1], "none"),
        (
            &[0x8b, 0x04, 0x25, 0, 0, 0, 0x10],
            "mov eax, dword ptr [0x10000000]",
        ),
        (&[0x83, 0x7a, 0x70, 0x00], "cmp dword ptr [rdx+0x70], 0x0"),
        (&[0x83, 0x4a, 0x70, 0x04], "or dword ptr [rdx+0x70], 0x4"),
        (&[0x09, 0x70, 0x70], "or dword ptr [rax+0x70], esi"),
        (&[0xf6, 0x40, 0x60, 0x01], "test byte ptr [rax+0x60], 0x1"),
        (&[0x3b, 0x07], "cmp eax, dword ptr [rdi]"),
        (&[0x39, 0x07], "cmp dword ptr [rdi], eax"),
        (&[0x0b, 0x07], "or eax, dword ptr [rdi]"),
        (&[0xee], "out dx, al"),
        (&[0x66, 0xed], "in ax, dx"),
        (&[0xe7, 0x80], "out 0x80, eax"),
        // A register is no place, LEA accesses none, and what is cut off is no instruction.
        (&[0x89, 0xc1], "none"),
        (&[0x8d, 0x41, 0x50], "none"),
        (&[0x89, 0x41], "none"),
        (&[0x66], "none"),
        (&[], "none"),
    ] {
        assert_eq!(
            text(code).as_deref().unwrap_or("none"),
            expected,
            "{code:x?}"
        );
    }
}

#[test]
fn rip_is_at_an_instruction_that_reads_and_beyond_one_that_has_written() {
    // mov edx, [rax+0x60]; mov [rax+0x64], edx
    let code = [0x8b, 0x50, 0x60, 0x89, 0x50, 0x64];
    let regs = |offset| kvm_regs {
        rip: START + offset,
        rax: 0xffff_8000_d000_0000,
        ..Default::default()
    };
    let access = |register: u64, write| Access {
        place: Place::Memory(0xd000_0000 + register),
        width: 4,
        write,
    };
    let find = |offset, access| {
        find(&code, START, &regs(offset), &access).map(|found| (found.address - START, found.len))
    };
    let (read, write) = (access(0x60, false), access(0x64, true));
    assert_eq!(find(0, read), Some((0, 3)));
    assert_eq!(find(3, read), Some((0, 3)), "where RIP is beyond it");
    assert_eq!(find(6, write), Some((3, 3)));
    assert_eq!(find(3, write), Some((3, 3)), "where RIP is at it");
    // Neither did anything else.
    assert_eq!(find(0, access(0x60, true)), None);
    assert_eq!(find(6, access(0x50, true)), None);
    assert_eq!(find(1, read), None);
}

#[test]
fn an_instruction_that_changes_a_register_leaves_the_guest_twice() {
    // or [rax+0x70], esi
    let find = |rip, write| {
        let regs = kvm_regs {
            rip: START + rip,
            rax: 0xd000_0000,
            ..Default::default()
        };
        let access = Access {
            place: Place::Memory(0xd000_0070),
            width: 4,
            write,
        };
        find(&[0x09, 0x70, 0x70, 0xc3], START, &regs, &access).map(|found| found.address)
    };
    assert_eq!(find(0, false), Some(START));
    assert_eq!(find(3, true), Some(START));
}

#[test]
fn a_port_is_the_one_in_dx_or_in_the_instruction() {
    let regs = kvm_regs {
        rip: START + 1,
        rdx: 0x3f8,
        ..Default::default()
    };
    let find = |port, width| {
        let access = Access {
            place: Place::Port(port),
            width,
            write: true,
        };
        find(&[0xee, 0xe6, 0x80], START, &regs, &access).map(|found| found.text)
    };
    assert_eq!(find(0x3f8, 1).as_deref(), Some("out dx, al"));
    assert_eq!(find(0x80, 1).as_deref(), Some("out 0x80, al"));
    assert_eq!(find(0x3f9, 1), None);
    assert_eq!(find(0x3f8, 4), None);
}

/// The number of a register in this notation.
fn number(register: Register) -> Option<u8> {
    (register != Register::None && register != Register::RIP)
        .then(|| u8::try_from(register.number()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_decoded_is_what_a_disassembler_decodes(
        operand_16: bool,
        rex in prop::option::of(0x40..=0x4f_u8),
        opcode in prop::sample::select(vec![
            vec![0x88], vec![0x89], vec![0x8a], vec![0x8b], vec![0xc6], vec![0xc7], vec![0x63],
            vec![0x0f, 0xb6], vec![0x0f, 0xb7], vec![0x0f, 0xbe], vec![0x0f, 0xbf], vec![0xe4],
            vec![0x01], vec![0x08], vec![0x31], vec![0x03], vec![0x0a], vec![0x13], vec![0x1a], vec![0x23], vec![0x2a], vec![0x33],
            vec![0x38], vec![0x39], vec![0x3b], vec![0x80], vec![0x81], vec![0x83], vec![0x84],
            vec![0x85], vec![0xf6], vec![0xf7], vec![0xe5], vec![0xe6], vec![0xe7], vec![0xec], vec![0xed], vec![0xee], vec![0xef],
        ]),
        rest: [u8; 10],
    ) {
        let prefixes = operand_16.then_some(0x66).into_iter().chain(rex);
        let code: Vec<u8> = prefixes.chain(opcode).chain(rest).collect();
        let Some(ours) = decode(&code) else {
            return Ok(());
        };
        let theirs = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE).decode();
        prop_assert!(!theirs.is_invalid(), "{code:x?}");
        prop_assert_eq!(ours.len, theirs.len());
        let mnemonic = ours.text.split(' ').next();
        let expected = match theirs.mnemonic() {
            Mnemonic::Mov => "mov",
            Mnemonic::Movzx => "movzx",
            Mnemonic::Movsx => "movsx",
            Mnemonic::Movsxd => "movsxd",
            Mnemonic::Add => "add",
            Mnemonic::Or => "or",
            Mnemonic::Adc => "adc",
            Mnemonic::Sbb => "sbb",
            Mnemonic::And => "and",
            Mnemonic::Sub => "sub",
            Mnemonic::Xor => "xor",
            Mnemonic::Cmp => "cmp",
            Mnemonic::Test => "test",
            Mnemonic::In => "in",
            Mnemonic::Out => "out",
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(mnemonic, Some(expected));
        if let Operand::Memory(memory) = ours.operand {
            let first = ours.text.contains(&format!("{expected} byte ptr"))
                || ours.text.contains(&format!("{expected} word ptr"))
                || ours.text.contains(&format!("{expected} dword ptr"))
                || ours.text.contains(&format!("{expected} qword ptr"));
            let place = if first { theirs.op0_kind() } else { theirs.op1_kind() };
            prop_assert_eq!(place, OpKind::Memory);
            prop_assert!(first || !ours.writes);
            prop_assert!(ours.reads || ours.writes);
            prop_assert_eq!(memory.rip_relative, theirs.is_ip_rel_memory_operand());
            prop_assert_eq!(memory.base, number(theirs.memory_base()));
            let index = number(theirs.memory_index())
                .map(|index| (index, theirs.memory_index_scale() as u8));
            prop_assert_eq!(memory.index, index);
            if !memory.rip_relative {
                let displacement = theirs.memory_displacement64() as i32;
                prop_assert_eq!(memory.displacement, displacement);
            }
            prop_assert_eq!(usize::from(ours.width), theirs.memory_size().size());
        }
    }
}
