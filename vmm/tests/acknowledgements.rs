//! That no interrupt is lost, and none stays pending, where acknowledgements wait in a ring
//! (`registers=mapped`): all schedules of workers, handlers, exits and resets, step by step. What is
//! one step here is one access to what they share there: `InterruptState::notify`, `AckRing::apply`,
//! KVM's side of the ring, and the handler of Linux (`vm_interrupt`). What a worker publishes is seen
//! by the others at any time after, and at the latest where the worker has a full fence.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;

/// Bits of InterruptStatus.
const USED: u8 = 1;
const CONFIG: u8 = 2;

/// What is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Design {
    /// What is built: a worker publishes, applies what waits, sets the bit and raises the edge; who
    /// takes entries out leaves them in the ring, and has the lock, until they are applied.
    Built,
    /// The worker applies nothing.
    WorkerAppliesNothing,
    /// The worker applies what waits before it publishes.
    AppliesBeforePublishing,
    /// The worker applies what waits after it has set the bit.
    AppliesAfterSetting,
    /// The worker looks into the ring without a fence before.
    LooksWithoutFence,
    /// Who takes entries out takes them first and then applies them, and keeps nobody waiting.
    TakesBeforeApplying,
}

/// What a device does, and what its guest makes of it.
struct Scenario {
    /// For each device, for each of its lives (from one reset to the next), the events.
    lives: &'static [&'static [&'static [u8]]],
    /// How many acknowledgements have room to wait: where there is none each exits, as with
    /// `registers=trap`.
    room: usize,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Ack {
    device: usize,
    bits: u8,
}

/// Someone who takes entries out of the ring: how many, and how many of them are applied.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Drain {
    taken: Vec<Ack>,
    applied: usize,
}

/// Where a thread is in applying what waits.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
enum Applying {
    #[default]
    No,
    Yes(Drain),
    Done,
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
enum WorkerAt {
    #[default]
    Publish,
    Apply,
    SetBit,
    RaiseEdge,
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
enum HandlerAt {
    #[default]
    Idle,
    ReadStatus,
    /// With what it has read.
    Acknowledge(u8),
    /// The same, where the ring was full: the write exits.
    Exit(u8),
    Look(u8),
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
enum DriverAt {
    #[default]
    Drives,
    /// The write of 0 to Status has left KVM_RUN.
    Resets,
    /// So has that of DRIVER_OK.
    Revives,
}

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
struct Device {
    life: usize,
    /// How many events of this life have been told of.
    told: usize,
    worker: WorkerAt,
    worker_applying: Applying,
    /// How much the worker has stored of each kind, how much of that there is to see, and how much
    /// the handler has seen.
    stored: [u8; 2],
    published: [u8; 2],
    seen: [u8; 2],
    status: u8,
    edge: bool,
    handler: HandlerAt,
    handler_applying: Applying,
    driver: DriverAt,
    driver_applying: Applying,
}

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
struct State {
    devices: Vec<Device>,
    ring: Vec<Ack>,
    locked: bool,
    /// A vCPU that leaves KVM_RUN for any other reason.
    exit: Applying,
}

fn kind(event: u8) -> usize {
    usize::from(event == CONFIG)
}

impl State {
    fn new(scenario: &Scenario) -> Self {
        Self {
            devices: vec![Device::default(); scenario.lives.len()],
            ..Self::default()
        }
    }

