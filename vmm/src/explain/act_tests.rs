use super::*;

fn descriptor(addr: u64, len: u32, flags: u16) -> Descriptor {
    Descriptor {
        addr,
        len,
        flags: DescFlags::from_bits_retain(flags),
        next: 0,
    }
}

fn buffers(chain: &[Descriptor]) -> Vec<(Role, u64, u64)> {
    parts(&Areas::default(), 0, chain).buffers
}

#[test]
fn the_parts_of_a_request_are_found_however_it_is_cut() {
    let (header, data, status) = (Role::Header, Role::Data, Role::Status);
    let usual = [
        descriptor(0x100, 16, 1),
        descriptor(0x200, 512, 3),
        descriptor(0x400, 1, 2),
    ];
    let expected = [(header, 0x100, 16), (data, 0x200, 512), (status, 0x400, 1)];
    assert_eq!(buffers(&usual), expected);
    // A header in two pieces, the second with data; and data that ends with the status.
    let written = [
        descriptor(0x100, 8, 1),
        descriptor(0x200, 520, 1),
        descriptor(0x500, 1, 2),
    ];
    let expected = [
        (header, 0x100, 8),
        (header, 0x200, 8),
        (data, 0x208, 512),
        (status, 0x500, 1),
    ];
    assert_eq!(buffers(&written), expected);
    let read = [descriptor(0x100, 16, 1), descriptor(0x200, 513, 2)];
    let expected = [(header, 0x100, 16), (data, 0x200, 512), (status, 0x400, 1)];
    assert_eq!(buffers(&read), expected);
    assert_eq!(buffers(&[]), []);
}

#[test]
fn a_step_is_timed_from_the_beginning_and_from_the_last_that_was_timed() {
    let request = (Operation::Read, 0, 512);
    let start = (100, Snapshot::default());
    let mut open = OpenAct::new(request, 0, Parts::default(), start);
    for at in [None, Some(150), None, Some(170)] {
        let event = Event::Resumed { vcpu: 0, at: None };
        open.push(Side::Kvm, at, event, Snapshot::default());
    }
    let times: Vec<_> = (open.act.steps.iter())
        .map(|step| (step.at_ns, step.since_ns))
        .collect();
    let expected = [
        (None, None),
        (Some(50), Some(50)),
        (None, None),
        (Some(70), Some(20)),
    ];
    assert_eq!(times, expected);
}

#[test]
fn a_guest_fills_no_memory_with_steps() {
    let start = (0, Snapshot::default());
    let mut open = OpenAct::new((Operation::Read, 0, 0), 0, Parts::default(), start);
    for _ in 0..10 * STEPS_MAX {
        let event = Event::Resumed { vcpu: 0, at: None };
        open.push(Side::Kvm, None, event, Snapshot::default());
    }
    assert_eq!(open.act.steps.len(), STEPS_MAX);
}
