//! Any accesses at all to the register file, in any order: what they must never do, and what holds
//! after each.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use devices::{BusDevice, Response};
use proptest::prelude::*;
use spec::mmio::Register;

/// An access to the window, mostly to registers and of a register's width.
#[derive(Clone, Debug)]
enum Access {
    Read(u64, usize),
    Write(u64, Vec<u8>),
}

fn any_access() -> impl Strategy<Value = Access> {
    let register = (0..Register::ALL.len()).prop_map(|i| Register::ALL[i].offset());
    let offset = prop_oneof![8 => register, 1 => 0..0x1100_u64, 1 => any::<u64>()];
    let value = prop_oneof![
        (0..16_u32),
        prop::sample::select(vec![256, 512]),
        prop::sample::select(vec![DESC as u32, AVAIL as u32, USED as u32, HOLE as u32]),
        any::<u32>()
    ];
    let word = value.prop_map(|value| value.to_le_bytes().to_vec());
    let data = prop_oneof![8 => word, 1 => prop::collection::vec(any::<u8>(), 0..9)];
    prop_oneof![
        (offset.clone(), 0..9_usize).prop_map(|(offset, width)| Access::Read(offset, width)),
        (offset, data).prop_map(|(offset, data)| Access::Write(offset, data)),
    ]
}

/// Whether these registers describe a queue, by what the specification says.
fn is_valid(num: u32, desc: u64, driver: u64, device: u64) -> bool {
    if ![1, 2, 4, 8, 16, 32, 64, 128, 256, 512].contains(&num) {
        return false;
    }
    let num = u64::from(num);
    let areas = [
        (desc, 16 * num, 16),
        (driver, 6 + 2 * num, 2),
        (device, 6 + 8 * num, 4),
    ];
    let sound = areas.iter().all(|(addr, len, align)| {
        let in_low_ram = addr.checked_add(*len).is_some_and(|end| end <= HOLE);
        let in_high_ram =
            *addr >= 0x20_0000 && addr.checked_add(*len).is_some_and(|end| end <= END);
        addr % align == 0 && (in_low_ram || in_high_ram)
    });
    let apart = |a: usize, b: usize| {
        areas[a].0 + areas[a].1 <= areas[b].0 || areas[b].0 + areas[b].1 <= areas[a].0
    };
    sound && apart(0, 1) && apart(0, 2) && apart(1, 2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_accesses_never_panic_and_a_reset_always_brings_the_device_back(
        mode in prop::sample::select(vec![Mode::Trap, Mode::Mapped, Mode::IoEventFd, POLL]),
        live in any::<bool>(),
        accesses in prop::collection::vec(any_access(), 1..60),
    ) {
        let mut driver = Driver::new(mode);
        if live {
            driver.initialize(INDIRECT | EVENT_IDX);
        }
        for access in accesses {
            match access {
                Access::Read(offset, width) => {
                    driver.read_at(offset, &mut vec![0xee; width]);
                }
                Access::Write(offset, data) => {
                    let response = driver.write_at(offset, &data);
                    prop_assert!(matches!(response, Response::Done | Response::Again));
                }
            }
        }
        driver.initialize(PLAIN);
        driver.assert_serves();
    }

    #[test]
    fn memory_in_place_of_the_registers_reads_as_they_do_whatever_is_written(
        live in any::<bool>(),
        accesses in prop::collection::vec(any_access(), 1..60),
    ) {
        let mut driver = Driver::new(Mode::Trap);
        if live {
            driver.initialize(INDIRECT | EVENT_IDX);
        }
        for access in accesses {
            if let Access::Write(offset, data) = access {
                let response = driver.transport.write(offset, &data).worked();
                prop_assert!(matches!(response.worked(), Response::Done | Response::Again));
            }
            for offset in (0..0x180).step_by(4) {
                let (mut memory, mut register) = ([0xee; 4], [0xee; 4]);
                driver.page.read(offset, &mut memory);
                driver.transport.read(offset, &mut register);
                prop_assert_eq!(memory, register, "{:#x}", offset);
            }
        }
    }

    #[test]
    fn queue_ready_is_1_exactly_where_the_registers_describe_a_queue(
        num in prop_oneof![3 => (0..9_u32).prop_map(|shift| 1 << shift), 1 => any::<u32>()],
        areas in prop::array::uniform3(prop_oneof![
            6 => (0..0x220_u64).prop_map(|page| page << 12),
            2 => (0..0x22_0000_u64).prop_map(|addr| addr & !1),
            1 => any::<u64>(),
        ]),
    ) {
        // The address 0 is RAM, but no ring may be there.
        prop_assume!(!areas.contains(&0));
        let [desc, avail, used] = areas;
        let mut driver = Driver::new(Mode::Trap);
        driver.negotiate(PLAIN);
        driver.describe_queue(num, desc, avail, used);
        driver.write(Register::QueueReady, 1);
        let ready = driver.read(Register::QueueReady);
        prop_assert_eq!(ready, u32::from(is_valid(num, desc, avail, used)));
    }
}
