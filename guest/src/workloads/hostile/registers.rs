//! What a hostile guest does to the registers, and to addresses where there are none.

use spec::mmio::Register;

use super::scene::Scene;
use super::seen::{Outcome, Seen};
use super::{Case, DIRECT, DiskKind, Run, Stage};
use crate::virtio::Width;

const fn case(
    name: &'static str,
    hazard: &'static str,
    required: &'static str,
    resets: bool,
    run: Run,
) -> Case {
    Case {
        name,
        hazard,
        required,
        disk: DiskKind::Any,
        modes: DIRECT,
        resets,
        run,
    }
}

pub(super) const CASES: [Case; 2] = [
    case(
        "queue-size",
        "queue size 0, no power of two, above QueueNumMax, or of more than 16 bits",
        "QueueReady 0",
        true,
        Run::Device(queue_size),
    ),
    case(
        "no-device-port",
        "a port where nothing is",
        "all ones",
        false,
        Run::Machine(no_device_port),
    ),
];

/// Ports where no machine has anything.
const NO_PORTS: [u16; 3] = [0x0900, 0x7ff0, 0xfff0];

/// After a size that is sound, which must not stand.
fn queue_size(scene: &mut Scene<'_>) -> Outcome {
    let max = scene.disk.queue_num_max;
    let (sound, areas) = (scene.driver.queue.size, scene.driver.queue.areas());
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

fn no_device_port(stage: &mut Stage<'_, '_>) -> Outcome {
    for port in NO_PORTS {
        for width in [Width::One, Width::Two, Width::Four] {
            stage.machine.write_port(port, width, 0);
            let seen = Seen::Value(stage.machine.read_port(port, width).into());
            let expected = Seen::Value(width.ones());
            stage.checks.check("port", port.into(), seen, expected)?;
        }
    }
    Ok(())
}
