use super::*;

const ALL: Abilities = Abilities {
    int3: true,
    execute: true,
    watch: true,
    step: true,
    block_interrupts: true,
};

const NO_INT3: Abilities = Abilities { int3: false, ..ALL };

const PLACE: GuestAddress = GuestAddress(0x1000);

fn memory() -> GuestMemoryMmap {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
    memory.write_obj(0x90_u8, PLACE).unwrap();
    memory
}

fn byte(memory: &GuestMemoryMmap) -> u8 {
    memory.read_obj(PLACE).unwrap()
}

fn debug_exit(exception: u32, dr6: u64) -> kvm_debug_exit_arch {
    kvm_debug_exit_arch {
        exception,
        dr6: 0xffff_0ff0 | dr6,
        ..Default::default()
    }
}

#[test]
fn without_anything_set_kvm_is_told_of_nothing() {
    let debug = Breakpoints::new(ALL).guest_debug(Run::default());
    assert_eq!(debug, kvm_guest_debug::default());
}

#[test]
fn int3_is_in_memory_only_while_the_guest_runs() {
    let (memory, mut set) = (memory(), Breakpoints::new(ALL));
    assert!(set.add_soft(0x7000, PLACE));
    assert_eq!(byte(&memory), 0x90);
    set.patch(&memory);
    assert_eq!(byte(&memory), INT3);
    set.unpatch(&memory);
    assert_eq!(byte(&memory), 0x90);
    let debug = set.guest_debug(Run::default());
    assert_eq!(debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP);
    assert!(set.remove_soft(0x7000));
    assert!(!set.remove_soft(0x7000));
    set.patch(&memory);
    assert_eq!(byte(&memory), 0x90);
}

#[test]
fn two_addresses_of_one_byte_leave_it_as_it_was() {
    let (memory, mut set) = (memory(), Breakpoints::new(ALL));
    assert!(set.add_soft(0x7000, PLACE) && set.add_soft(0x8000, PLACE));
    set.patch(&memory);
    set.unpatch(&memory);
    assert_eq!(byte(&memory), 0x90);
}

#[test]
fn what_the_guest_writes_over_a_breakpoint_stays() {
    let (memory, mut set) = (memory(), Breakpoints::new(ALL));
    assert!(set.add_soft(0x7000, PLACE));
    set.patch(&memory);
    memory.write_obj(0xf4_u8, PLACE).unwrap();
    set.unpatch(&memory);
    assert_eq!(byte(&memory), 0xf4);
}

#[test]
fn an_int3_of_the_guests_own_stays_and_is_told_from_ours() {
    let (memory, mut set) = (memory(), Breakpoints::new(ALL));
    assert!(set.add_soft(0x7000, PLACE));
    assert_eq!(set.hit(&debug_exit(3, 0), Some(PLACE)), Hit::Soft);
    assert_eq!(
        set.hit(&debug_exit(3, 0), Some(GuestAddress(0))),
        Hit::Guest
    );
    assert_eq!(set.hit(&debug_exit(3, 0), None), Hit::Guest);
    memory.write_obj(INT3, PLACE).unwrap();
    set.patch(&memory);
    set.unpatch(&memory);
    assert_eq!(byte(&memory), INT3);
    let run = Run {
        step: false,
        inject: true,
    };
    assert_ne!(set.guest_debug(run).control & KVM_GUESTDBG_INJECT_BP, 0);
}

#[test]
fn without_int3_breakpoints_take_debug_registers_and_are_told_as_what_they_are() {
    let (memory, mut set) = (memory(), Breakpoints::new(NO_INT3));
    assert!(set.add_soft(0x7000, PLACE));
    set.patch(&memory);
    assert_eq!(byte(&memory), 0x90);
    assert_eq!(set.hit(&debug_exit(1, 1), None), Hit::Soft);
    for address in 1..4 {
        assert!(set.add_hard(address));
    }
    assert_eq!(set.hit(&debug_exit(1, 1 << 3), None), Hit::Hard);
    assert!(!set.add_soft(0x7001, PLACE));
    assert!(set.remove_soft(0x7000));
    assert!(set.add_soft(0x7001, PLACE));
}

