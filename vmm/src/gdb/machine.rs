//! The machine as a debugger has it: its vCPUs, stopped all together and let run again. Knows of
//! stops and of breakpoints, and nothing of packets.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use gdbstub::common::{Signal, Tid};
use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED};
use kvm_ioctls::VcpuFd;
use rustix::event::{PollFd, PollFlags};
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::abilities::Abilities;
use super::breakpoints::{Breakpoints, Hit, Run};
use super::memory::translate;
use super::reason::{CRASH, Ended, Reason, comes_again};
use crate::debug::{Bell, DebugStop, Stopped, VcpuControl};
use crate::stop::{StopEvent, poll};

/// What ends a session from this side.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The machine ends.
    #[error("the machine ends")]
    Ends,
    /// The host refuses to wait.
    #[error("cannot wait for the machine: {0}")]
    Wait(#[from] std::io::Error),
    /// KVM does not let a vCPU run as it is to.
    #[error("KVM refuses to debug a vCPU: {0}")]
    Kvm(#[from] kvm_ioctls::Error),
}

/// What a vCPU does when the machine is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It stays as it is.
    Stay,
    Continue,
    Step,
}

/// The machine of a debugger.
#[derive(Debug)]
pub struct Machine {
    vcpus: Vec<Vcpu>,
    pub(super) memory: GuestMemoryMmap,
    breakpoints: Breakpoints,
    /// The vCPU that was last told of: through its page tables breakpoints are set.
    current: usize,
    stopped: Receiver<Stopped>,
    end: Receiver<Ended>,
    ended: Option<Ended>,
    bell: Bell,
    stop: StopEvent,
    /// What has been seen, and gdb has not been told.
    untold: VecDeque<(usize, Reason)>,
}

#[derive(Debug)]
struct Vcpu {
    control: VcpuControl,
    /// While it has stopped.
    fd: Option<VcpuFd>,
    /// `None` where nothing else was said: it continues.
    action: Option<Action>,
    inject: bool,
}

/// What a machine for a debugger is made of.
#[derive(Debug)]
pub struct Parts {
    /// The vCPUs, in their order.
    pub controls: Vec<VcpuControl>,
    /// Guest RAM.
    pub memory: GuestMemoryMmap,
    /// What the KVM can do.
    pub abilities: Abilities,
    /// Where vCPUs come that have stopped.
    pub stopped: Receiver<Stopped>,
    /// Where it is said how the machine has ended.
    pub end: Receiver<Ended>,
    /// What rings for both.
    pub bell: Bell,
    /// When the machine is to stop.
    pub stop: StopEvent,
}