    /// Moves on who is `applying` what waits: the state after one step of it, unless another has the
    /// lock.
    fn apply(
        &self,
        design: Design,
        who: fn(&mut Self, usize) -> &mut Applying,
        at: usize,
    ) -> Option<Self> {
        let mut next = self.clone();
        let applying = who(&mut next, at).clone();
        let built = design != Design::TakesBeforeApplying;
        let after = match applying {
            Applying::No if self.ring.is_empty() => Applying::Done,
            Applying::No if built && self.locked => return None,
            Applying::No => {
                next.locked = built;
                let taken = next.ring.clone();
                if !built {
                    next.ring.clear();
                }
                Applying::Yes(Drain { taken, applied: 0 })
            }
            Applying::Yes(mut drain) => match drain.taken.get(drain.applied) {
                Some(ack) => {
                    next.devices[ack.device].status &= !ack.bits;
                    drain.applied += 1;
                    Applying::Yes(drain)
                }
                None => {
                    if built {
                        next.ring.drain(..drain.taken.len());
                        next.locked = false;
                    }
                    Applying::Done
                }
            },
            Applying::Done => return None,
        };
        *who(&mut next, at) = after;
        Some(next)
    }

    /// All that can happen next, with who does it.
    fn steps(&self, design: Design, scenario: &Scenario) -> Vec<(String, Self)> {
        let mut steps = Vec::new();
        for at in 0..self.devices.len() {
            let worker = self
                .worker(design, scenario, at)
                .map(|next| ("worker", next));
            let handler = self
                .handler(design, scenario, at)
                .map(|next| ("handler", next));
            let driver = self
                .driver(design, scenario, at)
                .map(|next| ("driver", next));
            let all = [worker, handler, driver].into_iter().flatten();
            steps.extend(all.map(|(who, next)| (format!("{who} {at}"), next)));
            if self.devices[at].edge && self.devices[at].handler == HandlerAt::Idle {
                let mut next = self.clone();
                next.devices[at].edge = false;
                next.devices[at].handler = HandlerAt::ReadStatus;
                steps.push((format!("interrupt {at}"), next));
            }
            if self.devices[at].stored != self.devices[at].published {
                let mut next = self.clone();
                next.devices[at].published = next.devices[at].stored;
                steps.push((format!("seen of {at}"), next));
            }
        }
        if !self.ring.is_empty() || self.exit != Applying::No {
            let exit = self.apply(design, |state, _| &mut state.exit, 0);
            steps.extend(exit.map(|mut next| {
                if next.exit == Applying::Done {
                    next.exit = Applying::No;
                }
                ("exit".to_owned(), next)
            }));
        }
        steps
    }

    fn worker(&self, design: Design, scenario: &Scenario, at: usize) -> Option<Self> {
        let device = &self.devices[at];
        let event = *scenario.lives[at][device.life].get(device.told)?;
        if device.worker == WorkerAt::Publish && device.driver != DriverAt::Drives {
            return None;
        }
        let order: &[WorkerAt] = match design {
            Design::Built | Design::LooksWithoutFence | Design::TakesBeforeApplying => &[
                WorkerAt::Publish,
                WorkerAt::Apply,
                WorkerAt::SetBit,
                WorkerAt::RaiseEdge,
            ],
            Design::WorkerAppliesNothing => {
                &[WorkerAt::Publish, WorkerAt::SetBit, WorkerAt::RaiseEdge]
            }
            Design::AppliesBeforePublishing => &[
                WorkerAt::Apply,
                WorkerAt::Publish,
                WorkerAt::SetBit,
                WorkerAt::RaiseEdge,
            ],
            Design::AppliesAfterSetting => &[
                WorkerAt::Publish,
                WorkerAt::SetBit,
                WorkerAt::Apply,
                WorkerAt::RaiseEdge,
            ],
        };
        let here = order.iter().position(|step| *step == device.worker);
        let here = here.unwrap_or(0);
        let is_seen = device.stored == device.published;
        let mut next = self.clone();
        match order[here] {
            WorkerAt::Publish => next.devices[at].stored[kind(event)] += 1,
            WorkerAt::Apply if !is_seen && design != Design::LooksWithoutFence => return None,
            WorkerAt::Apply => {
                next = self.apply(
                    design,
                    |state, at| &mut state.devices[at].worker_applying,
                    at,
                )?;
                if next.devices[at].worker_applying != Applying::Done {
                    return Some(next);
                }
                next.devices[at].worker_applying = Applying::No;
            }
            // Another thread may set a bit at the same time: to do so is a fence, too.
            WorkerAt::SetBit if !is_seen => return None,
            WorkerAt::SetBit => next.devices[at].status |= event,
            WorkerAt::RaiseEdge => {
                next.devices[at].edge = true;
                next.devices[at].told += 1;
            }
        }
        next.devices[at].worker = order[(here + 1) % order.len()];
        Some(next)
    }

