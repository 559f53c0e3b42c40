//! What a vCPU, its guest's handler, and the thread that looks for another size share of interrupts
//! where the guest acknowledges in memory (`RegisterPage::open`), as states and the steps between them.
//! There is one vCPU, which serves the queue itself: the guest stands while it does.

use super::model::{CONFIG, USED};

/// What is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// What is built.
    Built,
    /// A change of the configuration leaves the page open, and applies what is in memory first.
    StaysOpen,
    /// The page is opened again as soon as a change has been told of.
    OpensWhilePending,
    /// The vCPU applies what is in memory when it has served.
    CatchesUpLate,
    /// Who closes the page takes bits away in two steps, a load and a store.
    TakesBitInTwoSteps,
}

/// What is told of.
pub struct Scenario {
    /// By the vCPU, one at each exit.
    pub exits: &'static [u8],
    /// How often the other thread tells of another configuration.
    pub changes: usize,
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
enum HandlerAt {
    #[default]
    Idle,
    ReadStatus,
    Acknowledge(u8),
    Look(u8),
}

/// Where a vCPU is, or the other thread, in what it tells of.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
enum TellerAt {
    #[default]
    Away,
    /// It has the device's lock here, and where it is about to let go of it.
    CatchUp,
    /// With InterruptStatus as it has loaded it, where it is to store it.
    TakeBit(u8),
    Publish,
    SetBit,
    RaiseEdge,
    Open,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct State {
    is_open: bool,
    /// InterruptStatus and InterruptACK as they are in memory, and an acknowledgement that the CPU has
    /// not written there yet.
    status: u8,
    acknowledged: u8,
    buffered: Option<u8>,
    edge: bool,
    handler: HandlerAt,
    vcpu: TellerAt,
    exits: usize,
    changer: TellerAt,
    changes: usize,
    /// Whether the other thread has the device's lock. The vCPU has it where it catches up, and lets
    /// go of it to serve.
    is_locked: bool,
    published: [u8; 2],
    seen: [u8; 2],
}

fn kind(event: u8) -> usize {
    usize::from(event == CONFIG)
}

impl State {
    /// A device that lives, before the first request.
    pub fn new() -> Self {
        Self {
            is_open: true,
            ..Self::default()
        }
    }

    /// What the guest has stored is in memory: it has left, or has lost the page.
    fn drain(&mut self) {
        self.acknowledged = self.buffered.take().unwrap_or(self.acknowledged);
    }

    fn take_bits(&mut self, status: u8) {
        self.status = status & USED & !self.acknowledged;
        self.acknowledged = 0;
    }

    fn close(&mut self) {
        if self.is_open {
            self.drain();
            self.take_bits(self.status);
            self.is_open = false;
        }
    }

    fn open(&mut self) {
        self.is_open |= self.status & CONFIG == 0;
    }

    /// All that can happen next, with who does it.
    pub fn steps(&self, design: Design, scenario: &Scenario) -> Vec<(String, Self)> {
        let steps = [
            ("vCPU", self.vcpu(design, scenario)),
            ("handler", self.handler()),
            ("interrupt", self.interrupt()),
            ("store", self.store()),
            ("changer", self.changer(design, scenario)),
        ];
        let steps = steps.into_iter();
        steps
            .filter_map(|(who, next)| Some((who.to_owned(), next?)))
            .collect()
    }

    /// The vCPU leaves the guest, wherever that is, and tells of an event.
    fn vcpu(&self, design: Design, scenario: &Scenario) -> Option<Self> {
        let event = *scenario.exits.get(self.exits)?;
        let mut next = self.clone();
        next.vcpu = match self.vcpu {
            TellerAt::Away => {
                next.drain();
                TellerAt::CatchUp
            }
            TellerAt::CatchUp if self.is_locked => return None,
            TellerAt::CatchUp | TellerAt::TakeBit(_) => {
                if self.is_open && design != Design::CatchesUpLate {
                    next.take_bits(self.status);
                }
                TellerAt::Publish
            }
            TellerAt::Publish => {
                if event == CONFIG {
                    next.close();
                }
                next.published[kind(event)] += 1;
                TellerAt::SetBit
            }
            TellerAt::SetBit => {
                if event == CONFIG {
                    next.close();
                }
                next.status |= event;
                TellerAt::RaiseEdge
            }
            TellerAt::RaiseEdge => {
                next.edge = true;
                TellerAt::Open
            }
            TellerAt::Open if self.is_locked => return None,
            TellerAt::Open => {
                if self.is_open && design == Design::CatchesUpLate {
                    next.take_bits(self.status);
                }
                next.exits += 1;
                TellerAt::Away
            }
        };
        Some(next)
    }

