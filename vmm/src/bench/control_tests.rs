use std::io;

use spec::bench::Kind;

use super::*;

const RAM: u64 = 2 << 20;
const PAGE: u32 = 0x5000;
const LIMIT: Duration = Duration::from_secs(10);

/// An interrupt whose handler says at once that it has been entered.
struct Handler(SyncSender<Instant>);

impl Interrupt for Handler {
    fn signal(&self) -> io::Result<()> {
        self.0.send(Instant::now()).unwrap();
        Ok(())
    }
}

/// An interrupt that never reaches its handler.
struct Lost;

impl Interrupt for Lost {
    fn signal(&self) -> io::Result<()> {
        Ok(())
    }
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap()
}

/// The end that measures, and a thread that does what the guest would: announces its page and asks,
/// and for each command has `guest` make an outcome of it.
fn with_guest(
    guest: impl Fn(&GuestMemoryMmap, Command) -> Outcome + Send + 'static,
) -> (HostEnd, thread::JoinHandle<()>) {
    let (mut port, mut host) = ends(Transcript::default(), Arc::new(Lost));
    host.interrupt = Arc::new(Handler(port.handled.clone()));
    let memory = memory();
    let ram = memory.clone();
    let thread = thread::spawn(move || {
        port.announce(PAGE);
        let page = GuestAddress(PAGE.into());
        while port.ask() == GO {
            let mut command = [0; Command::SIZE];
            ram.read_slice(&mut command, page).unwrap();
            let outcome = guest(&ram, Command::from_bytes(&command));
            ram.write_slice(&outcome.to_bytes(), at(page, bench::OUTCOME_OFFSET))
                .unwrap();
        }
    });
    host.boot(&memory).unwrap();
    (host, thread)
}

fn command(iterations: u64) -> Command {
    Command::new(Kind::Empty, iterations)
}

fn done(command: Command) -> Outcome {
    Outcome {
        status: outcome::DONE,
        iterations: command.iterations,
        ..Outcome::default()
    }
}

#[test]
fn a_command_is_done_and_its_outcome_and_latencies_come_back() {
    let (mut host, guest) = with_guest(|ram, command| {
        for i in 0..command.iterations {
            ram.write_obj(i as u32 * 3, GuestAddress(0x8000 + i * 4))
                .unwrap();
        }
        Outcome {
            latencies: 0x8000,
            latency_count: command.iterations,
            ..done(command)
        }
    });
    for iterations in [0, 4] {
        let performed = host.perform(&command(iterations), LIMIT).unwrap();
        assert_eq!(performed.outcome.iterations, iterations);
        assert_eq!(performed.latencies, [0, 3, 6, 9][..iterations as usize]);
        assert!(performed.cpu <= performed.wall + Duration::from_millis(10));
    }
    drop(host);
    guest.join().unwrap();
}

#[test]
fn latencies_outside_ram_or_too_many_are_refused() {
    for (latencies, latency_count) in [
        (RAM - 4, 2),
        (u64::MAX, 1),
        (0x8000, LATENCIES_MAX + 1),
        (0x8000, u64::MAX),
    ] {
        let (mut host, guest) = with_guest(move |_, command| Outcome {
            latencies,
            latency_count,
            ..done(command)
        });
        let error = host.perform(&command(1), LIMIT).unwrap_err();
        assert!(error.to_string().contains("latencies"), "{error}");
        drop(host);
        guest.join().unwrap();
    }
}

#[test]
fn what_the_guest_cannot_do_is_told_from_what_went_wrong() {
    let (mut host, guest) = with_guest(|_, command| Outcome {
        status: command.iterations,
        ..Outcome::default()
    });
    let mut result = |status| host.perform(&command(status), LIMIT).unwrap_err();
    assert!(matches!(
        result(outcome::UNSUPPORTED),
        BenchError::Unsupported(_)
    ));
    assert!(matches!(result(outcome::FAILED), BenchError::Guest { .. }));
    assert_eq!(
        result(77).to_string(),
        "the built-in guest reports the unknown status 77"
    );
    drop(host);
    guest.join().unwrap();
}

#[test]
fn a_guest_that_does_not_come_back_is_given_up_and_given_no_more() {
    let (release, wait) = mpsc::channel::<()>();
    let (mut host, guest) = with_guest(move |_, command| {
        let _ = wait.recv();
        done(command)
    });
    let error = host.perform(&command(1), Duration::from_millis(1));
    assert!(matches!(error, Err(BenchError::Timeout { .. })));
    let error = host.perform(&command(1), LIMIT).unwrap_err();
    assert!(error.to_string().contains("earlier command"), "{error}");
    drop(release);
    drop(host);
    guest.join().unwrap();
}

#[test]
fn a_machine_that_ends_is_noticed_and_the_reason_told() {
    let (mut port, mut host) = ends(Transcript::default(), Arc::new(Lost));
    let events = port.events();
    port.announce(PAGE);
    let guest = thread::spawn(move || {
        assert_eq!(port.ask(), GO);
        let how = "crashed".to_owned();
        let console = String::new();
        events
            .send(Event::Ended(BenchError::Guest { how, console }))
            .unwrap();
    });
    host.boot(&memory()).unwrap();
    let error = host.perform(&command(1), LIMIT).unwrap_err();
    assert_eq!(error.to_string(), "the built-in guest crashed");
    guest.join().unwrap();
}

#[test]
fn a_guest_without_a_page_is_given_nothing() {
    let (mut port, mut host) = ends(Transcript::default(), Arc::new(Lost));
    let guest = thread::spawn(move || assert_eq!(port.ask(), END));
    assert!(host.boot(&memory()).is_err());
    drop(host);
    guest.join().unwrap();
}

#[test]
fn each_interrupt_is_timed_up_to_its_handler() {
    let (mut host, guest) = with_guest(|_, command| done(command));
    let ready = Arc::clone(&host.interrupt);
    ready.signal().unwrap();
    let settle = Duration::from_micros(1);
    let (performed, times) = host.interrupt(&command(5), settle, LIMIT).unwrap();
    assert_eq!(performed.outcome.iterations, 5);
    assert_eq!(times.len(), 5);
    ready.signal().unwrap();
    host.interrupt = Arc::new(Lost);
    let limit = Duration::from_millis(1);
    let error = host.interrupt(&command(5), settle, limit).unwrap_err();
    assert!(matches!(error, BenchError::Timeout { .. }));
    drop(host);
    guest.join().unwrap();
}
