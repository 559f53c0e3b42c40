//! Queues that are none, negotiation that skips a step, and notifications at the wrong time. What
//! is refused stays without effect.

use spec::Features;
use spec::block::request_type;
use spec::board::HOLE_START;
use spec::mmio::{DeviceStatus, Register};
use spec::queue::{DESC_SIZE, avail_ring_size, desc_table_size, used_ring_size};

use super::case::{Case, DIRECT};
use super::open::{found, is_open, settle};
use super::scene::{QUEUE_SIZE, SECTOR, Scene, areas, indirect, set_table};
use super::seen::{Outcome, REFUSED, Seen, read_of};
use super::yard::{UNTOUCHED, is_filled};
use crate::dma::Region;

pub(super) const CASES: [Case; 11] = [
    Case::new(
        "queue-size",
        "queue size 0, no power of two, above QueueNumMax, or of more than 16 bits",
        "QueueReady 0",
        queue_size,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "ring-address",
        "a ring that is unaligned, not all RAM, past the end, or overlaps another",
        "QueueReady 0",
        ring_address,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "queue-refused-then-live",
        "DRIVER_OK and a notification after a queue has been refused",
        "no ring read or written",
        refused_then_live,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "queue-written-when-ready",
        "queue registers written after QueueReady",
        "ignored",
        written_when_ready,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "queue-written-when-live",
        "queue registers written after DRIVER_OK",
        "ignored",
        written_when_live,
    )
    .in_modes(DIRECT),
    Case::new(
        "notify-early",
        "a notification before DRIVER_OK",
        "ignored, and the buffer served once it is set",
        notify_early,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "notify-no-queue",
        "a notification for a queue that does not exist",
        "ignored",
        notify_no_queue,
    )
    .in_modes(DIRECT),
    Case::new(
        "feature-not-offered",
        "a feature is accepted that was not offered",
        "FEATURES_OK 0, DRIVER_OK without effect",
        feature_not_offered,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "feature-version-1",
        "VERSION_1 is not accepted, or FEATURES_OK is skipped",
        "neither FEATURES_OK nor DRIVER_OK",
        feature_version_1,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "feature-late",
        "features are accepted after FEATURES_OK",
        "ignored: an indirect table is refused",
        feature_late,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "status-steps",
        "a status is written that takes back or skips a step",
        "the status as it was, or in memory a reset where a bit is taken back",
        status_steps,
    )
    .in_modes(DIRECT),
];

/// After a size that is sound, which must not stand. There is memory for the largest that is a power
/// of two.
fn queue_size(scene: &mut Scene<'_>) -> Outcome {
    let max = scene.disk.queue_num_max;
    let sound = scene.driver.queue.size;
    let large = u16::try_from(2 * max).unwrap_or(sound);
    let areas = areas(&mut scene.yard, large)?.map(Region::addr);
    scene.driver.negotiate(scene.features)?;
    for size in [
        0,
        3,
        max - 1,
        max + 1,
        2 * max,
        0xffff,
        0x1_0000,
        0x1_0000 | u32::from(sound),
        0x8000_0000 | u32::from(sound),
        u32::MAX,
    ] {
        scene.driver.describe(sound.into(), areas);
        scene.driver.transport.write(Register::QueueNum, size);
        let ready = Seen::Value(scene.driver.set_ready(1).into());
        scene.check("size", size.into(), ready, Seen::Value(0))?;
    }
    Ok(scene.bring_up()?)
}

fn ring_address(scene: &mut Scene<'_>) -> Outcome {
    let sound = scene.driver.queue.areas();
    let [desc, driver, device] = sound;
    let lens = [
        desc_table_size(QUEUE_SIZE),
        avail_ring_size(QUEUE_SIZE),
        used_ring_size(QUEUE_SIZE),
    ];
    // What each area is not to be aligned to, and is to be.
    let aligns = [(8, 16), (1, 2), (2, 4)];
    let end = scene.tail.addr() + scene.tail.len() as u64;
    scene.driver.negotiate(scene.features)?;
    for (area, len) in lens.into_iter().enumerate() {
        let (odd, align) = aligns[area];
        let over_the_end = (end - len).next_multiple_of(align) + align;
        for address in [
            sound[area] + odd,
            HOLE_START + 0x100_0000,
            scene.window.base,
            1 << 52,
            u64::MAX - (align - 1),
            over_the_end,
            end,
        ] {
            // Without the tail it is not known where RAM ends.
            if scene.tail.is_empty() && address >= over_the_end {
                continue;
            }
            let mut areas = sound;
            areas[area] = address;
            refuse(scene, address, areas)?;
        }
    }
    for areas in [
        [desc, desc, device],
        [desc, driver, desc],
        [desc, device, device],
        [desc, desc + lens[0] - 2, device],
        [desc, driver, desc + lens[0] - 4],
        [desc, device + lens[2] - 2, device],
        [driver.next_multiple_of(16), driver, device],
    ] {
        refuse(scene, areas[1], areas)?;
    }
    Ok(scene.bring_up()?)
}