#[test]
fn a_breakpoint_that_kvm_would_not_tell_of_is_refused() {
    let mut set = Breakpoints::new(Abilities {
        execute: false,
        ..NO_INT3
    });
    assert!(!set.add_soft(0x7000, PLACE));
    assert!(!set.add_hard(0x7000));
}

#[test]
fn debug_registers_are_told_to_kvm_as_the_cpu_has_them() {
    let mut set = Breakpoints::new(ALL);
    assert!(set.add_hard(0x1234));
    assert!(set.add_watch(0x2001, 1, WatchKind::Write));
    assert!(set.add_watch(0x3004, 4, WatchKind::Read));
    assert!(set.add_watch(0x4008, 8, WatchKind::ReadWrite));
    let debug = set.guest_debug(Run::default());
    assert_eq!(debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
    assert_eq!(debug.arch.debugreg[..4], [0x1234, 0x2001, 0x3004, 0x4008]);
    // From DR3 to DR0 length and kind, then GE, and the global enable bits.
    assert_eq!(
        debug.arch.debugreg[7],
        0b1011_1111_0001_0000 << 16 | 0x400 | 0xaa
    );
}

#[test]
fn a_step_is_one_without_interrupts_where_kvm_can_hold_them_off() {
    let run = Run {
        step: true,
        inject: false,
    };
    let step = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    let control = Breakpoints::new(ALL).guest_debug(run).control;
    assert_eq!(control, step | KVM_GUESTDBG_BLOCKIRQ);
    let abilities = Abilities {
        block_interrupts: false,
        ..ALL
    };
    let control = Breakpoints::new(abilities).guest_debug(run).control;
    assert_eq!(control, step);
}

#[test]
fn what_is_watched_is_cut_into_aligned_pieces() {
    let cut = |address, len| pieces(address, len).collect::<Vec<_>>();
    assert_eq!(cut(0x1000, 8), [(0x1000, 8)]);
    assert_eq!(cut(0x1003, 6), [(0x1003, 1), (0x1004, 4), (0x1008, 1)]);
    assert_eq!(
        cut(0x1002, 16),
        [(0x1002, 2), (0x1004, 4), (0x1008, 8), (0x1010, 2)]
    );
    assert_eq!(cut(0x1000, 0), []);
    assert_eq!(cut(u64::MAX, 1), []);
}

#[test]
fn a_watch_is_set_and_removed_as_a_whole_or_not_at_all() {
    let mut set = Breakpoints::new(ALL);
    assert!(set.add_hard(1));
    assert!(!set.add_watch(0x1002, 16, WatchKind::Write));
    assert!(!set.add_watch(0x1000, u64::MAX, WatchKind::Write));
    assert!(!set.add_watch(0x1000, 0, WatchKind::Write));
    assert!(set.add_watch(0x1003, 6, WatchKind::Write));
    // Once more is the same.
    assert!(set.add_watch(0x1003, 6, WatchKind::Write));
    assert_eq!(
        set.hit(&debug_exit(1, 1 << 2), None),
        Hit::Watch(WatchKind::Write, 0x1004)
    );
    assert!(!set.add_hard(2));
    assert!(!set.remove_watch(0x1003, 6, WatchKind::ReadWrite));
    assert!(set.remove_watch(0x1003, 6, WatchKind::Write));
    assert!(set.add_watch(0x1003, 6, WatchKind::ReadWrite));
}

#[test]
fn a_match_of_a_register_that_is_off_is_none() {
    let mut set = Breakpoints::new(ALL);
    assert_eq!(set.hit(&debug_exit(1, 1 << 14), None), Hit::Step);
    assert_eq!(set.hit(&debug_exit(1, 0b1111), None), Hit::Step);
    assert!(set.add_hard(1) && set.add_hard(2) && set.remove_hard(1));
    assert_eq!(set.hit(&debug_exit(1, 0b0011), None), Hit::Hard);
}
