//! Where a vCPU stops for a debugger: its thread hands the vCPU over, and waits until it gets it
//! back. Both ends of that are here; what a debugger does with a vCPU in between is not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use kvm_bindings::kvm_debug_exit_arch;
use kvm_ioctls::VcpuFd;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use vmm_sys_util::signal::SIGRTMIN;

use crate::crash::CrashReason;
use crate::kvm_run::KvmRunPage;

/// Why a vCPU has stopped.
#[derive(Clone, Copy, Debug)]
pub enum DebugStop {
    /// It was asked to, by [`VcpuControl::pause`].
    Asked,
    /// KVM_EXIT_DEBUG: a breakpoint, a watchpoint, or a step that is done.
    Exit(kvm_debug_exit_arch),
    /// The guest can no longer run on it. It ends when it is resumed.
    Crash(CrashReason),
}

/// A vCPU that has stopped.
#[derive(Debug)]
pub struct Stopped {
    /// Its number.
    pub index: u8,
    /// The vCPU itself.
    pub fd: VcpuFd,
    /// Why.
    pub why: DebugStop,
}

/// What is readable while there is something to be looked at.
#[derive(Clone, Debug)]
pub struct Bell(Arc<OwnedFd>);

impl Bell {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// Where the host has no file descriptor for it.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // The counter would have to be at 2^64 - 2 for this to fail.
        if let Err(error) = rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            log::error!("cannot tell the debugger's thread of an event: {error}");
        }
    }

    /// Makes it unreadable until it is rung again. What it was rung for is to be looked at after.
    pub fn silence(&self) {
        match rustix::io::read(&self.0, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => log::error!("cannot read of an event for the debugger: {error}"),
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The end of a vCPU's thread.
#[derive(Debug)]
pub struct DebugPort {
    index: u8,
    /// The thread's id; 0 before it runs.
    thread: Arc<AtomicI32>,
    stopped: Sender<Stopped>,
    bell: Bell,
    back: Receiver<VcpuFd>,
}

/// The debugger's end.
#[derive(Debug)]
pub struct VcpuControl {
    page: Arc<KvmRunPage>,
    thread: Arc<AtomicI32>,
    back: Sender<VcpuFd>,
}

/// Both ends for the vCPU `index` with this page. When it stops, it goes to `stopped`, and `bell`
/// rings.
#[must_use]
pub fn connect(
    index: u8,
    page: Arc<KvmRunPage>,
    stopped: Sender<Stopped>,
    bell: Bell,
) -> (DebugPort, VcpuControl) {
    let (there, back) = channel();
    let thread = Arc::new(AtomicI32::new(0));
    let port = DebugPort {
        index,
        thread: Arc::clone(&thread),
        stopped,
        bell,
        back,
    };
    let control = VcpuControl {
        page,
        thread,
        back: there,
    };
    (port, control)
}

impl DebugPort {
    /// Says that this thread is the vCPU's. To be called before it enters the guest.
    pub fn enter(&self) {
        let id = rustix::thread::gettid();
        self.thread
            .store(id.as_raw_nonzero().get(), Ordering::SeqCst);
    }

    /// Hands the vCPU over, and waits until it comes back: `None` when it does not, since the
    /// machine ends.
    #[must_use]
    pub fn stop(&self, fd: VcpuFd, why: DebugStop) -> Option<VcpuFd> {
        let index = self.index;
        self.stopped.send(Stopped { index, fd, why }).ok()?;
        self.bell.ring();
        self.back.recv().ok()
    }
}

impl VcpuControl {
    /// Asks the vCPU to stop, wherever it is. It does at the end of an instruction, with nothing of
    /// an exit left to be done.
    ///
    /// The flag comes before the signal, as where a vCPU is stopped for good, and the thread says
    /// who it is before it looks at the flag first: one of the two is not missed.
    pub fn pause(&self) {
        self.page.request_pause();
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            let process = rustix::process::getpid().as_raw_nonzero().get();
            // SAFETY: the call takes numbers alone. Those of a thread that has ended can be no
            // other process's, and any thread of this one has a handler for the signal.
            let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGRTMIN()) };
            // A thread that has ended has nothing to stop.
            if result != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) {
                log::error!(
                    "cannot signal a vCPU's thread: {}",
                    io::Error::last_os_error()
                );
            }
        }
    }

    /// Has the vCPU stop before its first instruction. To be called before its thread is started.
    pub fn hold(&self) {
        self.page.request_pause();
    }

    /// Gives the vCPU back to its thread, which runs it.
    pub fn resume(&self, fd: VcpuFd) {
        self.page.end_pause();
        // A thread that has ended has no use for it.
        let _ = self.back.send(fd);
    }
}
