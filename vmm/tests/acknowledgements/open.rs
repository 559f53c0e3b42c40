//! What the driver, the handler, the exits of a guest's one CPU and the thread that SIGHUP wakes share
//! of a page that the guest can write to, as states and the steps between them. Which schedules there
//! are, and what of them must be so, is tried out beside this.

use crate::model::{CONFIG, USED};

/// What is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// What is built: an exit begins with what has been acknowledged in memory; who changes the
    /// configuration closes the page before, and it opens again when that is acknowledged, by an exit.
    Built,
    /// An exit applies what has been acknowledged after it has served the queue.
    CatchesUpAfterServing,
    /// A thread serves the queue while the guest runs.
    ServesMeanwhile,
    /// The configuration changes while the page is open.
    ChangesAnOpenPage,
    /// The page is closed when the bit of a change is set already.
    ClosesAfterSetting,
    /// The page opens again at the end of a change, before that is acknowledged.
    OpensWhilePending,
    /// Who closes the page loads the bits, and then stores those that are left.
    ClosesInTwoSteps,
}

/// How often the driver notifies, and what each SIGHUP finds: whether the configuration is another.
pub struct Scenario {
    pub notifications: u8,
    pub refreshes: &'static [bool],
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
enum HandlerAt {
    #[default]
    Idle,
    ReadStatus,
    /// With what it has read.
    Acknowledge(u8),
    Look(u8),
}

/// A step of who serves the queue or changes the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Of an exit: apply what is acknowledged in memory.
    CatchUp,
    /// Of a refresh: take the device, the page from the guest, and do the same.
    Close,
    /// The same in two steps.
    Load,
    Store,
    /// Only take the device.
    Lock,
    Publish,
    SetBit,
    RaiseEdge,
    /// Open the page if that can be, and let go of the device.
    Open,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct State {
    /// InterruptStatus and InterruptACK, as they are in memory.
    status: u8,
    ack: u8,
    is_open: bool,
    /// The bits of a page that is not quite closed.
    loaded: Option<u8>,
    /// What the CPU has written to InterruptACK, and memory has not got yet.
    store_buffer: Option<u8>,
    edge: bool,
    handler: HandlerAt,
    notified: u8,
    /// How far the exit at QueueNotify is, or the thread that serves instead.
    serving: Option<usize>,
    /// The exit at InterruptACK of a page that is not open, with what is acknowledged.
    acknowledging: Option<u8>,
    refreshes: usize,
    refreshing: Option<usize>,
    /// What there is to see of used buffers and of the configuration, and what has been seen.
    published: [u8; 2],
    seen: [u8; 2],
}

impl State {
    /// A device that has just become live.
    pub fn new() -> Self {
        Self {
            is_open: true,
            ..Self::default()
        }
    }

    /// All that can happen next, with who does it.
    pub fn steps(&self, design: Design, scenario: &Scenario) -> Vec<(String, Self)> {
        let steps = [
            ("store", self.store()),
            ("notification", self.notify(design, scenario)),
            ("interrupt", self.interrupt(design)),
            ("handler", self.handle(design)),
            ("acknowledgement exits", self.acknowledge()),
            ("timer", self.leave(design)),
            ("serving", self.serve(design)),
            ("SIGHUP", self.refresh(design, scenario)),
        ];
        let steps = steps.into_iter();
        steps
            .filter_map(|(who, next)| Some((who.to_owned(), next?)))
            .collect()
    }

    /// Memory gets what the CPU has written.
    fn store(&self) -> Option<Self> {
        let mut next = self.clone();
        next.ack = next.store_buffer.take()?;
        Some(next)
    }

    /// What leaves the guest leaves nothing in the store buffer.
    fn left(&self) -> Self {
        self.store().unwrap_or_else(|| self.clone())
    }

    fn is_in_guest(&self, design: Design) -> bool {
        let served_by_exit = design != Design::ServesMeanwhile;
        self.acknowledging.is_none() && !(served_by_exit && self.serving.is_some())
    }

    /// The driver has a buffer for the device, at any time: in its handler, or where that must wait.
    fn notify(&self, design: Design, scenario: &Scenario) -> Option<Self> {
        let is_idle = self.is_in_guest(design) && self.serving.is_none();
        if !is_idle || self.notified == scenario.notifications {
            return None;
        }
        let mut next = match design {
            Design::ServesMeanwhile => self.clone(),
            _ => self.left(),
        };
        next.notified += 1;
        next.serving = Some(0);
        Some(next)
    }

    fn interrupt(&self, design: Design) -> Option<Self> {
        if !self.edge || self.handler != HandlerAt::Idle || !self.is_in_guest(design) {
            return None;
        }
        let mut next = self.clone();
        next.edge = false;
        next.handler = HandlerAt::ReadStatus;
        Some(next)
    }

    fn handle(&self, design: Design) -> Option<Self> {
        if !self.is_in_guest(design) {
            return None;
        }
        let mut next = self.clone();
        next.handler = match self.handler {
            HandlerAt::Idle => return None,
            HandlerAt::ReadStatus if self.status == 0 => HandlerAt::Idle,
            HandlerAt::ReadStatus => HandlerAt::Acknowledge(self.status),
            HandlerAt::Acknowledge(_) if self.store_buffer.is_some() => return None,
            HandlerAt::Acknowledge(bits) => {
                match self.is_open {
                    true => next.store_buffer = Some(bits),
                    false => next.acknowledging = Some(bits),
                }
                HandlerAt::Look(bits)
            }
            HandlerAt::Look(bits) => {
                for (kind, bit) in [USED, CONFIG].into_iter().enumerate() {
                    if bits & bit != 0 {
                        next.seen[kind] = next.published[kind];
                    }
                }
                HandlerAt::Idle
            }
        };
        Some(next)
    }

