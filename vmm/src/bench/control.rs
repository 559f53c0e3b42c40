//! The VMM's part of the protocol by which a guest with `run=bench` is told what to do: one end for
//! the thread of the vCPU that asks, one for the thread that measures. Knows nothing of how the
//! vCPU is run, and does not interpret what is measured.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use devices::virtio::Interrupt;
use rustix::time::{ClockId, clock_gettime};
use spec::bench::{self, Command, END, GO, LATENCIES_MAX, Outcome, outcome};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::error::{BenchError, cannot};
use super::transcript::Transcript;
use crate::error::Error;
use crate::pin;

/// How long a guest has to come to its first question: on a software KVM, hundreds of thousands of
/// instructions.
const BOOT_LIMIT: Duration = Duration::from_secs(10);

/// Both ends. What the guest writes to its console is in `transcript`; `interrupt` is
/// [`spec::bench::GSI`].
#[must_use]
pub fn ends(transcript: Transcript, interrupt: Arc<dyn Interrupt>) -> (GuestEnd, HostEnd) {
    let (commands, received) = mpsc::channel();
    let (events, sent) = mpsc::channel();
    // One is awaited before the next can come; a guest that says it more often is not heard.
    let (handled, entries) = mpsc::sync_channel(1);
    let guest = GuestEnd {
        page: None,
        started: None,
        pin: None,
        commands: received,
        events,
        handled,
    };
    let host = HostEnd {
        memory: GuestMemoryMmap::new(),
        page: None,
        commands,
        events: sent,
        handled: entries,
        interrupt,
        transcript,
    };
    (guest, host)
}

/// What the thread of the vCPU that asks for commands tells the other.
#[derive(Debug)]
pub enum Event {
    /// The guest asks for a command, whose page is this; if it has done one, it took this long.
    Asks(Option<u32>, Option<Interval>),
    /// There will be no more.
    Ended(BenchError),
}

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    wall: Duration,
    cpu: Duration,
}

impl Interval {
    /// From a [`moment`] of this thread to this one.
    fn since((clock, cpu): (Instant, Duration)) -> Self {
        let now = moment();
        Self {
            wall: now.0 - clock,
            cpu: now.1.saturating_sub(cpu),
        }
    }
}

/// This moment by the clock, and the CPU time of this thread up to it.
fn moment() -> (Instant, Duration) {
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    // Neither part of it is ever negative.
    (Instant::now(), Duration::try_from(cpu).unwrap_or_default())
}

/// The end of the vCPU's thread.
#[derive(Debug)]
pub struct GuestEnd {
    page: Option<u32>,
    /// When the guest was given what it does.
    started: Option<(Instant, Duration)>,
    pin: Option<usize>,
    commands: Receiver<()>,
    events: Sender<Event>,
    handled: SyncSender<Instant>,
}

impl GuestEnd {
    /// Lets the vCPU's thread run on CPU `cpu` of the host alone, from its first question on.
    pub fn pin(&mut self, cpu: usize) {
        self.pin = Some(cpu);
    }

    /// Where to say that the machine has ended.
    #[must_use]
    pub fn events(&self) -> Sender<Event> {
        self.events.clone()
    }

    /// The guest says where its page is.
    pub fn announce(&mut self, page: u32) {
        self.page = Some(page);
        if let Some(cpu) = self.pin.take()
            && let Err(error) = pin::stay_on(cpu)
        {
            // Nobody listens any more when the machine is to stop.
            let _ = self.events.send(Event::Ended(Error::from(error).into()));
        }
    }

    /// The guest asks for a command: waits for one, or for the end.
    pub fn ask(&mut self) -> u32 {
        let done = self.started.take().map(Interval::since);
        let asked = self.events.send(Event::Asks(self.page, done));
        // Either fails where the other end is gone: the machine is to stop.
        if asked.is_err() || self.commands.recv().is_err() {
            return END;
        }
        self.started = Some(moment());
        GO
    }

