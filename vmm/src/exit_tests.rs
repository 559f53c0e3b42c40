use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use devices::{BusDevice, DeviceError};

use super::*;

const PORT: u16 = 0x10;

/// Keeps what is written, answers writes with what it was given, reads as 1, 2, 3 and so on.
#[derive(Default)]
struct Recorder {
    writes: Vec<Vec<u8>>,
    reads: u8,
    responses: VecDeque<Response>,
}

impl BusDevice for Recorder {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        self.reads += 1;
        data.fill(self.reads);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Response {
        self.writes.push(data.to_vec());
        self.responses.pop_front().unwrap_or(Response::Done)
    }
}

fn bus(responses: impl Into<VecDeque<Response>>) -> (Bus, Arc<Mutex<Recorder>>) {
    let device = Arc::new(Mutex::new(Recorder {
        responses: responses.into(),
        ..Default::default()
    }));
    let mut bus = Bus::new();
    bus.insert(PORT.into(), 1, device.clone()).unwrap();
    (bus, device)
}

fn never() -> Option<Action> {
    None
}

#[test]
fn every_element_of_a_string_write_reaches_the_device_on_its_own() {
    for (size, writes) in [
        (1, vec![vec![1], vec![2], vec![3], vec![4]]),
        (2, vec![vec![1, 2], vec![3, 4]]),
        (4, vec![vec![1, 2, 3, 4]]),
    ] {
        let (bus, device) = bus([]);
        let action = write_port(&bus, PORT, &[1, 2, 3, 4], size, &never);
        assert!(matches!(action, Action::Continue));
        assert_eq!(device.lock().unwrap().writes, writes);
    }
}

#[test]
fn every_element_of_a_string_read_is_read_from_the_device_on_its_own() {
    let (bus, _device) = bus([]);
    let mut data = [0; 6];
    read_port(&bus, PORT, &mut data, 2);
    assert_eq!(data, [1, 1, 2, 2, 3, 3]);
}

#[test]
fn a_string_write_goes_no_further_than_what_ends_the_run() {
    let (bus, device) = bus([Response::Done, Response::Exit(7)]);
    let action = write_port(&bus, PORT, &[1, 2, 3], 1, &never);
    assert!(matches!(action, Action::Exit(7)));
    assert_eq!(device.lock().unwrap().writes.len(), 2);
}

#[test]
fn a_device_that_has_more_to_do_gets_the_same_write_again() {
    let (bus, device) = bus([Response::Again, Response::Again]);
    let action = write(&bus, PORT.into(), &[5], &never);
    assert!(matches!(action, Action::Continue));
    assert_eq!(device.lock().unwrap().writes, [[5], [5], [5]]);
}

#[test]
fn a_device_that_may_do_no_more_for_now_gets_the_same_write_again_later() {
    let wait = Duration::from_millis(2);
    let (bus, device) = bus([Response::Later(wait), Response::Later(Duration::MAX)]);
    let start = std::time::Instant::now();
    let action = write(&bus, PORT.into(), &[5], &never);
    assert!(matches!(action, Action::Continue));
    assert!(start.elapsed() >= wait + PATIENCE);
    assert_eq!(device.lock().unwrap().writes, [[5], [5], [5]]);
}

#[test]
fn nobody_waits_for_a_device_when_the_machine_is_to_stop() {
    let (bus, _device) = bus([Response::Later(Duration::MAX)]);
    let action = write(&bus, PORT.into(), &[5], &|| Some(Action::Stop));
    assert!(matches!(action, Action::Stop));
}

#[test]
fn a_write_that_is_set_aside_is_the_same_write_when_it_goes_on() {
    let (bus, device) = bus([Response::Later(Duration::MAX)]);
    let pending = PendingWrite::new(PORT.into(), &[1, 2, 3, 4]);
    let set_aside = || Some(Action::SetAside(pending));
    let data = pending.data.get(..pending.len).unwrap();
    let Action::SetAside(again) = write(&bus, pending.address, data, &set_aside) else {
        panic!("waits");
    };
    let data = again.data.get(..again.len).unwrap();
    let action = write(&bus, again.address, data, &never);
    assert!(matches!(action, Action::Continue));
    assert_eq!(device.lock().unwrap().writes, [[1, 2, 3, 4], [1, 2, 3, 4]]);
}

#[test]
fn a_device_that_never_has_enough_does_not_keep_the_machine_from_stopping() {
    let (bus, device) = bus([Response::Again, Response::Again]);
    let action = write(&bus, PORT.into(), &[5], &|| Some(Action::Stop));
    assert!(matches!(action, Action::Stop));
    assert_eq!(device.lock().unwrap().writes.len(), 1);
}

#[test]
fn a_reset_and_a_failing_device_end_the_run() {
    let failure = DeviceError::Output(std::io::ErrorKind::BrokenPipe.into());
    let (bus, _device) = bus([Response::Reset, Response::Failed(failure)]);
    let next = || write(&bus, PORT.into(), &[0], &never);
    assert!(matches!(next(), Action::Reset));
    assert!(matches!(next(), Action::Fail(Error::Device(_))));
}
