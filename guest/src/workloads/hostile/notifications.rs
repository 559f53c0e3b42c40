//! The notifications that go with the rings: that the device interrupts, and wants to be notified,
//! exactly where that is due. Each case resets the device, or has rings that are not those of others.

use spec::block::request_type;
use spec::mmio::InterruptStatus;
use spec::queue::{AVAIL_F_NO_INTERRUPT, DESC_SIZE};

use super::case::{Case, EVENT_IDX};
use super::scene::{QUEUE_SIZE, SECTOR, Scene, indirect, readable, set_table, writable};
use super::seen::{Outcome, Seen, read_of};
use crate::virtio::raw::RawQueue;

/// The largest queue that is of use here, in descriptors.
const MAX_SIZE: u32 = 1024;

pub(super) const CASES: [Case; 2] = [
    Case::new(
        "event-idx-wrap",
        "event indices across the wrap from 65535 to 0",
        "an interrupt exactly where one is due",
        event_idx_wrap,
    )
    .in_modes(EVENT_IDX)
    .with_reset(),
    Case::new(
        "no-interrupt",
        "NO_INTERRUPT is set, and EVENT_IDX not negotiated",
        "no interrupt",
        no_interrupt,
    )
    .with_reset(),
];

/// A turn of the ring for each notification, and few chains at once where it matters.
fn event_idx_wrap(scene: &mut Scene<'_>) -> Outcome {
    let size = MAX_SIZE.min(1 << scene.disk.queue_num_max.ilog2()) as u16;
    scene.resize(size)?;
    // All refer to one table: a read of no data.
    scene.set_header(request_type::IN, 0);
    let table = scene.table(0);
    set_table(table, &[readable(scene.header), writable(scene.status)]);
    let refer = indirect(table.addr(), 2 * DESC_SIZE as u32);
    let queue = scene.driver.queue;
    for head in 0..size {
        queue.set_desc(head, refer);
        queue.set_avail_entry(head, head);
    }

    // Up to eight before the wrap, with one interrupt, for the last: one of a case before, which a
    // busy host delivers late, comes no later than that.
    for _ in 0..u16::MAX / size {
        use_chains(scene, size, u16::MAX)?;
    }
    use_chains(scene, size - 9, u16::MAX)?;
    use_chains(scene, 1, 0)?;
    scene.driver.wait_events(InterruptStatus::USED_BUFFER)?;
    let mut before = scene.driver.settle_interrupts();
    let begun = Seen::Value(scene.driver.queue.used_idx().into());
    scene.check("used.idx", 0, begun, Seen::Value(0xfff8))?;

    // How many chains at once, how far ahead of them the event, and whether they pass it.
    for (chains, ahead, due) in [
        (1, 1, 0),
        (1, 0, 1),
        (4, 4, 0),
        (1, 0, 1),
        (3, 1, 1), // 65535 to 2, event 0
        (1, 0xffff, 0),
        (1, 1, 0),
        (1, 0x8000, 0),
        (1, 0, 1),
        (3, 2, 1),
    ] {
        let old = scene.driver.queue.used_idx();
        use_chains(scene, chains, ahead)?;
        if due == 1 {
            scene.driver.wait_events(InterruptStatus::USED_BUFFER)?;
        }
        let so_far = scene.driver.settle_interrupts();
        let interrupts = Seen::Value(so_far - before);
        before = so_far;
        scene.check("used.idx", old.into(), interrupts, Seen::Value(due))?;
    }
    Ok(scene.resize(QUEUE_SIZE)?)
}

/// Has the device use the next `chains` chains of the ring, with `used_event` that far `ahead` of
/// `used.idx`. Only when it wants to be notified of the next one exactly has it done with that event,
/// and interrupted if that was due.
fn use_chains(scene: &mut Scene<'_>, chains: u16, ahead: u16) -> Outcome {
    let queue = &mut scene.driver.queue;
    queue.set_used_event(queue.used_seen.wrapping_add(ahead));
    queue.avail_idx = queue.avail_idx.wrapping_add(chains);
    queue.set_avail_idx(queue.avail_idx);
    let idx = queue.avail_idx;
    queue.used_seen = idx;
    scene.driver.kick(0);
    let is_done = |queue: &RawQueue<'_>| queue.used_idx() == idx && queue.avail_event() == idx;
    Ok(scene.driver.wait_for(is_done)?)
}

/// After the next reset, which waits for the device, there is none that it has yet to raise.
fn no_interrupt(scene: &mut Scene<'_>) -> Outcome {
    let data = writable(scene.data.part(0, SECTOR));
    // One of a case before, which a busy host delivers late, comes no later than this.
    let answer = scene.request(request_type::IN, 0, &[data])?;
    scene.check("flags", 0, answer, read_of(SECTOR))?;
    scene.driver.wait_events(InterruptStatus::USED_BUFFER)?;
    for flags in [0, AVAIL_F_NO_INTERRUPT] {
        let before = scene.driver.settle_interrupts();
        scene.driver.queue.set_avail_flags(flags);
        let answer = scene.request(request_type::IN, 0, &[data])?;
        scene.check("flags", flags.into(), answer, read_of(SECTOR))?;
        if flags == 0 {
            scene.driver.wait_events(InterruptStatus::USED_BUFFER)?;
        }
        scene.driver.transport.reset()?;
        let interrupts = scene.driver.settle_interrupts() - before;
        let expected = Seen::Value(u64::from(flags ^ AVAIL_F_NO_INTERRUPT));
        scene.check(
            "interrupts",
            flags.into(),
            Seen::Value(interrupts),
            expected,
        )?;
        scene.bring_up()?;
    }
    Ok(())
}
