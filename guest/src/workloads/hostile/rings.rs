//! What a hostile guest does to the rings and their indices.

use spec::mmio::{DeviceStatus, InterruptStatus};

use super::scene::{QUEUE_SIZE, Scene};
use super::seen::{Outcome, Seen};
use super::{ALL, Case, DiskKind, Mode, Run};

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

pub(super) const CASES: [Case; 2] = [
    case(
        "head-out-of-range",
        "a head index beyond the queue",
        "1 used entry, that of the next read",
        ALL,
        head_out_of_range,
    ),
    with_reset(case(
        "avail-idx-jump",
        "`avail.idx` jumps ahead by more than the queue size",
        "NEEDS_RESET, and a configuration change interrupt",
        ALL,
        avail_idx_jump,
    )),
];

fn head_out_of_range(scene: &mut Scene<'_>) -> Outcome {
    for head in [QUEUE_SIZE, QUEUE_SIZE + 1, 0x8000, u16::MAX] {
        let before = scene.driver.queue.used_idx();
        scene.driver.queue.offer(head);
        scene.driver.kick(0);
        scene.finish(false)?;
        let entries = scene.driver.queue.used_idx().wrapping_sub(before);
        let entries = Seen::Value(entries.into());
        scene.check("the head", head.into(), entries, Seen::Value(1))?;
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
        scene.check(
            "the status",
            jump.into(),
            status,
            Seen::Value(live.bits().into()),
        )?;

        // The rings are not looked at any more, whatever is in them.
        scene.driver.queue.set_avail_idx(used);
        scene.driver.kick(0);
        scene.bring_up()?;
    }
    Ok(())
}
