//! A device whose guest writes to registers in memory, beside one whose guest writes to the registers: a
//! driver that keeps to the specification finds no difference, and one that does not does no harm.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use devices::BusDevice;
use proptest::prelude::*;
use proptest::sample::select;
use spec::Features;
use spec::block::{config, request_type};
use spec::mmio::{CONFIG_OFFSET, InterruptStatus, Register};

const WRITEBACK: u64 = CONFIG_OFFSET + config::WRITEBACK;
const WCE: Features = EVENT_IDX.union(Features::VIRTIO_BLK_F_CONFIG_WCE);
/// What has something in it of the window.
const WINDOW: usize = 0x140;

/// What a driver does that keeps to the specification.
#[derive(Clone, Copy, Debug)]
enum Action {
    Request(u32, u64, u8),
    /// Makes a request available, and gives up before it has told of it.
    Abandon,
    HandleInterrupt,
    SetWriteback(bool),
    Resize(u64),
    Reset(Features),
    /// Says that it has failed, before it resets.
    Fail,
    BreakRing,
}

fn action() -> impl Strategy<Value = Action> {
    let kind = select(vec![
        request_type::IN,
        request_type::OUT,
        request_type::FLUSH,
    ]);
    let request = (kind, 0..SECTORS, any::<u8>());
    let features = select(vec![PLAIN, WCE, Features::VIRTIO_F_VERSION_1]);
    prop_oneof![
        6 => request.prop_map(|(kind, sector, byte)| Action::Request(kind, sector, byte)),
        6 => Just(Action::HandleInterrupt),
        2 => any::<bool>().prop_map(Action::SetWriteback),
        2 => (SECTORS..SECTORS + 3).prop_map(Action::Resize),
        1 => features.prop_map(Action::Reset),
        1 => Just(Action::Abandon),
        1 => Just(Action::Fail),
        1 => Just(Action::BreakRing),
    ]
}

fn take(driver: &mut Driver, action: Action) {
    match action {
        Action::Request(kind, sector, byte) => {
            driver.fill(DATA, 512, byte);
            let data = match kind {
                request_type::IN => vec![writable(DATA, 512)],
                request_type::OUT => vec![readable(DATA, 512)],
                _ => vec![],
            };
            driver.request(kind, sector, &data);
        }
        Action::Abandon => {
            driver.header(request_type::OUT, 0);
            driver.chain_at(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
            driver.offer(0);
            driver.reset();
            driver.initialize(PLAIN);
        }
        Action::HandleInterrupt => {
            let events = driver.read(Register::InterruptStatus);
            driver.write(Register::InterruptACK, events);
        }
        Action::SetWriteback(on) => {
            driver.write_at(WRITEBACK, &[on.into()]);
        }
        Action::Resize(sectors) => {
            driver.disk.bytes().resize(sectors as usize * 512, 0);
            driver.transport.refresh().unwrap();
        }
        Action::Reset(features) => driver.initialize(features),
        Action::Fail => {
            driver.write(Register::Status, 15 | 128);
            driver.catch_up();
            assert_eq!(driver.read(Register::Status), 15 | 128);
            driver.initialize(WCE);
        }
        Action::BreakRing => {
            driver.store_u16(AVAIL + 2, driver.avail_idx.wrapping_add(SIZE + 1));
            driver.notify();
            assert_eq!(driver.read(Register::Status), 15 | 64);
            driver.initialize(WCE);
        }
    }
}

/// What is in the window.
fn window(driver: &Driver) -> Vec<u8> {
    let mut window = vec![0; WINDOW];
    driver.page.read(0, &mut window);
    window
}

/// Anything in the second page, mostly in registers, or an exit.
fn scribble() -> impl Strategy<Value = (u64, Vec<u8>)> {
    let second = Register::InterruptStatus.offset();
    let registers = Register::ALL.map(Register::offset);
    let registers = select(
        registers
            .into_iter()
            .filter(|at| *at >= second)
            .collect::<Vec<_>>(),
    );
    let offset = prop_oneof![4 => registers, 2 => second..0x1000, 1 => Just(WRITEBACK)];
    let status = select(vec![0_u32, 1, 3, 11, 15, 64, 79, 128, 143]);
    let word = prop_oneof![status, any::<u32>()].prop_map(|value| value.to_le_bytes().to_vec());
    (
        offset,
        prop_oneof![4 => word, 1 => prop::collection::vec(any::<u8>(), 1..9)],
    )
}

proptest! {
    // Each attempt to shrink a failure may take as long as a device is waited for.
    #![proptest_config(ProptestConfig {
        cases: 96,
        max_shrink_time: 30_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_driver_that_keeps_to_the_specification_cannot_tell(
        actions in prop::collection::vec((action(), any::<bool>()), 1..24),
    ) {
        let [mut trapped, mut mapped] = [Mode::Trap, Mode::Mapped].map(|mode| Driver::live(mode, WCE));
        for (action, exits) in actions {
            take(&mut trapped, action);
            take(&mut mapped, action);
            // An exit of no other use lets the device learn of what is in memory; or the next action.
            if !exits {
                continue;
            }
            mapped.catch_up();
            prop_assert_eq!(window(&mapped), window(&trapped));
            prop_assert_eq!(mapped.edges.count(), trapped.edges.count());
            prop_assert!(mapped.snapshot() == trapped.snapshot(), "RAM");
            prop_assert!(*mapped.disk.bytes() == *trapped.disk.bytes(), "the disk");
            let status = InterruptStatus::from_bits_retain(mapped.read(Register::InterruptStatus));
            let is_open = mapped.window.as_ref().unwrap().is_open();
            prop_assert_eq!(is_open, !status.contains(InterruptStatus::CONFIG_CHANGE));
        }
        mapped.assert_serves();
    }

    #[test]
    fn a_driver_that_writes_anything_there_makes_the_device_do_nothing_and_a_reset_brings_it_back(
        rounds in prop::collection::vec(prop::collection::vec(scribble(), 1..12), 1..6),
    ) {
        let mut driver = Driver::live(Mode::Mapped, WCE);
        let new = Driver::new(Mode::Trap);
        for scribbles in rounds {
            driver.assert_serves();
            // What the device could serve, if anything written in memory had it do so.
            driver.offer(0);
            let (ram, disk) = (driver.snapshot(), driver.disk.bytes().clone());
            let edges = driver.edges.count();
            let before = window(&driver);
            for (offset, data) in scribbles {
                driver.write_at(offset, &data);
            }
            driver.catch_up();
            prop_assert!(driver.snapshot() == ram, "RAM");
            prop_assert!(*driver.disk.bytes() == disk, "the disk");
            prop_assert_eq!(driver.edges.count(), edges);
            let status = driver.read(Register::Status);
            prop_assert!([0, 1, 3, 128, 129, 131, 15, 143].contains(&status), "{}", status);
            let is_open = driver.window.as_ref().unwrap().is_open();
            prop_assert_eq!(is_open, status & 15 == 15);
            let mut after = window(&driver);
            if is_open {
                // All is as it was, but for what the driver may change there.
                for at in [0x60, Register::Status.offset(), WRITEBACK].map(|at| at as usize) {
                    after[at] = before[at];
                }
                prop_assert_eq!(after, before);
            } else {
                after = window(&new);
                after[0x70] = status as u8;
                prop_assert_eq!(window(&driver), after);
            }
            driver.initialize(WCE);
        }
        driver.assert_serves();
    }
}
