#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::{Duration, Instant};

use spec::mmio::InterruptStatus;

use super::*;

const BASES: [u64; 2] = [0xd000_0000, 0xd000_1000];
const ACK: u64 = 0x64;
const BOTH: InterruptStatus = InterruptStatus::all();

/// A ring of two windows, and this test in the place of KVM.
struct Kvm {
    acks: AckRing,
    pages: [Arc<RegisterPage>; 2],
}

impl Kvm {
    fn new() -> Self {
        let windows = [0, 1].map(|index| MappedWindow {
            index,
            base: BASES[index],
            page: Arc::default(),
            slot: 0,
        });
        let pages = [0, 1].map(|index| Arc::clone(&windows[index].page));
        pages.iter().for_each(|page| page.add_pending(BOTH));
        let ring = MmapRegion::new(PAGE_SIZE as usize).unwrap();
        let acks = AckRing::new(ring, &windows);
        Self { acks, pages }
    }

    /// Lets a write wait; `false` where there is no room.
    fn write(&self, address: u64, len: u32, value: u32) -> bool {
        let (first, last) = (self.acks.index(FIRST), self.acks.index(LAST));
        let next = (last + 1) % MAX;
        if next == first {
            return false;
        }
        let ring = self.acks.ring.as_volatile_slice();
        let entry = [address, len.into(), value.into()];
        let offset = ENTRIES + last as usize * ENTRY_SIZE;
        ring.write_obj(entry, offset).unwrap();
        ring.store(next, LAST, Ordering::Release).unwrap();
        true
    }

    fn pending(&self) -> [u32; 2] {
        [0, 1].map(|index| self.pages[index].pending().bits())
    }
}

#[test]
fn an_acknowledgement_waits_until_it_is_applied_to_the_device_that_it_is_for() {
    let kvm = Kvm::new();
    assert!(kvm.write(BASES[1] + ACK, 4, 1));
    assert_eq!(kvm.pending(), [3, 3]);
    kvm.acks.apply();
    assert_eq!(kvm.pending(), [3, 2]);
    assert_eq!(BASES.map(|base| kvm.acks.applied(base)), [0, 1]);
    kvm.acks.apply();
    assert_eq!(kvm.acks.applied(BASES[1]), 1);
}

#[test]
fn all_that_fit_the_ring_are_applied_each_time_around() {
    let kvm = Kvm::new();
    for round in 1..=3 {
        let mut written = 0;
        while kvm.write(BASES[0] + ACK, 4, 2) {
            written += 1;
        }
        // One entry of KVM's ring stays free.
        assert_eq!(written, 169);
        kvm.acks.apply();
        assert_eq!(kvm.acks.applied(BASES[0]), 169 * round);
        assert_eq!(kvm.pending(), [1, 3]);
    }
}

#[test]
fn a_write_of_another_width_or_to_nobody_is_ignored() {
    let kvm = Kvm::new();
    for (address, len) in [
        (BASES[0] + ACK, 1),
        (BASES[0] + ACK, 2),
        (BASES[0] + ACK + 2, 2),
        (BASES[0] + ACK + 1, 4),
        (BASES[1], 4),
        (u64::MAX, 4),
        (0, 0),
    ] {
        assert!(kvm.write(address, len, u32::MAX));
    }
    kvm.acks.apply();
    assert_eq!(kvm.pending(), [3, 3]);
    assert_eq!(BASES.map(|base| kvm.acks.applied(base)), [0, 0]);
}

#[test]
fn indices_that_are_none_end_nothing() {
    let kvm = Kvm::new();
    let ring = kvm.acks.ring.as_volatile_slice();
    for (first, last) in [(u32::MAX, 0), (0, u32::MAX), (MAX, 1), (u32::MAX, u32::MAX)] {
        ring.store(first, FIRST, Ordering::SeqCst).unwrap();
        ring.store(last, LAST, Ordering::SeqCst).unwrap();
        kvm.acks.apply();
        assert_eq!(kvm.acks.index(FIRST), kvm.acks.index(LAST));
    }
}

/// Two threads that do something at the same moment, again and again for half a second.
#[derive(Default)]
struct Rounds {
    arrived: AtomicU32,
    over: AtomicBool,
}

impl Rounds {
    /// Waits until both have called this as often as this one has now.
    fn meet(&self, times: u32) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < 2 * times {
            thread::yield_now();
        }
    }

    /// Has this thread `prepare`, then `first` done here and `second` by another, and returns the
    /// first round after which it is not as `check` says.
    fn run(
        &self,
        prepare: impl Fn(u32),
        first: impl Fn(u32),
        second: impl Fn(u32) + Sync,
        check: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1.. {
                    self.meet(2 * round - 1);
                    if self.over.load(Ordering::SeqCst) {
                        return;
                    }
                    second(round);
                    self.meet(2 * round);
                }
            });
            let (start, mut wrong) = (Instant::now(), None);
            for round in 1.. {
                prepare(round);
                let over = wrong.is_some() || start.elapsed() > Duration::from_millis(500);
                self.over.store(over, Ordering::SeqCst);
                self.meet(2 * round - 1);
                if over {
                    println!("{round} rounds");
                    break;
                }
                first(round);
                self.meet(2 * round);
                wrong = (!check(round)).then_some(round);
            }
            wrong
        })
    }
}

/// Whoever has applied what waits finds no bit that was acknowledged before, even where another
/// thread has been first at the ring: the worker would set its bit then.
#[test]
fn of_two_that_apply_at_once_neither_goes_on_before_all_is_applied() {
    let kvm = Kvm::new();
    let left = [AtomicU32::new(0), AtomicU32::new(0)];
    let apply = |who: usize| {
        kvm.acks.apply();
        let [a, b] = kvm.pending();
        left[who].store(a | b, Ordering::SeqCst);
    };
    let wrong = Rounds::default().run(
        |_| {
            kvm.pages.iter().for_each(|page| page.add_pending(BOTH));
            for _ in 0..100 {
                assert!(kvm.write(BASES[0] + ACK, 4, 1));
            }
            assert!(kvm.write(BASES[0] + ACK, 4, 2));
            assert!(kvm.write(BASES[1] + ACK, 4, 3));
        },
        |_| apply(0),
        |_| apply(1),
        |_| [0, 1].map(|who: usize| left[who].load(Ordering::SeqCst)) == [0, 0],
    );
    assert_eq!(wrong, None);
}

/// A worker stores what there is to see and then looks into the ring; a vCPU writes into the ring and
/// then, in the guest, looks at what there is to see. One of them sees the other.
#[test]
fn an_acknowledgement_that_is_not_found_is_of_a_handler_that_sees_what_was_published_before() {
    let kvm = Kvm::new();
    let (published, seen, found) = <(AtomicU32, AtomicU32, AtomicU64)>::default();
    let wrong = Rounds::default().run(
        |_| kvm.acks.apply(),
        |round| {
            published.store(round, Ordering::Relaxed);
            kvm.acks.apply();
            found.store(kvm.acks.applied(BASES[0]), Ordering::SeqCst);
        },
        |_| {
            assert!(kvm.write(BASES[0] + ACK, 4, 1));
            // The entry into the guest.
            fence(Ordering::SeqCst);
            seen.store(published.load(Ordering::Relaxed), Ordering::SeqCst);
        },
        |round| {
            let found = found.load(Ordering::SeqCst) == u64::from(round);
            found || seen.load(Ordering::SeqCst) == round
        },
    );
    assert_eq!(wrong, None);
}