    fn is_in_guest(&self) -> bool {
        self.vcpu == TellerAt::Away
    }

    fn interrupt(&self) -> Option<Self> {
        let is_taken = self.edge && self.handler == HandlerAt::Idle && self.is_in_guest();
        is_taken.then(|| Self {
            edge: false,
            handler: HandlerAt::ReadStatus,
            ..self.clone()
        })
    }

    fn store(&self) -> Option<Self> {
        let mut next = self.clone();
        next.drain();
        self.buffered.is_some().then_some(next)
    }

    fn handler(&self) -> Option<Self> {
        if !self.is_in_guest() {
            return None;
        }
        let mut next = self.clone();
        next.handler = match self.handler {
            HandlerAt::Idle => return None,
            HandlerAt::ReadStatus if self.status == 0 => HandlerAt::Idle,
            HandlerAt::ReadStatus => HandlerAt::Acknowledge(self.status),
            // One that the CPU still has goes first.
            HandlerAt::Acknowledge(_) if self.is_open && self.buffered.is_some() => return None,
            HandlerAt::Acknowledge(bits) if self.is_open => {
                next.buffered = Some(bits);
                HandlerAt::Look(bits)
            }
            // The write exits, and waits for the device's lock.
            HandlerAt::Acknowledge(_) if self.is_locked => return None,
            HandlerAt::Acknowledge(bits) => {
                next.status &= !bits;
                next.open();
                HandlerAt::Look(bits)
            }
            HandlerAt::Look(bits) => {
                for event in [USED, CONFIG] {
                    if bits & event != 0 {
                        next.seen[kind(event)] = self.published[kind(event)];
                    }
                }
                HandlerAt::Idle
            }
        };
        Some(next)
    }

    /// The other thread, which has the device's lock from its first step to its last.
    fn changer(&self, design: Design, scenario: &Scenario) -> Option<Self> {
        let mut next = self.clone();
        let leaves_open = design == Design::StaysOpen;
        next.changer = match self.changer {
            TellerAt::Away => {
                // The vCPU has it while it catches up, which is one step.
                next.is_locked = true;
                TellerAt::CatchUp
            }
            TellerAt::CatchUp if design == Design::TakesBitInTwoSteps && self.is_open => {
                next.drain();
                TellerAt::TakeBit(self.status)
            }
            TellerAt::CatchUp => {
                if !leaves_open {
                    next.close();
                }
                TellerAt::Publish
            }
            TellerAt::TakeBit(loaded) => {
                next.take_bits(loaded);
                next.is_open = false;
                TellerAt::Publish
            }
            TellerAt::Publish => {
                next.published[kind(CONFIG)] += 1;
                TellerAt::SetBit
            }
            TellerAt::SetBit => {
                if leaves_open && self.is_open {
                    next.status &= !self.acknowledged;
                    next.acknowledged = 0;
                }
                next.status |= CONFIG;
                TellerAt::RaiseEdge
            }
            TellerAt::RaiseEdge => {
                next.edge = true;
                TellerAt::Open
            }
            TellerAt::Open => {
                match design {
                    Design::OpensWhilePending => next.is_open = true,
                    _ => next.open(),
                }
                next.is_locked = false;
                next.changes += 1;
                TellerAt::Away
            }
        };
        (self.changes < scenario.changes).then_some(next)
    }

    /// What is wrong with this state, if anything is.
    pub fn fault(&self, is_end: bool) -> Option<String> {
        if is_end && self.seen != self.published {
            return Some("the device has told of what nobody looks at".into());
        }
        let is_stuck = is_end && !self.is_open;
        is_stuck.then(|| "the page stays closed for ever".into())
    }
}
