//! The engine that has transfers made by io_uring: the ring of one queue, which can do nothing but
//! read and write the image. What the backend does not admit to it the backend makes itself.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::thread;

use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use log::error;

use super::{Direction, Ended, Engine, TRANSFERS_MAX, Transfer};
use crate::virtio::block::backend::{BlockBackend, Segments, TransferError};

/// The image, the only file that the ring knows.
const IMAGE: types::Fixed = types::Fixed(0);
/// For how long the kernel's thread (SQPOLL) looks for submissions in vain before it sleeps, in
/// milliseconds: as long as a device that polls watches an empty queue.
const SQPOLL_IDLE: u32 = 2;

/// A ring on the file of a backend, and what is in flight in it.
///
/// A submission queue that is full, and a completion queue that overflows, are impossible: each
/// transfer has at most one entry in the two together, there are no more of them than the submission
/// queue has entries, and the completion queue has twice as many.
pub struct IoUringEngine {
    backend: Arc<dyn BlockBackend>,
    ring: IoUring,
    /// The operation on a transfer has the number of its place for its user data.
    flights: Box<[Option<Flight>]>,
    free: Vec<usize>,
    ended: VecDeque<Ended>,
    /// Room for segments that are in no flight.
    spare: Vec<Segments>,
}

/// A transfer that is in flight.
struct Flight {
    transfer: Box<Transfer>,
    /// What the operation that is under way is about.
    segments: Segments,
    transferred: u64,
    /// Whether the kernel is to do the operation in a thread of its own, which may wait.
    in_thread: bool,
}

