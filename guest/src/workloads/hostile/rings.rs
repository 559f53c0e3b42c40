//! What a hostile guest does to the rings: to their indices, to what they hold, to the memory that
//! they are, and to a device that works in them.

use spec::block::{HEADER_SIZE, RequestHeader, request_type, status};
use spec::mmio::{DeviceStatus, InterruptStatus};
use spec::queue::{self, RING_IDX, avail_entry};

use super::scene::{QUEUE_SIZE, SECTOR, Scene, readable, set_table, writable};
use super::seen::{OK, Outcome, Seen, read_of};
use super::yard::{UNTOUCHED, is_filled};
use super::{ALL, CHAINS, Case, DiskKind, INDIRECT, Mode, Run};

const fn case(
    name: &'static str,
    hazard: &'static str,
    required: &'static str,
    modes: &'static [Mode],
    run: fn(&mut Scene<'_>) -> Outcome,
) -> Case {
    Case {
        name,
        hazard,
        required,
        disk: DiskKind::Any,
        modes,
        resets: false,
        run: Run::Device(run),
    }
}

const fn with_reset(case: Case) -> Case {
    Case {
        resets: true,
        ..case
    }
}

pub(super) const CASES: [Case; 6] = [
    case(
        "head-out-of-range",
        "a head index beyond the queue",
        "1 used entry, that of the next read",
        ALL,
        head_out_of_range,
    ),
    case(
        "head-twice",
        "the same head twice while the first is in flight",
        "1 used entry",
        ALL,
        head_twice,
    ),
    with_reset(case(
        "avail-idx-jump",
        "`avail.idx` jumps ahead by more than the queue size",
        "NEEDS_RESET, and a configuration change interrupt",
        ALL,
        avail_idx_jump,
    )),
    Case {
        disk: DiskKind::Writable,
        ..with_reset(case(
            "refill-while-draining",
            "the guest refills the ring while the device drains it",
            "all served",
            INDIRECT,
            refill,
        ))
    },
    with_reset(case(
        "buffer-over-rings",
        "a buffer that overlaps the rings themselves",
        "a device that a reset brings back",
        CHAINS,
        buffer_over_rings,
    )),
    with_reset(case(
        "reset-in-flight",
        "reset while I/O is in flight",
        "nothing written after it",
        CHAINS,
        reset_in_flight,
    )),
];

fn head_out_of_range(scene: &mut Scene<'_>) -> Outcome {
    for head in [QUEUE_SIZE, QUEUE_SIZE + 1, 0x8000, u16::MAX] {
        let before = scene.driver.queue.used_idx();
        scene.driver.queue.offer(head);
        scene.driver.kick(0);
        scene.finish(false)?;
        check_used_since(scene, before, head.into())?;
    }
    Ok(())
}

/// Sees that one chain has come back since `used.idx` was `before`.
fn check_used_since(scene: &mut Scene<'_>, before: u16, of: u64) -> Outcome {
    let entries = scene.driver.queue.used_idx().wrapping_sub(before);
    scene.check(
        "the entries",
        of,
        Seen::Value(entries.into()),
        Seen::Value(1),
    )
}

/// Both are there before the device can see either.
fn head_twice(scene: &mut Scene<'_>) -> Outcome {
    for times in [2, 3] {
        scene.set_header(request_type::IN, 0);
        scene.set_chain(0, &scene.read_chain());
        let before = scene.driver.queue.used_idx();
        let queue = &mut scene.driver.queue;
        for _ in 0..times {
            queue.set_avail_entry(queue.avail_idx, 0);
            queue.avail_idx = queue.avail_idx.wrapping_add(1);
        }
        queue.set_avail_idx(queue.avail_idx);
        scene.driver.kick(0);
        let answer = scene.answer(0)?;
        scene.check("times", times, answer, read_of(SECTOR))?;
        scene.finish(false)?;
        let entries = scene.driver.queue.used_idx().wrapping_sub(before + 1);
        scene.check("times", times, Seen::Value(entries.into()), Seen::Value(1))?;
    }
    Ok(())
}

fn avail_idx_jump(scene: &mut Scene<'_>) -> Outcome {
    for jump in [QUEUE_SIZE + 1, 1000, 0x8000, u16::MAX] {
        scene.finish(true)?;
        let used = scene.driver.queue.used_idx();
        scene.driver.transport.take_events();
        let idx = scene.driver.queue.avail_idx.wrapping_add(jump);
        scene.driver.queue.set_avail_idx(idx);
        scene.driver.kick(0);
        scene.driver.wait_events(InterruptStatus::CONFIG_CHANGE)?;
        let live = DeviceStatus::all() - DeviceStatus::FAILED;
        let status = Seen::Value(scene.driver.transport.status().bits().into());
        let expected = Seen::Value(live.bits().into());
        scene.check("the status", jump.into(), status, expected)?;

        // The rings are not looked at any more, whatever is in them.
        scene.driver.queue.set_avail_idx(used);
        scene.driver.queue.avail_idx = used;
        scene.set_header(request_type::IN, 0);
        scene.set_chain(0, &scene.read_chain());
        scene.driver.queue.offer(0);
        scene.driver.kick(0);
        scene.driver.transport.reset()?;
        let entries = Seen::Value(scene.driver.queue.used_idx().into());
        scene.check_also("used.idx", jump.into(), entries, Seen::Value(used.into()))?;
        scene.bring_up()?;
    }
    Ok(())
}

/// One CPU alone can do it: every read of the first turn writes the available ring, and makes one
/// more chain available in it. So there are more chains in one drain than the queue is long.
fn refill(scene: &mut Scene<'_>) -> Outcome {
    /// Chains that refill, one for each sector that is known; behind them as many that do not.
    const REFILLS: u16 = super::KNOWN as u16;
    const SIZE: u16 = 2 * REFILLS;
    const TABLE: usize = 4 * queue::DESC_SIZE as usize;
    scene.resize(SIZE)?;
    let headers = scene.yard.alloc(usize::from(SIZE) * HEADER_SIZE)?;
    let statuses = scene.yard.alloc(usize::from(SIZE))?;
    let tables = scene.yard.alloc(usize::from(SIZE) * TABLE)?;
    let images = scene.yard.alloc(usize::from(REFILLS) * SECTOR)?;

    // What the ring is after each of the chains that refill.
    let queue = scene.driver.queue;
    for done in 0..REFILLS {
        let mut image = [0; SECTOR];
        let mut put = |offset: u64, value: u16| {
            image[offset as usize..][..2].copy_from_slice(&value.to_le_bytes());
        };
        put(RING_IDX, SIZE + done + 1);
        for slot in 0..SIZE {
            let head = if slot <= done { slot + REFILLS } else { slot };
            put(avail_entry(slot, SIZE), head);
        }
        images.write(usize::from(done) * SECTOR, &image);
    }
    // They are written to the disk, and read back by the chains.
    let answer = scene.request(request_type::OUT, 0, &[readable(images)])?;
    scene.check("the images", 0, answer, OK)?;
    scene.bring_up()?;

    for head in 0..SIZE {
        let i = usize::from(head);
        let header = headers.part(i * HEADER_SIZE, HEADER_SIZE);
        let request = RequestHeader {
            request_type: request_type::IN,
            sector: u64::from(head) % u64::from(REFILLS),
        };
        header.write(0, &request.to_bytes());
        let (header, status) = (readable(header), writable(statuses.part(i, 1)));
        let rest = SECTOR - queue.driver.len();
        let data = [queue.driver, scene.data.part(0, rest)].map(writable);
        let chain = [header, data[0], data[1], status];
        let chain = if head < REFILLS {
            &chain[..]
        } else {
            &[header, status]
        };
        let table = tables.part(i * TABLE, TABLE);
        set_table(table, chain);
        let len = chain.len() as u32 * queue::DESC_SIZE as u32;
        queue.set_desc(head, super::scene::indirect(table.addr(), len));
        scene.driver.queue.set_avail_entry(head, head);
    }
    scene.driver.queue.set_avail_idx(SIZE);
    scene.driver.kick(0);
    const SERVED: u16 = SIZE + REFILLS;
    scene.driver.wait_for(|queue| queue.used_idx() >= SIZE)?;
    // A device that took all of the first turn before it served any has not seen what came later.
    scene.driver.kick(0);
    scene.driver.wait_for(|queue| queue.used_idx() == SERVED)?;
    // The used ring has gone around: the first of them have been overwritten by the last. Those that
    // refill have come back once, the others twice.
    let mut times = [0; SIZE as usize];
    for turn in REFILLS..SERVED {
        let used = queue.used_entry(turn);
        let refills = used.id < u32::from(REFILLS);
        let len = if refills { SECTOR as u64 + 1 } else { 1 };
        let (seen, expected) = (Seen::Value(used.len.into()), Seen::Value(len));
        scene.check("used.len", used.id.into(), seen, expected)?;
        let known = times.get_mut(used.id as usize).map(|times| {
            *times += 1;
            *times <= if refills { 1 } else { 2 }
        });
        let sound = known == Some(true);
        scene.check_words(
            "the head",
            used.id.into(),
            sound,
            "one in flight",
            "another",
        )?;
    }
    let served = is_filled(statuses, status::OK);
    scene.check_words("the statuses", 0, served, "OK", "not OK")?;
    (scene.driver.queue.avail_idx, scene.driver.queue.used_seen) = (SERVED, SERVED);
    scene.restore()?;
    let entries = scene.driver.queue.used_idx().wrapping_sub(1);
    scene.check(
        "the chains",
        0,
        Seen::Value(entries.into()),
        Seen::Value(SERVED.into()),
    )
}

/// The device reads from the disk into each of the three areas; then it may find anything there.
fn buffer_over_rings(scene: &mut Scene<'_>) -> Outcome {
    let queue = scene.driver.queue;
    for (of, area) in (0..).zip([queue.desc, queue.driver, queue.device]) {
        let rest = scene.data.part(0, SECTOR - area.len());
        rest.fill(UNTOUCHED);
        scene.set_header(request_type::IN, of);
        let [header, _, status] = scene.read_chain();
        scene.set_chain(0, &[header, writable(area), writable(rest), status]);
        scene.status.fill(UNTOUCHED);
        scene.driver.queue.offer(0);
        scene.driver.kick(0);
        let status = scene.status;
        scene.driver.wait_for(|_| !is_filled(status, UNTOUCHED))?;
        let read = is_filled(status, status::OK) && !is_filled(rest, UNTOUCHED);
        scene.check_words("the area", of, read, "overwritten", "not overwritten")?;
        scene.bring_up()?;
        scene.finish(true)?;
        scene.bring_up()?;
    }
    Ok(())
}

/// As many reads of all that is known as there is room for, and a reset at once.
fn reset_in_flight(scene: &mut Scene<'_>) -> Outcome {
    let room = scene.yard.alloc(scene.disk.contents.len())?;
    scene.set_header(request_type::IN, 0);
    let [header, _, status] = scene.read_chain();
    let step = if scene.mode.indirect { 1 } else { 3 };
    for round in 0..8 {
        for head in (0..QUEUE_SIZE - 2).step_by(step) {
            scene.set_chain(head, &[header, writable(room), status]);
            scene.driver.queue.offer(head);
        }
        scene.driver.kick(0);
        scene.driver.transport.reset()?;
        let memory = [room, scene.status, scene.driver.queue.device];
        memory.into_iter().for_each(|region| region.fill(UNTOUCHED));
        for _ in 0..10 {
            scene.driver.kick(0);
            scene.driver.transport.pause();
        }
        let untouched = memory
            .into_iter()
            .all(|region| is_filled(region, UNTOUCHED));
        scene.check_words("the memory", round, untouched, "untouched", "written")?;
        scene.bring_up()?;
    }
    Ok(())
}