impl Machine {
    /// The machine, whose vCPUs run or have been held.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let vcpu = |control| Vcpu {
            control,
            fd: None,
            action: None,
            inject: false,
        };
        Self {
            vcpus: parts.controls.into_iter().map(vcpu).collect(),
            memory: parts.memory,
            breakpoints: Breakpoints::new(parts.abilities),
            current: 0,
            stopped: parts.stopped,
            end: parts.end,
            ended: None,
            bell: parts.bell,
            stop: parts.stop,
            untold: VecDeque::new(),
        }
    }

    /// The ids of the vCPUs.
    pub fn tids(&self) -> impl Iterator<Item = Tid> {
        (0..self.vcpus.len()).filter_map(tid)
    }

    /// The vCPU with this id, if it has stopped.
    pub fn vcpu(&self, tid: Tid) -> Option<&VcpuFd> {
        self.vcpus.get(tid.get() - 1)?.fd.as_ref()
    }

    /// The vCPU that was last told of, if it has stopped.
    pub fn current(&self) -> Option<&VcpuFd> {
        self.vcpus.get(self.current)?.fd.as_ref()
    }

    /// What the vCPU with this id does where it has stopped.
    #[must_use]
    pub fn describe(&self, tid: Tid) -> &'static str {
        match self.vcpu(tid).map(VcpuFd::get_mp_state) {
            None => "running",
            Some(Ok(state)) if state.mp_state == KVM_MP_STATE_HALTED => "halted",
            Some(Ok(state)) if state.mp_state == KVM_MP_STATE_UNINITIALIZED => "not started",
            Some(_) => "stopped",
        }
    }

    /// Waits for something to happen: to the machine, or with `connection`, if there is one. Returns
    /// whether that is ready to be read.
    ///
    /// # Errors
    /// [`MachineError::Ends`], once there is nothing else to be looked at.
    pub fn wait(&mut self, connection: Option<PollFd<'_>>) -> Result<bool, MachineError> {
        let mut fds = vec![
            PollFd::new(&self.bell, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        fds.extend(connection);
        poll(&mut fds)?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.first() == Some(&true) {
            self.bell.silence();
        } else if ready.get(1) == Some(&true) {
            return Err(MachineError::Ends);
        }
        Ok(ready.get(2) == Some(&true))
    }

    /// How the machine has ended, if it has.
    pub fn has_ended(&mut self) -> Option<Ended> {
        self.ended = self.ended.or_else(|| self.end.try_recv().ok());
        self.ended
    }

    /// Stops every vCPU, and returns when all have.
    ///
    /// # Errors
    /// Where the machine ends first.
    pub fn stop_all(&mut self) -> Result<(), MachineError> {
        loop {
            self.take_stopped()?;
            let mut running = self
                .vcpus
                .iter()
                .filter(|vcpu| vcpu.fd.is_none())
                .peekable();
            if running.peek().is_none() {
                self.breakpoints.unpatch(&self.memory);
                return Ok(());
            }
            for vcpu in running {
                vcpu.control.pause();
            }
            if self.has_ended().is_some() {
                return Err(MachineError::Ends);
            }
            self.wait(None)?;
        }
    }

    /// The next thing that gdb is to be told of, once it has happened; all vCPUs have stopped then.
    ///
    /// # Errors
    /// Where the machine ends first.
    pub fn next_reason(&mut self) -> Result<Option<Reason>, MachineError> {
        self.take_stopped()?;
        let Some((index, reason)) = self.untold.pop_front() else {
            return Ok(None);
        };
        self.stop_all()?;
        self.forget_what_comes_again();
        self.current = index;
        Ok(Some(reason))
    }

    fn forget_what_comes_again(&mut self) {
        self.untold.retain(|(_, reason)| !comes_again(reason));
    }

    /// Lets vCPUs go on that have met something while no debugger was there. Those that were held
    /// stay so.
    ///
    /// # Errors
    /// Where KVM refuses.
    pub fn overlook(&mut self) -> Result<(), MachineError> {
        self.take_stopped()?;
        while let Some((index, _)) = self.untold.pop_front() {
            self.run(index)?;
        }
        Ok(())
    }

    /// Stops the machine for a debugger that asks for it; how gdb is told.
    ///
    /// # Errors
    /// Where the machine ends first.
    pub fn interrupt(&mut self) -> Result<Reason, MachineError> {
        self.stop_all()?;
        self.forget_what_comes_again();
        Ok(match tid(self.current) {
            Some(tid) => Reason::SignalWithThread {
                tid,
                signal: Signal::SIGINT,
            },
            None => Reason::Signal(Signal::SIGINT),
        })
    }

    /// Takes in the vCPUs that have stopped by themselves.
    fn take_stopped(&mut self) -> Result<(), MachineError> {
        while let Ok(Stopped { index, fd, why }) = self.stopped.try_recv() {
            let index = usize::from(index);
            let reason = self.reason(index, &fd, why);
            let Some(vcpu) = self.vcpus.get_mut(index) else {
                continue;
            };
            vcpu.fd = Some(fd);
            match (why, reason) {
                (DebugStop::Asked, _) => {}
                (_, Some(reason)) => self.untold.push_back((index, reason)),
                (_, None) => {
                    vcpu.inject = true;
                    self.run(index)?;
                }
            }
        }
        Ok(())
    }

    /// How gdb is told why the vCPU number `index` has stopped; nothing where that is the guest's
    /// own affair.
    fn reason(&self, index: usize, fd: &VcpuFd, why: DebugStop) -> Option<Reason> {
        let tid = tid(index)?;
        let trap = |signal| Some(Reason::SignalWithThread { tid, signal });
        match why {
            DebugStop::Asked => None,
            DebugStop::Crash(_) => trap(CRASH),
            DebugStop::Exit(exit) => match self.breakpoints.hit(&exit, translate(fd, exit.pc)) {
                Hit::Guest => None,
                Hit::Soft => Some(Reason::SwBreak(tid)),
                Hit::Hard => Some(Reason::HwBreak(tid)),
                Hit::Watch(kind, addr) => Some(Reason::Watch { tid, kind, addr }),
                Hit::Step => trap(Signal::SIGTRAP),
            },
        }
    }

    /// What the KVM can do.
    #[must_use]
    pub fn abilities(&self) -> Abilities {
        self.breakpoints.abilities()
    }

    /// What the debugger has set, if every vCPU has stopped: it is in guest memory otherwise.
    pub fn breakpoints(&mut self) -> Option<&mut Breakpoints> {
        self.is_stopped().then_some(&mut self.breakpoints)
    }

    /// Has every vCPU continue when the machine is resumed.
    pub fn plan_nothing(&mut self) {
        for vcpu in &mut self.vcpus {
            vcpu.action = None;
        }
    }

    /// Has the vCPU with this id do this when the machine is resumed.
    pub fn plan(&mut self, tid: Tid, action: Action) {
        if let Some(vcpu) = self.vcpus.get_mut(tid.get() - 1) {
            vcpu.action = Some(action);
        }
    }

    /// Has each vCPU stay for which nothing is planned.
    pub fn hold_others(&mut self) {
        for vcpu in &mut self.vcpus {
            vcpu.action.get_or_insert(Action::Stay);
        }
    }

    /// Has each vCPU do what is planned, if all have stopped; unless there is something to be told
    /// first.
    ///
    /// # Errors
    /// Where KVM refuses.
    pub fn resume(&mut self) -> Result<(), MachineError> {
        if !self.is_stopped() || !self.untold.is_empty() {
            return Ok(());
        }
        self.breakpoints.patch(&self.memory);
        for index in 0..self.vcpus.len() {
            self.run(index)?;
        }
        Ok(())
    }

    /// Lets the machine run, with nothing left of what a debugger has set.
    pub fn release(&mut self) {
        self.breakpoints = Breakpoints::new(self.breakpoints.abilities());
        self.untold.clear();
        self.plan_nothing();
        if let Err(error) = self.resume() {
            log::error!("cannot resume the guest after a debugger: {error}");
        }
    }

    fn run(&mut self, index: usize) -> Result<(), MachineError> {
        let Some(vcpu) = self.vcpus.get_mut(index) else {
            return Ok(());
        };
        if vcpu.action == Some(Action::Stay) {
            return Ok(());
        }
        let run = Run {
            step: vcpu.action == Some(Action::Step),
            inject: std::mem::take(&mut vcpu.inject),
        };
        if let Some(fd) = vcpu.fd.take() {
            let result = fd.set_guest_debug(&self.breakpoints.guest_debug(run));
            vcpu.control.resume(fd);
            result?;
        }
        Ok(())
    }

    /// Whether every vCPU has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.vcpus.iter().all(|vcpu| vcpu.fd.is_some())
    }

    /// When the machine is to stop.
    #[must_use]
    pub fn stop_event(&self) -> &StopEvent {
        &self.stop
    }
}

/// The id of the vCPU number `index`: they begin with 1.
fn tid(index: usize) -> Option<Tid> {
    Tid::new(index + 1)
}
