//! What a hostile guest does to the cache of the disk: it switches between write-back and write-through
//! in the middle of writes, and by accesses that no driver makes.

use spec::Features;
use spec::block::{config, request_type, status};
use spec::mmio::CONFIG_OFFSET;

use super::case::{Case, DiskKind};
use super::open::{is_open, settle};
use super::scene::{QUEUE_SIZE, SECTOR, Scene, readable, writable};
use super::seen::{OK, Outcome, Seen};
use super::yard::{UNTOUCHED, copy, is_filled};
use crate::virtio::Width;

pub(super) const CASES: [Case; 2] = [
    Case::new(
        "cache-switched",
        "the cache is switched while writes are in flight",
        "every write and flush OK",
        switched,
    )
    .on(DiskKind::WritableCache)
    .with_reset(),
    Case::new(
        "cache-width",
        "the cache is switched by an access wider than its field, or across it",
        "ignored, or in memory by the byte in the field",
        width,
    )
    .on(DiskKind::WritableCache)
    .with_reset(),
];

/// Brings the device up for a driver that may switch the cache.
fn bring_up(scene: &mut Scene<'_>) -> Outcome {
    scene.features |= Features::VIRTIO_BLK_F_CONFIG_WCE;
    Ok(scene.bring_up()?)
}

/// Sees what the field reads once the device has what has been written to it.
fn check_field(scene: &mut Scene<'_>, of: u64, expected: u8) -> Outcome {
    settle(scene.driver.transport);
    let field = scene.driver.transport.read_config_byte(config::WRITEBACK);
    let (seen, expected) = (Seen::Value(field.into()), Seen::Value(expected.into()));
    scene.check("the field", of, seen, expected)
}

/// As many writes of what is there already as there is room for, and the cache switched after the
/// notification.
fn switched(scene: &mut Scene<'_>) -> Outcome {
    bring_up(scene)?;
    copy(scene.disk.contents.part(0, SECTOR), scene.data);
    let data = readable(scene.data.part(0, SECTOR));
    let step = if scene.mode.indirect { 1 } else { 3 };
    let heads = || (0..QUEUE_SIZE - 2).step_by(step);
    for value in [0, 1, 0x80, 0] {
        scene.set_header(request_type::OUT, 0);
        let (header, status) = (readable(scene.header), writable(scene.status));
        scene.status.fill(UNTOUCHED);
        for head in heads() {
            scene.set_chain(head, &[header, data, status]);
            scene.driver.queue.offer(head);
        }
        scene.driver.kick(0);
        for value in [1, 0, value] {
            let transport = &mut *scene.driver.transport;
            transport.write_config_byte(config::WRITEBACK, value);
        }
        for _ in heads() {
            let used = Seen::Value(scene.driver.wait_used()?.len.into());
            scene.check("used.len", value.into(), used, Seen::Value(1))?;
        }
        let ok = is_filled(scene.status, status::OK);
        scene.check_words("the writes", value.into(), ok, "OK", "not OK")?;
        check_field(scene, value.into(), u8::from(value != 0))?;
        let answer = scene.request(request_type::FLUSH, 0, &[])?;
        scene.check("a flush", value.into(), answer, OK)?;
    }
    Ok(())
}

/// Every access that touches the field and is not of it alone.
fn width(scene: &mut Scene<'_>) -> Outcome {
    bring_up(scene)?;
    let is_open = is_open(scene.driver.transport);
    for (field, others) in [(0, u64::MAX), (1, 0)] {
        let expected = match is_open {
            true => 1 - field,
            false => field,
        };
        for width in [Width::Two, Width::Four, Width::Eight] {
            let last = config::WRITEBACK;
            for offset in last + 1 - width.bytes() as u64..=last {
                let place = CONFIG_OFFSET + offset;
                let transport = &mut *scene.driver.transport;
                transport.write_config_byte(config::WRITEBACK, field);
                check_field(scene, place, field)?;
                scene.driver.transport.write_at(place, width, others);
                check_field(scene, place, expected)?;
            }
        }
    }
    Ok(())
}
