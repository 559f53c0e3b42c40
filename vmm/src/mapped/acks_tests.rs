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
            base: BASES[index],
            page: Arc::default(),
            can_open: false,
            slot: 0,
        });
        let pages = [0, 1].map(|index| Arc::clone(&windows[index].page));
        pages
            .iter()
            .for_each(|page| page.add_pending(BOTH).unwrap());
        let ring = MmapRegion::new(PAGE_SIZE as usize).unwrap();
        let acks = AckRing::new(ring, windows.iter());
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

    fn applied(&self) -> [u64; 2] {
        [0, 1].map(|index| self.pages[index].silent_acks())
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
    assert_eq!(kvm.applied(), [0, 1]);
    kvm.acks.apply();
    assert_eq!(kvm.applied()[1], 1);
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
        assert_eq!(kvm.applied()[0], 169 * round);
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
    assert_eq!(kvm.applied(), [0, 0]);
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

/// Whoever has applied what waits finds no bit that was acknowledged before, even where another thread
/// is at it already: the worker would set its bit then.
#[test]
fn who_applies_while_another_does_goes_on_when_all_is_applied() {
    let kvm = Kvm::new();
    kvm.pages.iter().for_each(|page| page.acknowledge(u32::MAX));
    // While it is odd, nobody but this thread's `apply` changes a bit.
    let (phase, over) = (AtomicU32::new(0), AtomicBool::new(false));
    let (looks, wrong) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (mut looks, mut wrong) = (0, 0);
            while !over.load(Ordering::SeqCst) {
                let before = phase.load(Ordering::SeqCst);
                kvm.acks.apply();
                let pending = kvm.pending();
                if before % 2 == 1 && phase.load(Ordering::SeqCst) == before {
                    looks += 1;
                    wrong += u32::from(pending != [0, 0]);
                }
            }
            (looks, wrong)
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            kvm.pages
                .iter()
                .for_each(|page| page.add_pending(BOTH).unwrap());
            for _ in 0..100 {
                kvm.write(BASES[0] + ACK, 4, 0);
            }
            for base in BASES {
                assert!(kvm.write(base + ACK, 4, 3));
            }
            phase.fetch_add(1, Ordering::SeqCst);
            kvm.acks.apply();
            phase.fetch_add(1, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
        other.join().unwrap()
    });
    println!("{looks} looks");
    assert_eq!(wrong, 0);
}
