use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

/// Answers reads with its tag, and tells which offset was written.
struct Tagged(u8);

impl BusDevice for Tagged {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(self.0);
    }

    fn write(&mut self, offset: u64, _data: &[u8]) -> Response {
        Response::Exit(u32::try_from(offset).unwrap())
    }
}

/// Tells of each access, and does not end a write before it is told to.
struct Slow {
    accesses: Sender<&'static str>,
    end: Receiver<()>,
}

impl BusDevice for Slow {
    fn read(&mut self, _offset: u64, _data: &mut [u8]) {
        self.accesses.send("read").unwrap();
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) -> Response {
        self.accesses.send("write").unwrap();
        self.end.recv().unwrap();
        Response::Again
    }
}

fn tagged(tag: u8) -> Arc<Mutex<dyn BusDevice>> {
    Arc::new(Mutex::new(Tagged(tag)))
}

fn read_byte(bus: &Bus, addr: u64) -> u8 {
    let mut data = [0];
    bus.read(addr, &mut data);
    data[0]
}

#[test]
fn an_access_reaches_the_device_whose_range_it_is_in() {
    let mut bus = Bus::new();
    bus.insert(0x2000, 0x1000, tagged(2)).unwrap();
    bus.insert(0x1000, 0x1000, tagged(1)).unwrap();
    assert_eq!(read_byte(&bus, 0x1000), 1);
    assert_eq!(read_byte(&bus, 0x1fff), 1);
    assert_eq!(read_byte(&bus, 0x2000), 2);
    assert!(matches!(bus.write(0x2fff, &[0]), Response::Exit(0xfff)));
    assert_eq!(bus.unmapped(), 0);
}

#[test]
fn where_nothing_is_reads_are_all_ones_and_writes_ignored_and_both_counted() {
    let mut bus = Bus::new();
    bus.insert(0x1000, 0x1000, tagged(1)).unwrap();
    let mut data = [0; 4];
    bus.read(0xfff, &mut data);
    assert_eq!(data, [0xff; 4]);
    assert!(matches!(bus.write(0x2000, &[1]), Response::Done));
    assert!(matches!(bus.write(u64::MAX, &[1]), Response::Done));
    assert_eq!(bus.unmapped(), 3);
}

#[test]
fn a_range_that_overlaps_another_is_refused() {
    let mut bus = Bus::new();
    bus.insert(0x1000, 0x1000, tagged(1)).unwrap();
    for (base, len) in [(0x1000, 1), (0x1fff, 1), (0, 0x1001), (0, 0x10000)] {
        let error = bus.insert(base, len, tagged(2)).unwrap_err();
        let last = base + len - 1;
        let other = 0x1000;
        assert_eq!(error, BusError::Overlap { base, last, other });
    }
    bus.insert(0, 0x1000, tagged(2)).unwrap();
    bus.insert(0x2000, 1, tagged(2)).unwrap();
}

#[test]
fn a_range_that_is_empty_or_wraps_is_refused() {
    let mut bus = Bus::new();
    for (base, len) in [(0x1000, 0), (u64::MAX, 2), (2, u64::MAX)] {
        let error = bus.insert(base, len, tagged(1)).unwrap_err();
        assert_eq!(error, BusError::Range { base, len }, "{base:#x}+{len:#x}");
    }
    bus.insert(u64::MAX, 1, tagged(1)).unwrap();
    assert_eq!(read_byte(&bus, u64::MAX), 1);
}

#[test]
fn who_repeats_a_write_comes_after_who_waits_for_the_device() {
    let (accesses, seen) = channel();
    let (end_write, end) = channel();
    let mut bus = Bus::new();
    let device = Arc::new(Mutex::new(Slow { accesses, end }));
    bus.insert(0, 1, device).unwrap();
    let next = || seen.recv_timeout(Duration::from_secs(10)).unwrap();

    std::thread::scope(|scope| {
        scope.spawn(|| {
            bus.write(0, &[0]);
            bus.write(0, &[0]);
        });
        assert_eq!(next(), "write");
        scope.spawn(|| bus.read(0, &mut [0]));
        while bus.ranges[0].next.try_lock().is_ok() {
            std::thread::yield_now();
        }
        end_write.send(()).unwrap();
        end_write.send(()).unwrap();
        assert_eq!(next(), "read");
        assert_eq!(next(), "write");
    });
}

/// A share of work: says that it is done, and answers this.
#[derive(Debug)]
struct Share(Sender<()>, fn() -> Response);

impl Work for Share {
    fn work(&self) -> Response {
        self.0.send(()).unwrap();
        self.1()
    }
}

#[test]
fn all_shares_are_done_and_the_write_repeated_where_any_has_work_left() {
    let (sender, shares) = channel();
    let work = |answers: &[fn() -> Response]| {
        let share = |answer: &fn() -> Response| Arc::new(Share(sender.clone(), *answer)) as _;
        let work = Shares(answers.iter().map(share).collect());
        let answer = Response::Work(Arc::new(work)).worked();
        (answer, shares.try_iter().count())
    };
    let nothing = || Response::Done;
    let (again, exit) = (|| Response::Again, || Response::Exit(1));
    assert!(matches!(work(&[]), (Response::Done, 0)));
    assert!(matches!(work(&[nothing, nothing]), (Response::Done, 2)));
    let (answer, done) = work(&[again, nothing, nothing]);
    assert!(matches!((answer, done), (Response::Again, 3)));
    let (answer, done) = work(&[nothing, exit, again]);
    assert!(matches!((answer, done), (Response::Exit(1), 2)));
}