impl IoUringEngine {
    /// An engine with a ring on the file of `backend`, which it never writes if it is `read_only`. If
    /// `polled`, a thread of the kernel looks for what is submitted, so that this takes no system
    /// call while there is much to do.
    ///
    /// The ring has the file opened once more: the locks on it are with the one that the backend
    /// has, and end with that, not when the kernel comes to taking the ring down.
    ///
    /// # Errors
    /// The backend has no file, or there is no io_uring for this process, or not in this way.
    pub fn new(backend: Arc<dyn BlockBackend>, read_only: bool, polled: bool) -> io::Result<Self> {
        let image = reopen(backend.file().ok_or_else(no_file)?, read_only)?;
        let mut builder = IoUring::builder();
        builder.setup_r_disabled();
        if polled {
            builder.setup_sqpoll(SQPOLL_IDLE);
        }
        let ring = builder.build(TRANSFERS_MAX as u32).map_err(too_old)?;
        let kernel = ring.submitter();
        kernel.register_files(&[image.as_raw_fd()])?;
        // What goes through a ring no filter of system calls sees. So this is all that it can do, for
        // ever and for whomever.
        let mut allowed = vec![
            Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
            Restriction::sqe_flags_allowed((Flags::FIXED_FILE | Flags::ASYNC).bits()),
            Restriction::sqe_op(opcode::Readv::CODE),
        ];
        if !read_only {
            allowed.push(Restriction::sqe_op(opcode::Writev::CODE));
        }
        kernel.register_restrictions(&mut allowed)?;
        kernel.register_enable_rings()?;
        Ok(Self {
            backend,
            ring,
            flights: (0..TRANSFERS_MAX).map(|_| None).collect(),
            free: (0..TRANSFERS_MAX).rev().collect(),
            ended: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// Whether the kernel has something that is not known to have ended.
    fn has_flights(&self) -> bool {
        self.free.len() < self.flights.len()
    }

    /// Whether `transfer` may go through the ring now; if so, and if it is a write, it is in the gate.
    ///
    /// # Errors
    /// It may not be made at all.
    fn admit(&mut self, transfer: &Transfer) -> io::Result<bool> {
        if transfer.is_empty() {
            return Ok(false);
        }
        let writes = transfer.direction() == Direction::Out;
        let backend = Arc::clone(&self.backend);
        let admitted = backend.admits(writes, transfer.slices(), transfer.position())?;
        let Some(gate) = backend.gate().filter(|_| writes) else {
            return Ok(admitted);
        };
        if !(admitted && gate.try_enter()) {
            // Whoever has the gate closed waits for what is in flight here, and so may the backend,
            // when it makes this one.
            self.settle()?;
            if admitted {
                gate.enter();
            }
        }
        Ok(admitted)
    }

    /// Has `transfer` in flight from the next call of the kernel on. It has something to move.
    fn launch(&mut self, transfer: Box<Transfer>) {
        let flight = Flight {
            transfer,
            segments: self.spare.pop().unwrap_or_default(),
            transferred: 0,
            in_thread: false,
        };
        let place = self.free.pop();
        let Some((place, empty)) =
            place.and_then(|place| Some((place, self.flights.get_mut(place)?)))
        else {
            let busy = io::Error::from(io::ErrorKind::ResourceBusy);
            return self.end(flight, Some(busy));
        };
        *empty = Some(flight);
        self.push(place);
    }

    /// Has the kernel do, from the next call on, what is left of the flight in `place`.
    fn push(&mut self, place: usize) {
        let Some(flight) = self.flights.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let entry = flight.operation().user_data(place as u64);
        // SAFETY: the one file that the entry can mean is registered with the ring, as long as that
        // exists. The entry points to the segments, which are on the heap, and are neither changed nor
        // given back before the kernel has said that it has done with them, or ever. They lie in RAM
        // of the guest, which the transfer keeps mapped, and which the flight keeps for as long. Rust
        // code holds no reference into that memory, so that the kernel may write it, and the guest at
        // the same time.
        if let Err(full) = unsafe { self.ring.submission().push(&entry) } {
            self.land(place, Some(io::Error::other(full)));
        }
    }

    /// Takes what has completed from the completion queue. What has not come to its end goes on.
    fn collect(&mut self) {
        let mut goes_on = false;
        loop {
            let completion = self.ring.completion().next();
            let Some(completion) = completion else {
                break;
            };
            let place = completion.user_data() as usize;
            let Some(flight) = self.flights.get_mut(place).and_then(Option::as_mut) else {
                continue;
            };
            match flight.completed(completion.result()) {
                Next::End(failure) => self.land(place, failure),
                Next::GoOn => {
                    goes_on = true;
                    self.push(place);
                }
            }
        }
        if goes_on {
            // Where that fails the next call of `enter` does it, or says why it does not.
            let _ = self.ring.submit();
        }
    }

    /// The flight in `place` has ended, by `failure` or well. The kernel has nothing of it.
    fn land(&mut self, place: usize, failure: Option<io::Error>) {
        if let Some(flight) = self.flights.get_mut(place).and_then(Option::take) {
            self.free.push(place);
            self.end(flight, failure);
        }
    }

    fn end(&mut self, flight: Flight, failure: Option<io::Error>) {
        let Flight {
            transfer,
            segments,
            transferred,
            ..
        } = flight;
        self.spare.push(segments);
        if transfer.direction() == Direction::Out
            && let Some(gate) = self.backend.gate()
        {
            gate.leave();
        }
        let result = match failure {
            None => Ok(()),
            Some(source) => Err(TransferError {
                transferred,
                source,
            }),
        };
        self.ended.push_back(Ended { transfer, result });
    }

    /// Passes on what has been submitted, and waits until there are `wanted` completions or somebody
    /// wants something else of this thread.
    fn call(&self, wanted: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(wanted) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => Ok(()),
                // The kernel has no memory for another operation until one ends.
                Some(libc::EAGAIN) => {
                    thread::yield_now();
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }
}

impl Engine for IoUringEngine {
    fn submit(&mut self, transfer: Box<Transfer>) {
        let result = match self.admit(&transfer) {
            Ok(true) => return self.launch(transfer),
            Ok(false) => transfer.make(&*self.backend),
            Err(error) => Err(error.into()),
        };
        self.ended.push_back(Ended { transfer, result });
    }

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        self.collect();
        loop {
            let waits = wait && self.ended.is_empty() && self.has_flights();
            if !waits && self.ring.submission().is_empty() {
                return Ok(());
            }
            self.call(usize::from(waits))?;
            self.collect();
            // The kernel's thread takes what there is in its own time.
            if !waits && self.ring.params().is_setup_sqpoll() {
                return Ok(());
            }
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        self.collect();
        while self.has_flights() {
            self.call(1)?;
            self.collect();
        }
        Ok(())
    }

    fn reap(&mut self) -> Option<Ended> {
        if self.ended.is_empty() {
            self.collect();
        }
        self.ended.pop_front()
    }

    fn has_ended(&self) -> bool {
        // SAFETY: there is no other view of the completion queue: each is made by a method that has
        // `self` for itself, and dropped in it; and `self` is not shared between threads.
        !self.ended.is_empty() || !unsafe { self.ring.completion_shared() }.is_empty()
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: it is open for as long as the ring exists, which is borrowed for as long.
        Some(unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) })
    }
}

impl Drop for IoUringEngine {
    fn drop(&mut self) {
        if let Err(error) = self.settle() {
            error!("block: cannot wait for what io_uring has in flight: {error}");
            // The kernel may write there even when the ring is closed.
            mem::forget(mem::take(&mut self.flights));
        }
    }
}

impl fmt::Debug for IoUringEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoUringEngine").finish_non_exhaustive()
    }
}

