//! The last words of a process one of whose threads has asked the kernel for what its filter
//! forbids: which thread, and which call. All of it may run at any point of the program, so that it
//! takes no lock and no memory.

use std::fmt::{self, Write};
use std::io;

use libc::{REG_RDI, REG_RDX, REG_RSI, SIGSYS, c_int, c_void, siginfo_t, ucontext_t};
use vmm_sys_util::signal::{register_signal_handler, unblock_signal};

use super::filters::{CALLS, THREADS};

/// The exit status of a shell for a process that SIGSYS has ended.
const STATUS: c_int = 128 + SIGSYS;
/// What the signal's code is where a filter has sent it.
const SYS_SECCOMP: c_int = 1;

/// The fields of `siginfo_t` that come with SIGSYS.
#[repr(C)]
struct SigSys {
    signal: c_int,
    /// What the filter returned with SECCOMP_RET_TRAP.
    data: c_int,
    code: c_int,
    instruction: *const c_void,
    call: c_int,
    architecture: u32,
}

/// Has the process end, from now on, with a message that names the call, where a filter forbids one.
///
/// The threads to come inherit that the signal is not blocked, which a parent may have left so.
///
/// # Errors
/// Where the signal cannot be handled.
pub fn name_them() -> io::Result<()> {
    unblock_signal(SIGSYS).map_err(|error| io::Error::other(error.to_string()))?;
    register_signal_handler(SIGSYS, end)
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

/// Handles the signal that a filter sends. The kernel ends the process where this cannot: the
/// signal is blocked meanwhile.
extern "C" fn end(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the information of this signal, which lives until the return. It is
    // at least as large as `SigSys`, whose fields are the kernel's for SIGSYS.
    let info = unsafe { &*info.cast::<SigSys>() };
    // SAFETY: as above, for the context of a handler that has been set with SA_SIGINFO.
    let registers = unsafe { &(*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let argument = |register: c_int| registers.get(register as usize).copied().unwrap_or(0);
    let arguments = [REG_RDI, REG_RSI, REG_RDX].map(argument);

    let mut line = Line::default();
    // Who else sends the signal has made no call.
    if info.code == SYS_SECCOMP {
        // A line that is too long ends where its room does.
        let _ = describe(&mut line, info.data, info.call, arguments);
    }
    let bytes = line.bytes();
    // SAFETY: `bytes` are valid for as long as the call takes, and both calls may be made in a
    // handler. When stderr is gone there is nobody left to tell.
    unsafe {
        libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(STATUS)
    }
}

fn describe(to: &mut impl Write, thread: i32, call: i32, [a, b, c]: [i64; 3]) -> fmt::Result {
    let index = |number: i32| usize::try_from(number).unwrap_or(usize::MAX);
    let thread = THREADS.get(index(thread)).copied().unwrap_or("unknown");
    let name = CALLS.split('\n').nth(index(call)).unwrap_or_default();
    let name = if name.is_empty() { "a call" } else { name };
    writeln!(
        to,
        "vmm: seccomp: the {thread} thread called {name} ({call}) with {a:#x}, {b:#x}, {c:#x}, \
         which resources/seccomp does not allow"
    )
}

/// Room for one line.
struct Line {
    bytes: [u8; 200],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; 200],
            len: 0,
        }
    }
}

impl Line {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let fits = text.len().min(room.len());
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        self.len += fits;
        if fits == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}