    /// The guest is ready for an interrupt, or has come to handle one.
    pub fn handled(&self) {
        let now = Instant::now();
        // Nobody waits for it when the machine is to stop, or the guest says it out of turn.
        let _ = self.handled.try_send(now);
    }
}

/// The end of the thread that measures. When it is dropped the guest is told to end.
pub struct HostEnd {
    /// The guest's RAM; none until it [`boots`](Self::boot).
    memory: GuestMemoryMmap,
    /// Where the guest looks for its next command; `None` while it does not wait for one.
    page: Option<GuestAddress>,
    commands: Sender<()>,
    events: Receiver<Event>,
    /// When the guest was ready for an interrupt, or has come to handle one.
    handled: Receiver<Instant>,
    interrupt: Arc<dyn Interrupt>,
    transcript: Transcript,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Performed {
    /// What the guest says of it.
    pub outcome: Outcome,
    /// The latencies that it took, in ticks of its TSC.
    pub latencies: Vec<u32>,
    /// Time between the command and the next question, by the host's clock.
    pub wall: Duration,
    /// CPU time of the vCPU's thread between them, that in the kernel and the guest included.
    pub cpu: Duration,
}

impl HostEnd {
    /// Waits for the first question of the guest, whose RAM is `memory`, and leaves there what it
    /// is to write to disks.
    ///
    /// # Errors
    /// Where it does not come, or has no RAM for that.
    pub fn boot(&mut self, memory: &GuestMemoryMmap) -> Result<(), BenchError> {
        self.memory = memory.clone();
        self.wait("ask for its first command", BOOT_LIMIT)?;
        let Some(page) = self.page else {
            return Ok(());
        };
        let mut data = vec![0; bench::DATA_SIZE];
        bench::fill_data(&mut data);
        self.memory
            .write_slice(&data, at(page, bench::PAGE_SIZE))
            .map_err(unreachable("what it is to write"))
    }

    /// Has the guest do `command`, and waits for it, at most `limit`.
    ///
    /// # Errors
    /// Where it does not succeed. Unless that is [`BenchError::Unsupported`], or the guest says on
    /// its console why it failed, the machine is then of no more use.
    pub fn perform(&mut self, command: &Command, limit: Duration) -> Result<Performed, BenchError> {
        let page = self.give(command)?;
        self.result(page, limit)
    }

    /// The same for [`spec::bench::Kind::IrqHalted`] and [`spec::bench::Kind::IrqRunning`]: raises
    /// each of the interrupts that the guest waits for, `settle` after the last one was handled, and
    /// returns how long it took each until the vCPU's thread was told that the handler runs.
    ///
    /// # Errors
    /// As for [`perform`](Self::perform); each interrupt has `limit` to be handled.
    pub fn interrupt(
        &mut self,
        command: &Command,
        settle: Duration,
        limit: Duration,
    ) -> Result<(Performed, Vec<Duration>), BenchError> {
        let page = self.give(command)?;
        self.handled(limit)?;
        let mut times = Vec::new();
        for _ in 0..command.iterations {
            let settled = Instant::now() + settle;
            while Instant::now() < settled {
                thread::yield_now();
            }
            times.push(self.interrupt_once(limit)?);
        }
        Ok((self.result(page, limit)?, times))
    }

    /// Keeps this CPU awake, but leaves it to whoever wants it: KVM raises the interrupt on a thread
    /// of its own, which is bound to it.
    fn interrupt_once(&self, limit: Duration) -> Result<Duration, BenchError> {
        let begin = Instant::now();
        self.interrupt
            .signal()
            .map_err(cannot("raise an interrupt"))?;
        Ok(self.handled(limit)?.saturating_duration_since(begin))
    }

    /// When the guest has written to [`spec::bench::HANDLED_PORT`] next.
    fn handled(&self, limit: Duration) -> Result<Instant, BenchError> {
        let begin = Instant::now();
        loop {
            match self.handled.try_recv() {
                Ok(at) => return Ok(at),
                Err(TryRecvError::Empty) if begin.elapsed() < limit => thread::yield_now(),
                Err(_) => return Err(self.timeout("come to handle an interrupt", limit)),
            }
        }
    }

