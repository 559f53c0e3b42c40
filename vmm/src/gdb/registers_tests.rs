use gdbstub::arch::Registers as _;

use super::*;

/// A state in which every register has a value of its own.
fn state() -> KvmState {
    let regs = kvm_regs {
        rax: 1,
        rbx: 2,
        rcx: 3,
        rdx: 4,
        rsi: 5,
        rdi: 6,
        rbp: 7,
        rsp: 8,
        r8: 9,
        r15: 10,
        rip: 0xffff_8000_0000_0000,
        rflags: 0x246,
        ..Default::default()
    };
    let mut sregs = kvm_sregs {
        cr0: 0x8000_0011,
        cr2: 11,
        cr3: 12,
        cr4: 13,
        cr8: 14,
        efer: 0x500,
        ..Default::default()
    };
    sregs.cs.selector = 0x10;
    sregs.gs.selector = 0x18;
    sregs.fs.base = 15;
    sregs.gs.base = 16;
    let mut fpu = kvm_fpu {
        fcw: 0x37f,
        fsw: 5 << 11,
        // ST0 to ST2 are physical registers 5 to 7.
        ftwx: 0b1110_0000,
        last_opcode: 17,
        last_ip: 0x1_2345_6789,
        last_dp: 0x9_8765_4321,
        mxcsr: 0x1f80,
        ..Default::default()
    };
    // 1.0, zero, and infinity.
    fpu.fpr[0][7..10].copy_from_slice(&[0x80, 0xff, 0x3f]);
    fpu.fpr[2][7..10].copy_from_slice(&[0x80, 0xff, 0x7f]);
    fpu.xmm[15] = [18; 16];
    KvmState { regs, sregs, fpu }
}

fn bytes(registers: &Registers) -> Vec<u8> {
    let mut bytes = Vec::new();
    registers.gdb_serialize(|byte| bytes.extend(byte));
    bytes
}

#[test]
fn what_is_read_and_written_back_changes_nothing() {
    let before = state();
    let mut registers = Registers::default();
    let packet = bytes(&Registers::from_kvm(&before));
    registers.gdb_deserialize(&packet).unwrap();
    let mut after = before;
    registers.to_kvm(&mut after);
    assert_eq!(after, before);
}

#[test]
fn every_register_is_written_where_it_was_read() {
    let registers = Registers::from_kvm(&state());
    let mut fresh = KvmState {
        sregs: kvm_sregs {
            cr0: 0x8000_0011,
            ..Default::default()
        },
        regs: kvm_regs::default(),
        fpu: kvm_fpu::default(),
    };
    registers.to_kvm(&mut fresh);
    assert_eq!(fresh, state());
}

#[test]
fn tags_of_the_x87_say_what_its_registers_hold() {
    let registers = Registers::from_kvm(&state());
    // From register 7 down: special, zero, valid, five times empty.
    assert_eq!(registers.core.fpu.ftag, 0b10_01_00_11_11_11_11_11);
}

#[test]
fn a_selector_moves_a_segment_in_real_mode_alone() {
    let mut state = state();
    let mut registers = Registers::from_kvm(&state);
    registers.core.segments.cs = 0x1234;
    registers.to_kvm(&mut state);
    assert_eq!((state.sregs.cs.selector, state.sregs.cs.base), (0x1234, 0));
    // CR0 is the first of the control registers.
    registers.more[2] = 0;
    registers.core.segments.cs = 0x2000;
    registers.to_kvm(&mut state);
    assert_eq!(
        (state.sregs.cs.selector, state.sregs.cs.base),
        (0x2000, 0x2_0000)
    );
}

#[test]
fn the_description_lists_each_register_with_the_width_that_it_has_in_a_packet() {
    let description = X86::target_description_xml().unwrap();
    let widths = description.split("bitsize=\"").skip(1).map(|rest| {
        let (bits, _) = rest.split_once('"').unwrap();
        bits.parse::<usize>().unwrap() / 8
    });
    assert_eq!(widths.sum::<usize>(), bytes(&Registers::default()).len());
}

#[test]
fn a_packet_of_another_length_is_refused() {
    let packet = bytes(&Registers::default());
    for len in [0, 1, CORE_SIZE, packet.len() - 1, packet.len() - 8] {
        assert_eq!(
            Registers::default().gdb_deserialize(&packet[..len]),
            Err(())
        );
    }
    let longer = [packet.as_slice(), &[0; 8]].concat();
    assert_eq!(Registers::default().gdb_deserialize(&longer), Err(()));
}
