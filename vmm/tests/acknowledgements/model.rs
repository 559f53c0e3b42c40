//! What workers, handlers, exits and resets share of interrupts, as states and the steps between them.
//! Which schedules there are, and what of them must be so, is tried out beside this.

/// Bits of InterruptStatus.
pub const USED: u8 = 1;
pub const CONFIG: u8 = 2;

/// What is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
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
    /// The worker sets the bit in two steps, a load and a store.
    SetsBitInTwoSteps,
}

/// What workers tell of in one life of a device (from one reset to the next): the events of each.
pub type Life = &'static [&'static [u8]];

/// What devices do, and what their guest makes of it.
pub struct Scenario {
    /// The lives of each device, all with as many workers: one for each of its queues.
    pub lives: &'static [&'static [Life]],
    /// How many acknowledgements have room to wait: where there is none each exits, as with
    /// `registers=trap`.
    pub room: usize,
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
    /// The same, with whose queue is looked at next.
    Look(u8, usize),
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
struct Worker {
    /// How many events of this life it has told of.
    told: usize,
    at: WorkerAt,
    applying: Applying,
    /// InterruptStatus as it has loaded it, where it is to store it.
    loaded: Option<u8>,
    /// How much it has stored of each kind, how much of that there is to see, and how much the
    /// handler has seen.
    stored: [u8; 2],
    published: [u8; 2],
    seen: [u8; 2],
}

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
struct Device {
    life: usize,
    workers: Vec<Worker>,
    status: u8,
    edge: bool,
    handler: HandlerAt,
    handler_applying: Applying,
    driver: DriverAt,
    driver_applying: Applying,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct State {
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
    /// The beginning.
    pub fn new(scenario: &Scenario) -> Self {
        let device = |lives: &&[Life]| Device {
            workers: vec![Worker::default(); lives[0].len()],
            ..Device::default()
        };
        Self {
            devices: scenario.lives.iter().map(device).collect(),
            ..Self::default()
        }
    }

    /// Moves on who is `applying` what waits: the state after one step of it, unless another has the
    /// lock.
    fn apply(&self, design: Design, who: impl Fn(&mut Self) -> &mut Applying) -> Option<Self> {
        let mut next = self.clone();
        let applying = who(&mut next).clone();
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
        *who(&mut next) = after;
        Some(next)
    }

    /// All that can happen next, with who does it.
    pub fn steps(&self, design: Design, scenario: &Scenario) -> Vec<(String, Self)> {
        let mut steps = Vec::new();
        for at in 0..self.devices.len() {
            for worker in 0..self.devices[at].workers.len() {
                let next = self.worker(design, scenario, (at, worker));
                steps.extend(next.map(|next| (format!("worker {worker} of {at}"), next)));
                let told = &self.devices[at].workers[worker];
                if told.stored != told.published {
                    let mut next = self.clone();
                    next.devices[at].workers[worker].published = told.stored;
                    steps.push((format!("seen of worker {worker} of {at}"), next));
                }
            }
            let handler = self.handler(design, scenario, at);
            let driver = self.driver(design, scenario, at);
            let both = [("handler", handler), ("driver", driver)];
            let both = both
                .into_iter()
                .filter_map(|(who, next)| Some((who, next?)));
            steps.extend(both.map(|(who, next)| (format!("{who} {at}"), next)));
            if self.devices[at].edge && self.devices[at].handler == HandlerAt::Idle {
                let mut next = self.clone();
                next.devices[at].edge = false;
                next.devices[at].handler = HandlerAt::ReadStatus;
                steps.push((format!("interrupt {at}"), next));
            }
        }
        if !self.ring.is_empty() || self.exit != Applying::No {
            let exit = self.apply(design, |state| &mut state.exit);
            steps.extend(exit.map(|mut next| {
                if next.exit == Applying::Done {
                    next.exit = Applying::No;
                }
                ("exit".to_owned(), next)
            }));
        }
        steps
    }

    fn worker(
        &self,
        design: Design,
        scenario: &Scenario,
        (at, worker): (usize, usize),
    ) -> Option<Self> {
        let device = &self.devices[at];
        let us = &device.workers[worker];
        let event = *scenario.lives[at][device.life][worker].get(us.told)?;
        if us.at == WorkerAt::Publish && device.driver != DriverAt::Drives {
            return None;
        }
        let order: &[WorkerAt] = match design {
            Design::Built
            | Design::LooksWithoutFence
            | Design::TakesBeforeApplying
            | Design::SetsBitInTwoSteps => &[
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
        let here = order.iter().position(|step| *step == us.at);
        let here = here.unwrap_or(0);
        let is_seen = us.stored == us.published;
        let mut next = self.clone();
        let device = &mut next.devices[at];
        let ours = &mut device.workers[worker];
        match order[here] {
            WorkerAt::Publish => ours.stored[kind(event)] += 1,
            WorkerAt::Apply if !is_seen && design != Design::LooksWithoutFence => return None,
            WorkerAt::Apply => {
                next = self.apply(design, |state| {
                    &mut state.devices[at].workers[worker].applying
                })?;
                let ours = &mut next.devices[at].workers[worker];
                if ours.applying != Applying::Done {
                    return Some(next);
                }
                ours.applying = Applying::No;
            }
            // Another thread may set a bit at the same time: to do so is a fence, too.
            WorkerAt::SetBit if !is_seen => return None,
            WorkerAt::SetBit if design == Design::SetsBitInTwoSteps => match ours.loaded.take() {
                None => {
                    ours.loaded = Some(device.status);
                    return Some(next);
                }
                Some(loaded) => device.status = loaded | event,
            },
            WorkerAt::SetBit => device.status |= event,
            WorkerAt::RaiseEdge => {
                ours.told += 1;
                device.edge = true;
            }
        }
        next.devices[at].workers[worker].at = order[(here + 1) % order.len()];
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
                HandlerAt::Look(bits, 0)
            }
            HandlerAt::Acknowledge(bits) => HandlerAt::Exit(bits),
            HandlerAt::Exit(bits) => {
                next = self.apply(design, |state| &mut state.devices[at].handler_applying)?;
                let device = &mut next.devices[at];
                if device.handler_applying != Applying::Done {
                    return Some(next);
                }
                device.handler_applying = Applying::No;
                device.status &= !bits;
                HandlerAt::Look(bits, 0)
            }
            HandlerAt::Look(bits, worker) => {
                let count = device.workers.len();
                let worker_of = &mut device.workers[worker];
                for event in [USED, CONFIG].map(|bit| bits & bit) {
                    if event != 0 {
                        worker_of.seen[kind(event)] = worker_of.published[kind(event)];
                    }
                }
                match worker + 1 < count {
                    true => HandlerAt::Look(bits, worker + 1),
                    false => HandlerAt::Idle,
                }
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
            return self.apply(design, |state| &mut state.devices[at].driver_applying);
        }
        // A reset waits until the worker is done with what it has begun.
        if device.driver == DriverAt::Resets && self.is_at_work(design, at) {
            return None;
        }
        let device = &mut next.devices[at];
        device.driver_applying = Applying::No;
        device.driver = match device.driver {
            DriverAt::Resets => {
                device.life += 1;
                device.workers.fill(Worker::default());
                device.status = 0;
                DriverAt::Revives
            }
            _ => DriverAt::Drives,
        };
        Some(next)
    }

    fn is_at_work(&self, design: Design, at: usize) -> bool {
        let first = match design {
            Design::AppliesBeforePublishing => WorkerAt::Apply,
            _ => WorkerAt::Publish,
        };
        let mut workers = self.devices[at].workers.iter();
        workers.any(|worker| worker.at != first || worker.applying != Applying::No)
    }

    /// The acknowledgements that are still to be applied.
    fn waiting(&self) -> Vec<Ack> {
        let all = self.devices.iter().flat_map(|device| {
            let workers = device.workers.iter().map(|worker| &worker.applying);
            workers.chain([&device.handler_applying, &device.driver_applying])
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
    pub fn fault(&self, is_end: bool) -> Option<String> {
        let waiting = self.waiting();
        for (at, device) in self.devices.iter().enumerate() {
            let mut workers = device.workers.iter();
            if is_end && workers.any(|worker| worker.seen != worker.published) {
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
                    HandlerAt::Idle | HandlerAt::Look(..) => false,
                };
                let is_telling = device
                    .workers
                    .iter()
                    .any(|worker| matches!(worker.at, WorkerAt::Apply | WorkerAt::RaiseEdge));
                let taken_away = device.edge || is_telling || acknowledged || handled;
                if device.status & bit != 0 && !taken_away {
                    return Some(format!("device {at} has bit {bit} set for ever"));
                }
            }
        }
        None
    }
}