    /// Applies what is acknowledged in memory. Of a page that is open a used buffer alone is pending,
    /// where that is so.
    fn catch_up(&mut self, design: Design) {
        if self.is_open {
            let can_be = match design {
                Design::ChangesAnOpenPage => USED | CONFIG,
                _ => USED,
            };
            self.status &= can_be & !self.ack;
            self.ack = 0;
        }
    }

    fn open(&mut self, design: Design) {
        let waits = design != Design::OpensWhilePending && self.status & CONFIG != 0;
        self.is_open |= !waits;
    }

    /// The exit of an acknowledgement, once nobody else has the device.
    fn acknowledge(&self) -> Option<Self> {
        let bits = self.acknowledging.filter(|_| self.refreshing.is_none())?;
        let mut next = self.clone();
        next.catch_up(Design::Built);
        next.status &= !bits;
        next.open(Design::Built);
        next.acknowledging = None;
        Some(next)
    }

    /// The exit that a timer makes of a guest that makes none, once nobody else has the device.
    fn leave(&self, design: Design) -> Option<Self> {
        let is_written = self.ack != 0 || self.store_buffer.is_some();
        if !is_written || !self.is_in_guest(design) || self.refreshing.is_some() {
            return None;
        }
        let mut next = self.left();
        next.catch_up(design);
        next.open(design);
        Some(next)
    }

    fn serve(&self, design: Design) -> Option<Self> {
        let steps = match design {
            Design::CatchesUpAfterServing => {
                [Step::Publish, Step::SetBit, Step::CatchUp, Step::RaiseEdge]
            }
            // As where acknowledgements wait in a ring.
            Design::ServesMeanwhile => {
                [Step::Publish, Step::CatchUp, Step::SetBit, Step::RaiseEdge]
            }
            _ => [Step::CatchUp, Step::Publish, Step::SetBit, Step::RaiseEdge],
        };
        let at = self.serving?;
        let mut next = self.clone();
        next.take(design, steps[at], USED)?;
        next.serving = Some(at + 1).filter(|at| *at < steps.len());
        Some(next)
    }

    fn refresh(&self, design: Design, scenario: &Scenario) -> Option<Self> {
        let is_new = *scenario.refreshes.get(self.refreshes)?;
        let steps: &[Step] = match (is_new, design) {
            (false, Design::ClosesInTwoSteps) => &[Step::Load, Step::Store, Step::Open],
            (false, _) => &[Step::Close, Step::Open],
            (true, Design::ChangesAnOpenPage) => &[
                Step::Lock,
                Step::Publish,
                Step::SetBit,
                Step::RaiseEdge,
                Step::Open,
            ],
            (true, Design::ClosesAfterSetting) => &[
                Step::Lock,
                Step::Publish,
                Step::SetBit,
                Step::Close,
                Step::RaiseEdge,
                Step::Open,
            ],
            (true, _) => &[
                Step::Close,
                Step::Publish,
                Step::SetBit,
                Step::RaiseEdge,
                Step::Open,
            ],
        };
        let at = self.refreshing.unwrap_or(0);
        let mut next = self.clone();
        next.take(design, steps[at], CONFIG)?;
        next.refreshing = Some(at + 1).filter(|at| *at < steps.len());
        next.refreshes += usize::from(next.refreshing.is_none());
        Some(next)
    }

    /// Takes `step` for the event `bit`, if it can be taken.
    fn take(&mut self, design: Design, step: Step, bit: u8) -> Option<()> {
        match step {
            // An exit waits while another has the device.
            Step::CatchUp if self.refreshing.is_some() => return None,
            Step::CatchUp => self.catch_up(design),
            // That a slot is gone means that no CPU can write there any more.
            Step::Close => {
                *self = self.left();
                self.catch_up(design);
                self.is_open = false;
            }
            Step::Load => {
                *self = self.left();
                self.loaded = self.is_open.then_some(self.status);
                self.is_open = false;
            }
            Step::Store => {
                if let Some(bits) = self.loaded.take() {
                    self.status = bits & USED & !self.ack;
                    self.ack = 0;
                }
            }
            Step::Lock if design == Design::ChangesAnOpenPage => self.catch_up(design),
            Step::Lock => {}
            Step::Publish => self.published[usize::from(bit == CONFIG)] += 1,
            Step::SetBit => self.status |= bit,
            Step::RaiseEdge => self.edge = true,
            Step::Open => self.open(design),
        }
        Some(())
    }

    /// What is wrong with this state, if anything is.
    pub fn fault(&self, is_end: bool) -> Option<String> {
        if !is_end {
            return None;
        }
        if self.seen != self.published {
            return Some("the device has told of what nobody looks at".to_owned());
        }
        if self.status != 0 {
            return Some("a bit is set for ever".to_owned());
        }
        (!self.is_open).then(|| "the page is closed for ever".to_owned())
    }
}