    /// Gives the guest `command`, and returns its page.
    fn give(&mut self, command: &Command) -> Result<GuestAddress, BenchError> {
        let Some(page) = self.page.take() else {
            return Err(self.failed("has not come back from an earlier command"));
        };
        self.memory
            .write_slice(&command.to_bytes(), page)
            .and_then(|()| {
                let nothing = Outcome::default().to_bytes();
                self.memory
                    .write_slice(&nothing, at(page, bench::OUTCOME_OFFSET))
            })
            .map_err(unreachable("its page"))?;
        match self.commands.send(()) {
            Ok(()) => Ok(page),
            // The vCPU's thread has ended; it has said why, if it could.
            Err(_) => match self.events.try_recv() {
                Ok(Event::Ended(error)) => Err(error),
                _ => Err(self.failed("has ended")),
            },
        }
    }

    /// Waits for the guest to come back from what it was given in `page`.
    fn result(&mut self, page: GuestAddress, limit: Duration) -> Result<Performed, BenchError> {
        let Some(interval) = self.wait("do what it was told", limit)? else {
            return Err(self.failed("asks for a command before it was given one"));
        };
        let mut bytes = [0; Outcome::SIZE];
        self.memory
            .read_slice(&mut bytes, at(page, bench::OUTCOME_OFFSET))
            .map_err(unreachable("its page"))?;
        let outcome = Outcome::from_bytes(&bytes);
        match outcome.status {
            outcome::DONE => {}
            outcome::UNSUPPORTED => {
                return Err(BenchError::Unsupported(
                    "the machine cannot do it, as the guest sees it".into(),
                ));
            }
            outcome::FAILED => return Err(self.failed("failed")),
            status => return Err(self.failed(&format!("reports the unknown status {status}"))),
        }
        let count = outcome.latency_count;
        if count > LATENCIES_MAX {
            return Err(self.failed(&format!("reports {count} latencies")));
        }
        let mut bytes = vec![0; count as usize * 4];
        if !bytes.is_empty() {
            self.memory
                .read_slice(&mut bytes, GuestAddress(outcome.latencies))
                .map_err(unreachable("its latencies"))?;
        }
        let (latencies, _) = bytes.as_chunks::<4>();
        Ok(Performed {
            outcome,
            latencies: latencies.iter().map(|&l| u32::from_le_bytes(l)).collect(),
            wall: interval.wall,
            cpu: interval.cpu,
        })
    }

    /// Waits for the guest's next question, at most `limit` for it to do `what`.
    fn wait(
        &mut self,
        what: &'static str,
        limit: Duration,
    ) -> Result<Option<Interval>, BenchError> {
        match self.events.recv_timeout(limit) {
            Ok(Event::Asks(page, interval)) => {
                let Some(page) = page else {
                    return Err(self.failed("asks for a command before it says where to put it"));
                };
                self.page = Some(GuestAddress(page.into()));
                Ok(interval)
            }
            Ok(Event::Ended(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Err(self.timeout(what, limit)),
            Err(RecvTimeoutError::Disconnected) => Err(self.failed("has ended")),
        }
    }

    fn timeout(&self, what: &'static str, limit: Duration) -> BenchError {
        BenchError::Timeout {
            what,
            limit,
            console: self.transcript.text(),
        }
    }

    fn failed(&self, how: &str) -> BenchError {
        BenchError::Guest {
            how: how.into(),
            console: self.transcript.text(),
        }
    }
}

/// What is `offset` bytes behind the start of `page`.
fn at(page: GuestAddress, offset: usize) -> GuestAddress {
    GuestAddress(page.0.wrapping_add(offset as u64))
}

/// Names what the guest keeps where it has no RAM, for `map_err`.
fn unreachable(what: &'static str) -> impl FnOnce(GuestMemoryError) -> BenchError {
    move |source| BenchError::Address { what, source }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