    fn handler(&self, design: Design, scenario: &Scenario, at: usize) -> Option<Self> {
        let mut next = self.clone();
        let device = &mut next.devices[at];
        let after = match device.handler {
            HandlerAt::Idle => return None,
            // Nothing for this device: it is not looked at.
            HandlerAt::ReadStatus if device.status == 0 => HandlerAt::Idle,
            HandlerAt::ReadStatus => HandlerAt::Acknowledge(device.status),
            HandlerAt::Acknowledge(bits) if self.ring.len() < scenario.room => {
                next.ring.push(Ack { device: at, bits });
                HandlerAt::Look(bits)
            }
            HandlerAt::Acknowledge(bits) => HandlerAt::Exit(bits),
            HandlerAt::Exit(bits) => {
                next = self.apply(
                    design,
                    |state, at| &mut state.devices[at].handler_applying,
                    at,
                )?;
                let device = &mut next.devices[at];
                if device.handler_applying != Applying::Done {
                    return Some(next);
                }
                device.handler_applying = Applying::No;
                device.status &= !bits;
                HandlerAt::Look(bits)
            }
            HandlerAt::Look(bits) => {
                for event in [USED, CONFIG] {
                    if bits & event != 0 {
                        device.seen[kind(event)] = device.published[kind(event)];
                    }
                }
                HandlerAt::Idle
            }
        };
        next.devices[at].handler = after;
        Some(next)
    }

    /// A driver that resets its device, at any time, and brings it up again.
    fn driver(&self, design: Design, scenario: &Scenario, at: usize) -> Option<Self> {
        let mut next = self.clone();
        let device = &self.devices[at];
        if device.driver == DriverAt::Drives {
            let another = device.life + 1 < scenario.lives[at].len();
            next.devices[at].driver = DriverAt::Resets;
            return another.then_some(next);
        }
        if device.driver_applying != Applying::Done {
            return self.apply(
                design,
                |state, at| &mut state.devices[at].driver_applying,
                at,
            );
        }
        // A reset waits until the worker is done with what it has begun.
        if device.driver == DriverAt::Resets && self.is_at_work(design, at) {
            return None;
        }
        let device = &mut next.devices[at];
        device.driver_applying = Applying::No;
        device.driver = match device.driver {
            DriverAt::Resets => {
                (device.life, device.told) = (device.life + 1, 0);
                (device.stored, device.published, device.seen) = ([0; 2], [0; 2], [0; 2]);
                device.status = 0;
                DriverAt::Revives
            }
            _ => DriverAt::Drives,
        };
        Some(next)
    }

    fn is_at_work(&self, design: Design, at: usize) -> bool {
        let device = &self.devices[at];
        let first = match design {
            Design::AppliesBeforePublishing => WorkerAt::Apply,
            _ => WorkerAt::Publish,
        };
        device.worker != first || device.worker_applying != Applying::No
    }

    /// The acknowledgements that are still to be applied.
    fn waiting(&self) -> Vec<Ack> {
        let all = self.devices.iter().flat_map(|device| {
            [
                &device.worker_applying,
                &device.handler_applying,
                &device.driver_applying,
            ]
        });
        let mut waiting = Vec::new();
        let mut left_in_ring = 0;
        for applying in all.chain([&self.exit]) {
            if let Applying::Yes(drain) = applying {
                waiting.extend(&drain.taken[drain.applied..]);
                if self.locked {
                    left_in_ring = drain.taken.len();
                }
            }
        }
        waiting.extend(&self.ring[left_in_ring..]);
        waiting
    }