/// Sees that a queue at `areas` is refused.
fn refuse(scene: &mut Scene<'_>, of: u64, areas: [u64; 3]) -> Outcome {
    scene.driver.describe(QUEUE_SIZE.into(), areas);
    let ready = Seen::Value(scene.driver.set_ready(1).into());
    scene.check("the address", of, ready, Seen::Value(0))
}

fn refused_then_live(scene: &mut Scene<'_>) -> Outcome {
    let queue = scene.driver.queue;
    let [desc, driver, device] = queue.areas();
    scene.driver.negotiate(scene.features)?;
    scene.set_header(request_type::IN, 0);
    scene.set_chain(0, &scene.read_chain());
    let areas = [desc, driver + 1, device];
    scene.driver.describe(QUEUE_SIZE.into(), areas);
    scene.driver.set_ready(1);
    scene.driver.queue.rewind();
    queue.device.fill(UNTOUCHED);
    scene.driver.queue.offer(0);
    scene.driver.start();
    for kick in [0, 0, 1] {
        scene.driver.kick(kick);
    }
    check_nothing_used(scene)?;
    Ok(scene.bring_up()?)
}

/// Sees that the device leaves the used ring, which is untouched, and the data so.
fn check_nothing_used(scene: &mut Scene<'_>) -> Outcome {
    for _ in 0..20 {
        scene.driver.transport.pause();
    }
    let untouched = is_filled(scene.driver.queue.device, UNTOUCHED);
    scene.check_words("the used ring", 0, untouched, "untouched", "written")?;
    scene.check_data_untouched(0)
}

fn written_when_ready(scene: &mut Scene<'_>) -> Outcome {
    let queue = scene.driver.queue;
    scene.driver.negotiate(scene.features)?;
    queue.device.fill(UNTOUCHED);
    scene.driver.queue.rewind();
    scene.driver.describe(queue.size.into(), queue.areas());
    scene.driver.set_ready(1);
    scene.driver.describe(4, [HOLE_START; 3]);
    scene.driver.start();
    let ready = Seen::Value(scene.driver.transport.read(Register::QueueReady).into());
    scene.check("QueueReady", 0, ready, Seen::Value(1))
}

fn written_when_live(scene: &mut Scene<'_>) -> Outcome {
    let [desc, driver, device] = scene.driver.queue.areas();
    for areas in [[HOLE_START; 3], [0; 3], [device, desc, driver]] {
        scene.driver.describe(4, areas);
        let ready = Seen::Value(scene.driver.set_ready(1).into());
        scene.check("the address", areas[0], ready, Seen::Value(1))?;
    }
    Ok(())
}

fn notify_early(scene: &mut Scene<'_>) -> Outcome {
    let queue = scene.driver.queue;
    scene.driver.negotiate(scene.features)?;
    queue.device.fill(UNTOUCHED);
    scene.driver.queue.rewind();
    queue.device.fill(UNTOUCHED);
    scene.driver.describe(queue.size.into(), queue.areas());
    scene.driver.set_ready(1);
    scene.set_header(request_type::IN, 0);
    scene.set_chain(0, &scene.read_chain());
    scene.status.fill(UNTOUCHED);
    scene.driver.queue.offer(0);
    for _ in 0..3 {
        scene.driver.kick(0);
    }
    check_nothing_used(scene)?;

    clear_used(scene);
    scene.driver.start();
    let answer = scene.answer(0)?;
    scene.check("DRIVER_OK", 0, answer, read_of(SECTOR))
}

/// Makes the used ring one that a device can begin with.
fn clear_used(scene: &Scene<'_>) {
    scene.driver.queue.device.write(0, &[0; 4]);
}

