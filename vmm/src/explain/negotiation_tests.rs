use super::super::story::Code;
use super::*;

fn access(register: Register, direction: Direction, value: u64) -> Access {
    Access {
        at_ns: None,
        direction,
        offset: register.offset(),
        register: None,
        width: 4,
        value,
        meaning: Vec::new(),
        by: Code::default(),
    }
}

/// What a driver writes, up to DRIVER_OK.
const WRITES: [(Register, u64); 17] = [
    (Register::Status, 0),
    (Register::DriverFeaturesSel, 0),
    (Register::DriverFeatures, 1 << 28 | 1 << 9),
    (Register::DriverFeaturesSel, 1),
    (Register::DriverFeatures, 1),
    (Register::QueueSel, 1),
    (Register::QueueNum, 99),
    (Register::QueueSel, 0),
    (Register::QueueNum, 8),
    (Register::QueueDescHigh, 1),
    (Register::QueueDescLow, 0x1000),
    (Register::QueueDriverLow, 0x2000),
    (Register::QueueDriverHigh, 0),
    (Register::QueueDeviceLow, 0x3000),
    (Register::QueueDeviceHigh, 2),
    (Register::QueueReady, 1),
    (Register::Status, 0xf),
];

fn negotiated(writes: &[(Register, u64)]) -> Negotiation {
    let mut negotiation = Negotiation::default();
    for (at, &(register, value)) in (100..).zip(writes) {
        negotiation.add(access(register, Direction::Write, value), at);
    }
    negotiation
}

#[test]
fn the_queue_is_the_one_that_the_driver_has_set_up() {
    let negotiation = negotiated(&WRITES);
    let expected = Queue {
        index: 0,
        size: 8,
        descriptor_area: 0x1_0000_1000,
        driver_area: 0x2000,
        device_area: 0x2_0000_3000,
        event_idx: false,
        indirect: true,
    };
    assert_eq!(negotiation.live_queue(), Some(expected));
    assert_eq!(negotiation.accepted, 1 << 32 | 1 << 28 | 1 << 9);
    let times: Vec<_> = negotiation
        .accesses
        .iter()
        .map(|access| access.at_ns)
        .collect();
    assert_eq!(times, (0..17).map(Some).collect::<Vec<_>>());
}

#[test]
fn the_device_is_not_live_before_driver_ok_nor_without_a_queue() {
    assert_eq!(negotiated(&WRITES[..16]).live_queue(), None);
    let mut writes = WRITES;
    writes[15].1 = 0;
    assert_eq!(negotiated(&writes).live_queue(), None);
    let reset = [
        &WRITES[..],
        &[(Register::Status, 0), (Register::Status, 0xf)],
    ]
    .concat();
    assert_eq!(negotiated(&reset).live_queue(), None);
}

#[test]
fn what_the_device_offers_is_what_the_driver_has_read() {
    let mut negotiation = Negotiation::default();
    for (sel, word) in [(0, 0x3000_6e46), (1, 1)] {
        let select = access(Register::DeviceFeaturesSel, Direction::Write, sel);
        negotiation.add(select, 0);
        negotiation.add(access(Register::DeviceFeatures, Direction::Read, word), 0);
    }
    assert_eq!(negotiation.offered, 0x1_3000_6e46);
}

#[test]
fn a_guest_that_never_ends_it_fills_no_memory() {
    let mut negotiation = Negotiation::default();
    for _ in 0..MAX + 5 {
        negotiation.add(access(Register::Status, Direction::Read, 0), 0);
    }
    assert_eq!((negotiation.accesses.len(), negotiation.left_out), (MAX, 5));
}
