//! What gdb asks of the machine, in the terms of the crate `gdbstub`: nothing is done here that
//! `machine` does not do.

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::machine::{Action, Machine, MachineError};
use super::memory::{self, NotRam, translate};
use super::registers::{Registers, X86};

/// gdb's number for a bad address.
const EFAULT: u8 = libc::EFAULT as u8;

impl From<NotRam> for TargetError<MachineError> {
    fn from(_: NotRam) -> Self {
        Self::Errno(EFAULT)
    }
}

/// A register that KVM refuses is gdb's fault, and no reason to end the session.
fn refused(error: kvm_ioctls::Error) -> TargetError<MachineError> {
    TargetError::Errno(u8::try_from(error.errno()).unwrap_or(u8::MAX))
}

impl Target for Machine {
    type Arch = X86;
    type Error = MachineError;

    fn base_ops(&mut self) -> BaseOps<'_, X86, MachineError> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn use_fork_stop_reason(&self) -> bool {
        false
    }

    fn use_vfork_stop_reason(&self) -> bool {
        false
    }

    fn use_vforkdone_stop_reason(&self) -> bool {
        false
    }
}

impl MultiThreadBase for Machine {
    fn read_registers(&mut self, registers: &mut Registers, tid: Tid) -> TargetResult<(), Self> {
        let vcpu = self.vcpu(tid).ok_or(TargetError::NonFatal)?;
        *registers = Registers::read(vcpu).map_err(refused)?;
        Ok(())
    }

    fn write_registers(&mut self, registers: &Registers, tid: Tid) -> TargetResult<(), Self> {
        let vcpu = self.vcpu(tid).ok_or(TargetError::NonFatal)?;
        registers.write(vcpu).map_err(refused)
    }

    fn read_addrs(&mut self, start: u64, bytes: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let vcpu = self.vcpu(tid).ok_or(TargetError::NonFatal)?;
        memory::read(vcpu, &self.memory, start, bytes)?;
        Ok(bytes.len())
    }

    fn write_addrs(&mut self, start: u64, bytes: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let vcpu = self.vcpu(tid).ok_or(TargetError::NonFatal)?;
        Ok(memory::write(vcpu, &self.memory, start, bytes)?)
    }

    fn list_active_threads(
        &mut self,
        thread_is_active: &mut dyn FnMut(Tid),
    ) -> Result<(), MachineError> {
        self.tids().for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Machine {
    fn thread_extra_info(&self, tid: Tid, buffer: &mut [u8]) -> Result<usize, MachineError> {
        let text = format!("vcpu{}, {}", tid.get() - 1, self.describe(tid));
        let mut len = 0;
        for (place, byte) in buffer.iter_mut().zip(text.bytes()) {
            *place = byte;
            len += 1;
        }
        Ok(len)
    }
}

/// Signals are not passed on: a guest has none.
impl MultiThreadResume for Machine {
    fn clear_resume_actions(&mut self) -> Result<(), MachineError> {
        self.plan_nothing();
        Ok(())
    }

    fn set_resume_action_continue(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), MachineError> {
        self.plan(tid, Action::Continue);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), MachineError> {
        Machine::resume(self)
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        let can = self.abilities().step;
        can.then_some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Machine {
    fn set_resume_action_step(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), MachineError> {
        self.plan(tid, Action::Step);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Machine {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), MachineError> {
        self.hold_others();
        Ok(())
    }
}

impl Breakpoints for Machine {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        // Always: gdb would write INT3 by itself, and the guest would meet it.
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        let can = self.abilities().execute;
        can.then_some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        let can = self.abilities().watch;
        can.then_some(self)
    }
}

impl SwBreakpoint for Machine {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let vcpu = self.current().ok_or(TargetError::NonFatal)?;
        let place = translate(vcpu, address).ok_or(NotRam)?;
        // It must be there to be read, for a byte to be put back.
        memory::read(vcpu, &self.memory, address, &mut [0])?;
        let breakpoints = self.breakpoints().ok_or(TargetError::NonFatal)?;
        Ok(breakpoints.add_soft(address, place))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let breakpoints = self.breakpoints().ok_or(TargetError::NonFatal)?;
        Ok(breakpoints.remove_soft(address))
    }
}

impl HwBreakpoint for Machine {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let breakpoints = self.breakpoints().ok_or(TargetError::NonFatal)?;
        Ok(breakpoints.add_hard(address))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let breakpoints = self.breakpoints().ok_or(TargetError::NonFatal)?;
        Ok(breakpoints.remove_hard(address))
    }
}

impl HwWatchpoint for Machine {
    fn add_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let breakpoints = self.breakpoints().ok_or(TargetError::NonFatal)?;
        Ok(breakpoints.add_watch(address, len, kind))
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let breakpoints = self.breakpoints().ok_or(TargetError::NonFatal)?;
        Ok(breakpoints.remove_watch(address, len, kind))
    }
}