/// Where any notification wakes a thread, it may serve the buffer; but once.
fn notify_no_queue(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    for queue in [1, 2, 0xffff, 0x1_0000, u32::MAX] {
        scene.set_chain(0, &scene.read_chain());
        scene.status.fill(UNTOUCHED);
        scene.driver.queue.offer(0);
        scene.driver.kick(queue);
        scene.driver.kick(0);
        let answer = scene.answer(0)?;
        scene.check("queue", queue.into(), answer, read_of(SECTOR))?;
    }
    Ok(())
}

fn feature_not_offered(scene: &mut Scene<'_>) -> Outcome {
    let driven = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    let driven = Seen::Value(driven.bits().into());
    let offered = scene.disk.offered.bits();
    let not_offered = (0..u64::BITS).filter(|bit| offered >> bit & 1 == 0);
    for bit in not_offered.step_by(5).chain([63]) {
        let features = scene.features | Features::from_bits_retain(1 << bit);
        let agreed = scene.driver.negotiate(features)?;
        let agreed = Seen::Value(agreed.bits().into());
        scene.check("bit", bit.into(), agreed, driven)?;
        start_regardless(scene)?;
        let status = Seen::Value(scene.driver.transport.status().bits().into());
        scene.check("bit", bit.into(), status, driven)?;
    }
    Ok(scene.bring_up()?)
}

/// Sets up the queue with a read in it and sets DRIVER_OK, and sees that this has no effect.
fn start_regardless(scene: &mut Scene<'_>) -> Outcome {
    let queue = scene.driver.queue;
    scene.set_header(request_type::IN, 0);
    scene.set_chain(0, &scene.read_chain());
    scene.driver.queue.rewind();
    scene.driver.describe(queue.size.into(), queue.areas());
    scene.driver.set_ready(1);
    scene.driver.queue.offer(0);
    queue.device.fill(UNTOUCHED);
    for status in [0xf, 7] {
        scene.driver.transport.write(Register::Status, status);
        scene.driver.kick(0);
    }
    check_nothing_used(scene)
}

fn feature_version_1(scene: &mut Scene<'_>) -> Outcome {
    let driven = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    let driven = Seen::Value(driven.bits().into());
    for features in [
        Features::empty(),
        scene.features - Features::VIRTIO_F_VERSION_1,
    ] {
        let status = Seen::Value(scene.driver.negotiate(features)?.bits().into());
        scene.check("features", features.bits(), status, driven)?;
        start_regardless(scene)?;
    }
    scene.driver.transport.reset()?;
    for status in [1, 3, 7] {
        scene.driver.transport.write(Register::Status, status);
    }
    let status = Seen::Value(scene.driver.transport.status().bits().into());
    scene.check("DRIVER_OK alone", 7, status, driven)?;
    Ok(scene.bring_up()?)
}

fn feature_late(scene: &mut Scene<'_>) -> Outcome {
    let queue = scene.driver.queue;
    scene.driver.negotiate(scene.features)?;
    let late = scene.features | Features::VIRTIO_F_INDIRECT_DESC;
    scene.driver.transport.accept_features(late);
    queue.device.fill(UNTOUCHED);
    scene.driver.queue.rewind();
    scene.driver.describe(queue.size.into(), queue.areas());
    scene.driver.set_ready(1);
    scene.driver.start();

    scene.set_header(request_type::IN, 0);
    let table = scene.table(0);
    set_table(table, &scene.read_chain());
    queue.set_desc(0, indirect(table.addr(), 3 * DESC_SIZE as u32));
    let answer = scene.submit_head(0)?;
    scene.check("INDIRECT", 0, answer, REFUSED)
}

fn status_steps(scene: &mut Scene<'_>) -> Outcome {
    let live = scene.driver.transport.status();
    let is_open = is_open(scene.driver.transport);
    for status in [1, 3, 7, 0xb, 4, 8, 0x1f, 0x2f, 0x100, 0x8000_0000, u32::MAX] {
        scene.driver.transport.write(Register::Status, status);
        settle(scene.driver.transport);
        let expected = match is_open {
            true => found(live, DeviceStatus::from_bits_retain(status)),
            false => live,
        };
        scene.check_status(status.into(), expected)?;
        if expected != live {
            scene.revive()?;
        }
    }
    Ok(())
}