    /// What is wrong with this state, if anything is.
    fn fault(&self, is_end: bool) -> Option<String> {
        let waiting = self.waiting();
        for (at, device) in self.devices.iter().enumerate() {
            if is_end && device.seen != device.published {
                return Some(format!("device {at} has told of what nobody looks at"));
            }
            // A bit that is set has someone who will take it away.
            for bit in [USED, CONFIG] {
                let acknowledged = waiting
                    .iter()
                    .any(|ack| ack.device == at && ack.bits & bit != 0);
                let handled = match device.handler {
                    HandlerAt::ReadStatus => true,
                    HandlerAt::Acknowledge(bits) | HandlerAt::Exit(bits) => bits & bit != 0,
                    HandlerAt::Idle | HandlerAt::Look(_) => false,
                };
                let is_telling = matches!(device.worker, WorkerAt::Apply | WorkerAt::RaiseEdge);
                let taken_away = device.edge || is_telling || acknowledged || handled;
                if device.status & bit != 0 && !taken_away {
                    return Some(format!("device {at} has bit {bit} set for ever"));
                }
            }
        }
        None
    }
}

/// Goes through all schedules, the shortest first: how many states there are, or the first schedule
/// that ends in a fault.
fn explore(design: Design, scenario: &Scenario) -> Result<usize, String> {
    let start = State::new(scenario);
    let mut number = HashMap::from([(start.clone(), 0)]);
    let mut found = vec![(start, 0, String::new())];
    let mut at = 0;
    while let Some((state, ..)) = found.get(at) {
        let steps = state.steps(design, scenario);
        if let Some(fault) = state.fault(steps.is_empty()) {
            let mut schedule = vec![fault];
            while at > 0 {
                let (_, from, step) = &found[at];
                schedule.push(step.clone());
                at = *from;
            }
            schedule.reverse();
            return Err(schedule.join(", "));
        }
        for (step, next) in steps {
            if !number.contains_key(&next) {
                number.insert(next.clone(), found.len());
                found.push((next, at, step));
            }
        }
        at += 1;
    }
    Ok(found.len())
}

const ONE: &[&[&[u8]]] = &[&[&[USED, CONFIG, USED]]];
const CONFIGS: &[&[&[u8]]] = &[&[&[CONFIG, CONFIG, USED]]];
const TWO: &[&[&[u8]]] = &[&[&[USED, CONFIG]], &[&[USED, USED]]];
const RESET: &[&[&[u8]]] = &[&[&[USED, CONFIG], &[USED, CONFIG]]];
const RESET_OF_ONE: &[&[&[u8]]] = &[&[&[USED], &[USED]], &[&[USED]]];

#[test]
fn no_interrupt_is_lost_and_no_bit_stays_set_in_any_schedule() {
    for (name, lives) in [
        ("one device", ONE),
        ("a device that changes twice", CONFIGS),
        ("two devices", TWO),
        ("a reset", RESET),
        ("a reset beside another device", RESET_OF_ONE),
    ] {
        for room in 0..=2 {
            let scenario = Scenario { lives, room };
            match explore(Design::Built, &scenario) {
                Ok(states) => println!("{name}, room for {room}: {states} states"),
                Err(schedule) => panic!("{name}, room for {room}: {schedule}"),
            }
        }
    }
}

#[test]
fn each_part_of_the_order_is_needed() {
    for design in [
        Design::WorkerAppliesNothing,
        Design::AppliesBeforePublishing,
        Design::AppliesAfterSetting,
        Design::LooksWithoutFence,
        Design::TakesBeforeApplying,
    ] {
        let scenario = Scenario {
            lives: ONE,
            room: 2,
        };
        let schedule = explore(design, &scenario).unwrap_err();
        println!("{design:?}: {schedule}");
        assert!(
            schedule.ends_with("nobody looks at"),
            "{design:?}: {schedule}"
        );
    }
}