/// What becomes of a flight whose operation has completed.
enum Next {
    /// It has ended, by a failure or well.
    End(Option<io::Error>),
    /// What is left of it is to be done.
    GoOn,
}

impl Flight {
    /// What is left to do, at most as much as one operation does.
    fn operation(&mut self) -> Entry {
        let position = self.transfer.position().saturating_add(self.transferred);
        let segments = self
            .segments
            .after(self.transferred, self.transfer.slices());
        let (start, count) = (segments.as_ptr(), segments.len() as u32);
        let operation = match self.transfer.direction() {
            Direction::In => opcode::Readv::new(IMAGE, start, count)
                .offset(position)
                .build(),
            Direction::Out => opcode::Writev::new(IMAGE, start, count)
                .offset(position)
                .build(),
        };
        match self.in_thread {
            true => operation.flags(Flags::ASYNC),
            false => operation,
        }
    }

    /// The operation has this `result`: how many bytes it has moved, or an error, negative.
    fn completed(&mut self, result: i32) -> Next {
        let failure = match u64::try_from(result) {
            Ok(0) => match self.transfer.direction() {
                Direction::In => io::ErrorKind::UnexpectedEof.into(),
                Direction::Out => io::ErrorKind::WriteZero.into(),
            },
            Ok(count) => {
                self.transferred = self.transferred.saturating_add(count);
                return match self.transferred < self.transfer.len() {
                    true => Next::GoOn,
                    false => Next::End(None),
                };
            }
            Err(_) => match result.saturating_neg() {
                libc::EINTR => return Next::GoOn,
                libc::EAGAIN if !self.in_thread => {
                    self.in_thread = true;
                    return Next::GoOn;
                }
                error => io::Error::from_raw_os_error(error),
            },
        };
        Next::End(Some(failure))
    }
}

/// An `error` of making a ring that is disabled at first, as one that is to be restricted is.
fn too_old(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            let message = "the kernel's io_uring cannot be restricted (that of Linux 5.10 can)";
            io::Error::new(io::ErrorKind::Unsupported, message)
        }
        _ => error,
    }
}

fn no_file() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "io_uring needs a raw image in a file",
    )
}

/// The open file `image` once more, as one that the kernel may wait for.
fn reopen(image: &File, read_only: bool) -> io::Result<File> {
    // SAFETY: a system call on an open file, without pointers.
    let flags = unsafe { libc::fcntl(image.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(flags & libc::O_DIRECT)
        .open(format!("/proc/self/fd/{}", image.as_raw_fd()))
}

#[cfg(test)]
#[path = "io_uring_tests.rs"]
mod tests;
