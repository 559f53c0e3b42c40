//! A guest that repeats its mistakes, with a reset in between where it takes one: the log of the
//! host tells of each kind once. Its one test has the process, and so the logger, to itself.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Mutex, PoisonError};

use common::*;
use devices::BusDevice;
use log::{LevelFilter, Log, Metadata, Record};
use spec::block::request_type;
use spec::mmio::Register;
use spec::queue;

/// What has been logged, a line each.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Makes each mistake that the log tells of once, on a device that is new or has been reset.
fn make_every_mistake(driver: &mut Driver) {
    // No features, a queue that is none, and a status out of order.
    assert_eq!(driver.negotiate(spec::Features::empty()), 3);
    driver.describe_queue(3, DESC, AVAIL, USED);
    driver.write(Register::QueueReady, 1);
    driver.write(Register::Status, 15);
    driver.write(Register::MagicValue, 0);
    driver.read(Register::QueueNotify);
    driver.transport.read(0, &mut [0]);

    driver.initialize(PLAIN);
    driver.write(Register::QueueNum, 4);
    // A request that is none, a chain that is none, and a head that is none.
    driver.request(99, 0, &[]);
    driver.request(request_type::IN, SECTORS, &[writable(DATA, 512)]);
    driver.descriptor(0, indirect(TABLE, 16));
    driver.submit_head(0);
    driver.offer(SIZE);
    driver.chain_at(0, &read_chain());
    driver.submit_head(0);
    // Rings that cannot be understood.
    let edges = driver.edges.count();
    driver.store_u16(AVAIL + queue::RING_IDX, driver.avail_idx.wrapping_add(1000));
    driver.notify();
    driver.edges.wait_for(edges + 1);
    assert_eq!(driver.read(Register::Status), 15 | 64);
}

#[test]
fn a_mistake_that_is_made_again_after_a_reset_is_logged_once() {
    log::set_logger(&Lines).unwrap();
    log::set_max_level(LevelFilter::Trace);
    in_every_mode(|mode| {
        LINES.lock().unwrap().clear();
        let mut driver = Driver::new(mode);
        make_every_mistake(&mut driver);
        let once = LINES.lock().unwrap().clone();
        let of_the_registers = [
            "which is no register",
            "writes MagicValue",
            "wants the features",
            "sets up no queue",
            "of a queue in use",
            "writes the status",
        ];
        let of_the_disk = ["needs a reset", "a chain", "a request", "a head"];
        assert_eq!(once.len(), of_the_registers.len() + of_the_disk.len());
        for part in of_the_registers.into_iter().chain(of_the_disk) {
            let count = once.iter().filter(|line| line.contains(part)).count();
            assert_eq!(count, 1, "{part}: {once:#?}");
        }
        for _ in 0..20 {
            make_every_mistake(&mut driver);
        }
        assert_eq!(*LINES.lock().unwrap(), once);
    });
}
