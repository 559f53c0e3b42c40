//! A disk that writes down what it is asked for and has a byte that cannot be read or written, and an
//! engine that has transfers in flight for as long as a test wants.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex};

use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::engine::{Ended, Engine, Transfer};
use devices::virtio::block::{BlockBackend, TransferError};
use vm_memory::VolatileSlice;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What a disk was asked for: position and length, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read(u64, u64),
    Write(u64, u64),
    Flush,
}

/// A disk that remembers. Clones are the same.
pub struct Remembering<D = MemoryBackend> {
    pub disk: Arc<D>,
    pub calls: Arc<Mutex<Vec<Call>>>,
    /// The byte at which every transfer ends with an error.
    pub bad: Arc<Mutex<Option<u64>>>,
    /// The most slices of one call.
    pub most_slices: Arc<Mutex<usize>>,
}

impl<D> Clone for Remembering<D> {
    fn clone(&self) -> Self {
        Self {
            disk: Arc::clone(&self.disk),
            calls: Arc::clone(&self.calls),
            bad: Arc::clone(&self.bad),
            most_slices: Arc::clone(&self.most_slices),
        }
    }
}

impl<D> Remembering<D> {
    pub fn new(disk: D) -> Self {
        Self {
            disk: Arc::new(disk),
            calls: Arc::default(),
            bad: Arc::default(),
            most_slices: Arc::default(),
        }
    }

    /// What was asked for since this was last asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn transfer(
        &self,
        call: fn(u64, u64) -> Call,
        slices: &[VolatileSlice<'_>],
        position: u64,
        transfer: impl Fn(&[VolatileSlice<'_>]) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let len: usize = slices.iter().map(VolatileSlice::len).sum();
        self.calls.lock().unwrap().push(call(position, len as u64));
        let mut most = self.most_slices.lock().unwrap();
        *most = slices.len().max(*most);
        let bad = *self.bad.lock().unwrap();
        let Some(bad) = bad.filter(|bad| (position..position + len as u64).contains(bad)) else {
            return transfer(slices);
        };
        let mut left = (bad - position) as usize;
        let part = |slice: &VolatileSlice<'_>| {
            let len = slice.len().min(left);
            left -= len;
            len
        };
        let lens: Vec<usize> = slices.iter().map(part).collect();
        let parts: Vec<_> = slices
            .iter()
            .zip(lens)
            .map(|(slice, len)| slice.subslice(0, len).unwrap())
            .collect();
        transfer(&parts)?;
        Err(TransferError {
            transferred: bad - position,
            source: io::ErrorKind::Other.into(),
        })
    }
}

impl<D: BlockBackend> BlockBackend for Remembering<D> {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.size()
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.transfer(Call::Read, slices, position, |slices| {
            self.disk.read_at(slices, position)
        })
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.transfer(Call::Write, slices, position, |slices| {
            self.disk.write_at(slices, position)
        })
    }

    fn file(&self) -> Option<&File> {
        self.disk.file()
    }

    /// What the bad byte is in comes to `transfer`, which ends there.
    fn admits(
        &self,
        writes: bool,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> io::Result<bool> {
        let len: usize = slices.iter().map(VolatileSlice::len).sum();
        let bad = *self.bad.lock().unwrap();
        let is_bad = bad.is_some_and(|bad| (position..position + len as u64).contains(&bad));
        Ok(!is_bad && self.disk.admits(writes, slices, position)?)
    }

    fn flush(&self) -> io::Result<()> {
        self.calls.lock().unwrap().push(Call::Flush);
        Ok(())
    }
}

/// What a test and an engine have in common: how many transfers may end.
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    event: EventFd,
}

#[derive(Default)]
struct State {
    may_end: u64,
    in_flight: u64,
    most: u64,
    is_readable: bool,
}

impl State {
    fn has_ended(&self) -> bool {
        self.may_end > 0 && self.in_flight > 0
    }
}

impl Gate {
    /// One that lets nothing end yet.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            event: EventFd::new(EFD_NONBLOCK).unwrap(),
        }
    }

    /// Lets `count` transfers end.
    pub fn let_go(&self, count: u64) {
        self.change(|state| state.may_end = state.may_end.saturating_add(count));
    }

    /// Lets all end, at once from now on.
    pub fn open(&self) {
        self.let_go(u64::MAX);
    }

    /// How many transfers are in flight.
    pub fn in_flight(&self) -> u64 {
        self.state.lock().unwrap().in_flight
    }

    /// How many there have been at a time.
    pub fn most(&self) -> u64 {
        self.state.lock().unwrap().most
    }

    /// Waits until as many are in flight.
    pub fn wait_for(&self, count: u64) {
        let state = self.state.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(state, super::LIMIT, |state| state.in_flight != count);
        let (state, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "{} in flight", state.in_flight);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        state.most = state.in_flight.max(state.most);
        if state.has_ended() != state.is_readable {
            state.is_readable = !state.is_readable;
            match state.is_readable {
                true => self.event.write(1).unwrap(),
                false => drop(self.event.read().unwrap()),
            }
        }
        self.changed.notify_all();
    }
}

/// An engine whose transfers end when a [`Gate`] lets them, in any order, and are made then.
pub struct GatedEngine {
    backend: Arc<dyn BlockBackend>,
    gate: Arc<Gate>,
    in_flight: Vec<Transfer>,
    /// Decides about the order.
    random: u64,
}

impl GatedEngine {
    pub fn new(backend: impl BlockBackend + 'static, random: u64) -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate::new());
        let engine = Self {
            backend: Arc::new(backend),
            gate: Arc::clone(&gate),
            in_flight: Vec::new(),
            random,
        };
        (engine, gate)
    }
}

impl Engine for GatedEngine {
    fn submit(&mut self, transfer: Box<Transfer>) {
        self.in_flight.push(*transfer);
        self.gate.change(|state| state.in_flight += 1);
    }

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        if wait {
            let state = self.gate.state.lock().unwrap();
            let waits = |state: &mut State| !state.has_ended();
            drop(self.gate.changed.wait_while(state, waits).unwrap());
        }
        Ok(())
    }

    fn reap(&mut self) -> Option<Ended> {
        if !self.has_ended() {
            return None;
        }
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        let index = (self.random >> 33) as usize % self.in_flight.len();
        let transfer = Box::new(self.in_flight.remove(index));
        let result = transfer.make(&*self.backend);
        self.gate.change(|state| {
            state.in_flight -= 1;
            // For ever is not a number.
            if state.may_end < u64::MAX / 2 {
                state.may_end -= 1;
            }
        });
        Some(Ended { transfer, result })
    }

    fn has_ended(&self) -> bool {
        self.gate.state.lock().unwrap().has_ended()
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the gate has it open for as long as `self` has the gate.
        Some(unsafe { BorrowedFd::borrow_raw(self.gate.event.as_raw_fd()) })
    }
}
