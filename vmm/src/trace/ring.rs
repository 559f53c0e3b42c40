//! Where events are kept as they happen: a ring for each source of them, which belongs to one writer
//! at a time, so that nothing is locked where an event is written. It looks into no event.

use std::mem;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use devices::locks::lock;

use super::event::Event;

/// The last events of a source, as many as there is room for.
#[derive(Debug, Default)]
pub struct Ring {
    events: Vec<Event>,
    /// Where the next one goes: over the oldest, once all places are taken.
    next: usize,
    /// How many have been written.
    written: u64,
    /// The thread that writes, for who knows it.
    pub thread: Option<ThreadId>,
}

impl Ring {
    /// Room for `limit` events. All of it has been written to: no page of it is missing when an
    /// event is written.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            events: vec![Event::FILLER; limit],
            ..Self::default()
        }
    }

    /// Keeps `event`, in place of the oldest where there is no room.
    pub fn write(&mut self, event: Event) {
        if let Some(place) = self.events.get_mut(self.next) {
            *place = event;
        }
        self.next += 1;
        if self.next >= self.events.len() {
            self.next = 0;
        }
        self.written += 1;
    }

    /// How many events have been written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many of them, the oldest, are not kept any more.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.written.saturating_sub(self.events.len() as u64)
    }

    /// Those that are kept, in the order in which they were written.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let oldest = if self.dropped() > 0 { self.next } else { 0 };
        let kept = self.written - self.dropped();
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        self.events.iter().cycle().skip(oldest).take(kept)
    }
}

/// Where a ring is while nobody writes to it.
#[derive(Clone, Debug, Default)]
pub struct Home(Arc<Mutex<Ring>>);

impl Home {
    /// The home of a ring with room for `limit` events.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Ring::new(limit))))
    }

    /// Takes the ring from here: it comes back when the writer is dropped. Where there is a writer
    /// already, this one has no room for any event.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer {
            ring: self.take(),
            home: self.clone(),
        }
    }

    /// The ring itself, for good.
    #[must_use]
    pub fn take(&self) -> Ring {
        mem::take(&mut *lock(&self.0))
    }
}

/// Who writes to a ring.
#[derive(Debug)]
pub struct Writer {
    ring: Ring,
    home: Home,
}

impl Writer {
    /// The ring.
    pub fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut home = lock(&self.home.0);
        *home = mem::take(&mut self.ring);
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
