//! One debugger at the machine, from its connection to the end of it: drives gdbstub's state machine
//! with what comes from either side.

use std::io;

use gdbstub::conn::Connection as _;
use gdbstub::stub::state_machine::GdbStubStateMachine as State;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError};
use thiserror::Error;

use super::connection::Connection;
use super::machine::{Machine, MachineError};
use super::reason::Reason;

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The debugger has gone, and leaves the machine.
    Detached,
    /// The debugger wants the machine to end.
    Killed,
    /// The machine has ended, and the debugger knows.
    Ended,
}

/// Why a session ends otherwise.
#[derive(Debug, Error)]
pub enum SessionError {
    /// By the machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The connection is broken.
    #[error("its connection: {0}")]
    Connection(#[from] io::Error),
    /// The debugger does not keep to the protocol, or the connection is broken.
    #[error("{0}")]
    Protocol(#[from] GdbStubError<MachineError, io::Error>),
}

/// Stops the machine, and lets the debugger at `connection` have it. Whatever the end is, vCPUs may
/// run or not, and breakpoints may be set.
///
/// # Errors
/// See [`SessionError`].
pub fn run(machine: &mut Machine, connection: Connection) -> Result<SessionEnd, SessionError> {
    machine.stop_all()?;
    let mut state = GdbStub::new(connection).run_state_machine(machine)?;
    // Whether gdb waits to be told of a stop: it may where no vCPU runs.
    let mut awaited = false;
    loop {
        state = match state {
            State::Idle(mut gdb) => {
                awaited = false;
                if machine.has_ended().is_some() {
                    return Ok(SessionEnd::Ended);
                }
                match next(machine, gdb.borrow_conn())? {
                    Next::Byte(byte) => gdb.incoming_data(machine, byte)?,
                    Next::Event => gdb.into(),
                    Next::Closed => return Ok(SessionEnd::Detached),
                }
            }
            State::Running(mut gdb) => {
                awaited = true;
                let reason = match machine.next_reason() {
                    Err(MachineError::Ends) => machine.has_ended(),
                    reason => reason?.or_else(|| machine.has_ended()),
                };
                if let Some(reason) = reason {
                    gdb.report_stop(machine, reason)?
                } else {
                    match next(machine, gdb.borrow_conn())? {
                        Next::Byte(byte) => gdb.incoming_data(machine, byte)?,
                        Next::Event => gdb.into(),
                        Next::Closed => return Ok(SessionEnd::Detached),
                    }
                }
            }
            // gdb has been told of a stop meanwhile.
            State::CtrlCInterrupt(gdb) if !awaited => {
                gdb.interrupt_handled(machine, None::<Reason>)?
            }
            State::CtrlCInterrupt(gdb) => {
                let reason = match machine.interrupt() {
                    Err(MachineError::Ends) => machine.has_ended().ok_or(MachineError::Ends),
                    reason => reason,
                };
                gdb.interrupt_handled(machine, Some(reason?))?
            }
            State::Disconnected(gdb) => {
                return Ok(match gdb.get_reason() {
                    DisconnectReason::Kill => SessionEnd::Killed,
                    DisconnectReason::Disconnect => SessionEnd::Detached,
                    DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {
                        SessionEnd::Ended
                    }
                });
            }
        }
    }
}

/// What happens next.
enum Next {
    /// This has come from the debugger.
    Byte(u8),
    /// There may be something to be told of.
    Event,
    /// Nothing will come from the debugger any more.
    Closed,
}

fn next(machine: &mut Machine, connection: &mut Connection) -> Result<Next, SessionError> {
    if let Some(byte) = connection.next() {
        return Ok(Next::Byte(byte));
    }
    // Acknowledgements are not flushed by those who write them.
    connection.flush()?;
    if machine.wait(Some(connection.readable()))? && !connection.receive()? {
        return Ok(Next::Closed);
    }
    Ok(Next::Event)
}
