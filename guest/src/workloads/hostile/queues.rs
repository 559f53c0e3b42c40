//! What a hostile guest does to a device with several queues: to one of them, in whose stead another
//! must not suffer, and to what they share.

use spec::mmio::Register;
use spec::queue::{avail_ring_size, used_ring_size};

use super::case::{Case, DIRECT, DiskKind};
use super::lanes::{Lanes, negotiate, set_up_first, start, wait_needs_reset};
use super::open::settle;
use super::scene::{QUEUE_SIZE, Scene};
use super::seen::{Outcome, Seen};
use crate::virtio::Width;

/// How many requests are in flight where many are to be: as many as there is room for.
const MANY: u16 = QUEUE_SIZE / 3;
/// How many moments a queue is watched that must rest.
const WATCH: u32 = 10;

const fn case(
    name: &'static str,
    hazard: &'static str,
    required: &'static str,
    run: fn(&mut Scene<'_>) -> Outcome,
) -> Case {
    Case::new(name, hazard, required, run)
        .on(DiskKind::SeveralQueues)
        .in_modes(DIRECT)
        .with_reset()
}

pub(super) const CASES: [Case; 7] = [
    case(
        "queues-counted",
        "QueueSel up to num_queues and beyond",
        "a queue for each number below num_queues, and none beyond",
        counted,
    ),
    case(
        "queues-in-any-order",
        "queues set up from the last to the first, or without the first",
        "each that is ready is served",
        in_any_order,
    ),
    case(
        "queues-notified-for-others",
        "a notification for a queue that is not there, not ready, or not meant",
        "ignored, and the request served once",
        notified_for_others,
    ),
    case(
        "queues-in-one-memory",
        "two queues in the same rings, and one in the rings of another",
        "a device that a reset brings back",
        in_one_memory,
    ),
    case(
        "queue-stopped-in-use",
        "QueueReset, then QueueReady 0, of a queue with requests in flight",
        "the queue rests, and the others are served",
        stopped_in_use,
    ),
    case(
        "queue-broken-alone",
        "`avail.idx` of one queue jumps ahead by more than its size",
        "NEEDS_RESET, and the other queues are served",
        broken_alone,
    ),
    case(
        "queues-reset-in-flight",
        "reset while several queues have requests in flight",
        "nothing written after it",
        reset_in_flight,
    ),
];

fn counted(scene: &mut Scene<'_>) -> Outcome {
    let count = u32::from(scene.disk.queues);
    let numbers = [
        0,
        1,
        count - 1,
        count,
        count + 1,
        0xffff,
        0x1_0000,
        0x1_0001,
    ];
    for sel in numbers.into_iter().chain([u32::MAX]) {
        let transport = &mut *scene.driver.transport;
        transport.write(Register::QueueSel, sel);
        let max = transport.read(Register::QueueNumMax);
        let expected = if sel < count {
            scene.disk.queue_num_max
        } else {
            0
        };
        let (seen, expected) = (Seen::Value(max.into()), Seen::Value(expected.into()));
        scene.check("QueueSel", sel.into(), seen, expected)?;
    }
    Ok(())
}

fn in_any_order(scene: &mut Scene<'_>) -> Outcome {
    let mut lanes = Lanes::new(scene)?;
    for has_first in [true, false] {
        negotiate(scene)?;
        for lane in lanes.all().iter_mut().rev() {
            lane.set_up(&mut scene.driver)?;
        }
        if has_first {
            set_up_first(scene)?;
        }
        start(scene);
        scene.driver.kick(0);
        lanes.check_serve(scene)?;
    }
    Ok(lanes.bring_up(scene)?)
}

/// Who watches a queue may serve it without any notification; but once.
fn notified_for_others(scene: &mut Scene<'_>) -> Outcome {
    let mut lanes = Lanes::new(scene)?;
    let count = u32::from(scene.disk.queues);
    // The first queue is not ready.
    negotiate(scene)?;
    for lane in lanes.all() {
        lane.set_up(&mut scene.driver)?;
    }
    start(scene);
    for other in [0, count, count + 1, 0xffff, 0x1_0001, 0x8000_0001, u32::MAX] {
        for lane in lanes.all() {
            lane.offer(1);
            scene.driver.kick(other);
            scene.driver.kick(lane.index.into());
            lane.check_answer(scene, "notified for another")?;
        }
    }
    for width in [Width::One, Width::Two, Width::Eight] {
        for lane in lanes.all() {
            lane.offer(1);
            let (at, value) = (Register::QueueNotify.offset(), lane.index.into());
            scene.driver.transport.write_at(at, width, value);
            scene.driver.kick(lane.index.into());
            lane.check_answer(scene, "notified in another width")?;
        }
    }
    Ok(lanes.bring_up(scene)?)
}

fn in_one_memory(scene: &mut Scene<'_>) -> Outcome {
    let mut lanes = Lanes::new(scene)?;
    for _ in 0..4 {
        // The same rings.
        negotiate(scene)?;
        let (second, _) = lanes.split();
        second.set_up(&mut scene.driver)?;
        let areas = second.queue.areas();
        scene.driver.describe(QUEUE_SIZE.into(), areas);
        let ready = Seen::Value(scene.driver.set_ready(1).into());
        scene.check_also("QueueReady", 0, ready, Seen::Value(1))?;
        start(scene);
        second.offer(MANY);
        for queue in [0, 1, 0, 1] {
            scene.driver.kick(queue);
        }
        rest(scene);

        // What the device writes for the second queue, which is a small one, is what it reads of the
        // first: the available ring.
        const SMALL: u16 = 4;
        const { assert!(used_ring_size(SMALL) <= avail_ring_size(QUEUE_SIZE)) };
        negotiate(scene)?;
        set_up_first(scene)?;
        let [desc, driver, _] = areas;
        let device = scene.driver.queue.areas()[1].next_multiple_of(4);
        scene
            .driver
            .describe_queue(1, SMALL.into(), [desc, driver, device]);
        let ready = Seen::Value(scene.driver.set_ready(1).into());
        scene.check_also("QueueReady", 1, ready, Seen::Value(1))?;
        second.queue.rewind();
        second.offer(1);
        start(scene);
        for queue in [1, 0, 1, 0] {
            scene.driver.kick(queue);
        }
        rest(scene);

        lanes.bring_up(scene)?;
        lanes.check_serve(scene)?;
    }
    Ok(())
}

/// Lets some moments pass.
fn rest(scene: &mut Scene<'_>) {
    for _ in 0..WATCH {
        scene.driver.transport.pause();
    }
}

fn stopped_in_use(scene: &mut Scene<'_>) -> Outcome {
    let mut lanes = Lanes::new(scene)?;
    for round in 0..8 {
        lanes.bring_up(scene)?;
        // No queue can be reset by itself, so that this does nothing.
        scene.driver.transport.write(Register::QueueSel, 1);
        scene.driver.transport.write(Register::QueueReset, 1);
        settle(scene.driver.transport);
        let reset = scene.driver.transport.read(Register::QueueReset);
        scene.check_also(
            "QueueReset",
            round,
            Seen::Value(reset.into()),
            Seen::Value(0),
        )?;
        lanes.check_serve(scene)?;

        let (second, others) = lanes.split();
        second.offer(MANY);
        scene.driver.kick(1);
        scene.driver.transport.write(Register::QueueSel, 1);
        let ready = Seen::Value(scene.driver.set_ready(0).into());
        scene.check_also("QueueReady", round, ready, Seen::Value(0))?;
        second.wipe();
        scene.driver.kick(1);
        // It stays so until the device is reset.
        let ready = Seen::Value(scene.driver.set_ready(1).into());
        scene.check_also("QueueReady", round, ready, Seen::Value(0))?;
        scene.driver.kick(1);
        for other in &mut *others {
            other.check_serves(scene)?;
        }
        rest(scene);
        let rests = second.is_wiped();
        scene.check_words("the queue", round, rests, "rests", "writes")?;
        scene.finish(true)?;
    }
    Ok(lanes.bring_up(scene)?)
}

fn broken_alone(scene: &mut Scene<'_>) -> Outcome {
    let mut lanes = Lanes::new(scene)?;
    for jump in [QUEUE_SIZE + 1, 1000, u16::MAX] {
        lanes.bring_up(scene)?;
        let (second, others) = lanes.split();
        second.queue.set_avail_idx(jump);
        scene.driver.kick(1);
        wait_needs_reset(scene)?;
        for other in &mut *others {
            other.check_serves(scene)?;
        }
        // So is the first, and the one that is broken is not looked at any more.
        first_serves(scene)?;
        second.queue.rewind();
        second.wipe();
        second.queue.set_avail_idx(1);
        scene.driver.kick(1);
        rest(scene);
        let rests = second.is_wiped();
        scene.check_words("the queue", jump.into(), rests, "rests", "writes")?;
        lanes.bring_up(scene)?;
        lanes.check_serve(scene)?;
    }
    Ok(())
}

/// Sees that the first queue is served, of a device that needs a reset.
fn first_serves(scene: &mut Scene<'_>) -> Outcome {
    let seen = scene.driver.queue.used_seen;
    scene.set_header(spec::block::request_type::IN, 0);
    scene.set_chain(0, &scene.read_chain());
    scene.driver.queue.offer(0);
    scene.driver.kick(0);
    scene.driver.wait_for(|queue| queue.used_idx() != seen)?;
    let answer = scene.answer(0)?;
    scene.check(
        "the first queue",
        0,
        answer,
        super::seen::read_of(super::SECTOR),
    )
}

fn reset_in_flight(scene: &mut Scene<'_>) -> Outcome {
    let mut lanes = Lanes::new(scene)?;
    for round in 0..8 {
        lanes.bring_up(scene)?;
        for lane in lanes.all() {
            lane.offer(MANY);
            scene.driver.kick(lane.index.into());
        }
        scene.driver.transport.reset()?;
        for lane in lanes.all() {
            lane.wipe();
            scene.driver.kick(lane.index.into());
        }
        rest(scene);
        let at_rest = lanes.all().iter().all(super::lanes::Lane::is_wiped);
        scene.check_words("the memory", round, at_rest, "untouched", "written")?;
    }
    Ok(lanes.bring_up(scene)?)
}
