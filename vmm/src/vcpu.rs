//! The vCPUs and their threads: the loop around KVM_RUN, and stopping it from outside. What an exit
//! means is `exit`'s to say, and which vCPU starts another is the guest's.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};
use probe::probe;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

use crate::cpu_timer::CpuTimer;
use crate::crash::Crash;
use crate::debug::{DebugPort, DebugStop};
use crate::error::{Error, cannot};
use crate::exit::{Action, Buses, PendingWrite, handle_exit};
use crate::kvm::failed_to;
use crate::kvm_run::KvmRunPage;
use crate::observe::{self, ExitObserver, HandledExit};
use crate::sandbox::{Sandbox, ThreadKind};
use crate::stats::exits::ExitSite;
use crate::stop::{StopEvent, StopReason};
use crate::vcpu_setup::VcpuSetup;

/// For how long a vCPU may run, in CPU time, without devices being told of what its guest has written
/// without an exit.
const CATCH_UP: Duration = Duration::from_millis(50);

/// A vCPU that can run, or wait in KVM_RUN until the guest starts it, once it has been set up.
#[derive(Debug)]
pub struct Vcpu {
    index: u8,
    fd: VcpuFd,
    /// What it is to be set up by. It has KVM open, which is of no use to a guest that runs.
    setup: Option<Arc<VcpuSetup>>,
    page: Arc<KvmRunPage>,
    buses: Arc<Buses>,
    memory: GuestMemoryMmap,
    observers: Vec<Box<dyn ExitObserver>>,
    debugger: Option<DebugPort>,
    /// Comes before the guest's next instruction.
    set_aside: Option<PendingWrite>,
}

impl Vcpu {
    /// The vCPU `fd`, number `index` in a machine with `buses` and `memory`, to be set up by `setup`.
    ///
    /// # Errors
    /// Where the page that it shares with KVM cannot be mapped.
    pub fn new(
        index: u8,
        fd: VcpuFd,
        setup: Arc<VcpuSetup>,
        buses: Arc<Buses>,
        memory: GuestMemoryMmap,
    ) -> Result<Self, Error> {
        let page = KvmRunPage::map(&fd).map_err(cannot("map the vCPU's page"))?;
        Ok(Self {
            index,
            fd,
            setup: Some(setup),
            page: Arc::new(page),
            buses,
            memory,
            observers: Vec::new(),
            debugger: None,
            set_aside: None,
        })
    }

    /// Has `observer` watch the exits of the vCPU, after those that do already.
    pub fn observe(&mut self, observer: Box<dyn ExitObserver>) {
        self.observers.push(observer);
    }

    /// Lets a debugger stop the vCPU, through the port that `connect` makes for its number and page.
    pub fn attach(&mut self, connect: impl FnOnce(u8, Arc<KvmRunPage>) -> DebugPort) {
        self.debugger = Some(connect(self.index, Arc::clone(&self.page)));
    }

    /// The vCPU alone, set up, and the page that it shares with KVM: for who runs it in a loop of his
    /// own.
    ///
    /// # Errors
    /// Where it cannot be set up.
    pub fn into_parts(mut self) -> Result<(VcpuFd, Arc<KvmRunPage>), Error> {
        self.set_up()?;
        Ok((self.fd, self.page))
    }

    /// Makes the vCPU what the guest is to find, once.
    fn set_up(&mut self) -> Result<(), Error> {
        (self.setup.take()).map_or(Ok(()), |setup| setup.apply(&self.fd, self.index))
    }

    /// A timer for the calling thread, which is to run the vCPU, where the guest can write to a device
    /// without an exit: what it has written is found after some time although it does nothing else.
    fn timer(&self) -> Result<Option<CpuTimer>, Error> {
        let needed = !self.buses.open.is_empty();
        let timer = needed.then(|| CpuTimer::start(SIGRTMIN(), CATCH_UP));
        timer.transpose().map_err(cannot("start a vCPU's timer"))
    }

    /// Runs the guest until it ends, or until [`KvmRunPage::request_stop`], which is `None`.
    fn run(mut self) -> Option<StopReason> {
        if let Some(debugger) = &self.debugger {
            debugger.enter();
        }
        loop {
            match self.step() {
                Action::Continue => {}
                Action::SetAside(write) => self.set_aside = Some(write),
                Action::Stop => return None,
                Action::Debug(why) => self.fd = stop(self.debugger.as_ref(), self.fd, why)?,
                Action::Exit(value) => return Some(StopReason::Exited(value)),
                Action::Reset => return Some(StopReason::Reset),
                Action::Fail(error) => return Some(StopReason::Failed(error)),
                Action::Crash(reason) => {
                    let why = DebugStop::Crash(reason);
                    self.fd = stop(self.debugger.as_ref(), self.fd, why)?;
                    let crash = Crash::capture(reason, self.index, &self.fd, &self.memory);
                    return Some(StopReason::Crashed(Box::new(crash)));
                }
            }
        }
    }

    /// Runs the guest up to the next exit, and handles that.
    fn step(&mut self) -> Action {
        let page = &self.page;
        if let Some(write) = self.set_aside.take_if(|_| !page.is_pause_requested()) {
            return write.go_on(&self.buses.mmio, page);
        }
        let mut exit = self.fd.run();
        let site = ExitSite::of(&exit);
        probe!(
            vmm,
            exit,
            self.index,
            site.kind as u8,
            site.address.unwrap_or(0)
        );
        if self.observers.is_empty() {
            return handle(&self.buses, &mut exit, &self.page);
        }
        for observer in &mut self.observers {
            observer.begins(site);
        }
        let action = handle(&self.buses, &mut exit, &self.page);
        let handled = HandledExit::new(site, observe::data(&exit), &self.fd);
        for observer in &mut self.observers {
            observer.ends(&handled);
        }
        action
    }
}

/// Lets the `debugger`, if there is one, have the vCPU `fd` for a while: `None` when it does not come
/// back.
fn stop(debugger: Option<&DebugPort>, fd: VcpuFd, why: DebugStop) -> Option<VcpuFd> {
    match debugger {
        Some(debugger) => debugger.stop(fd, why),
        None => Some(fd),
    }
}

/// Handles what KVM_RUN has returned with, which may be an error that is none.
fn handle(
    buses: &Buses,
    exit: &mut Result<VcpuExit<'_>, kvm_ioctls::Error>,
    page: &KvmRunPage,
) -> Action {
    match exit {
        Ok(exit) => handle_exit(buses, exit, page),
        Err(error) => match error.errno() {
            libc::EINTR if page.is_stop_requested() => Action::Stop,
            libc::EINTR if page.is_pause_requested() => Action::Debug(DebugStop::Asked),
            // Most often the timer's.
            libc::EINTR => match buses.catch_up() {
                Ok(()) => Action::Continue,
                Err(error) => Action::Fail(error.into()),
            },
            // The vCPU waited to be started, and has got something to look at.
            libc::EAGAIN => Action::Continue,
            _ => Action::Fail(failed_to("run the vCPU")(*error).into()),
        },
    }
}

/// The threads that run the vCPUs of a machine, `vcpu0` and on. Dropping this stops them all and
/// waits for them.
#[derive(Debug)]
pub struct VcpuThreads {
    threads: Vec<VcpuThread>,
    stop: StopEvent,
}

#[derive(Debug)]
struct VcpuThread {
    page: Arc<KvmRunPage>,
    thread: JoinHandle<()>,
}

impl VcpuThreads {
    /// Starts threads for `vcpus`, which set them up, enter `sandbox`, and run the guest as soon as
    /// that is closed. How the run ends for each of them goes to `reasons`. Their threads may block on
    /// `stop`.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn spawn(
        vcpus: Vec<Vcpu>,
        sandbox: &mut Sandbox,
        stop: StopEvent,
        reasons: &Sender<StopReason>,
    ) -> Result<Self, Error> {
        let mut all = Self::none(stop)?;
        for mut vcpu in vcpus {
            let (index, page, reasons) = (vcpu.index, Arc::clone(&vcpu.page), reasons.clone());
            let ticket = sandbox.ticket(ThreadKind::Vcpu);
            all.add(index, page, move || {
                let _timer = match vcpu.set_up().and_then(|()| vcpu.timer()) {
                    Ok(timer) => timer,
                    Err(error) => return ticket.refuse(error),
                };
                if !ticket.enter_and_wait() {
                    return;
                }
                if let Some(reason) = vcpu.run() {
                    // Nobody listens any more when the machine has stopped for another reason.
                    let _ = reasons.send(reason);
                }
            })?;
        }
        Ok(all)
    }

    /// No threads yet. Those to come may block on `stop`.
    ///
    /// # Errors
    /// Where the signal that stops them cannot be handled.
    pub fn none(stop: StopEvent) -> Result<Self, Error> {
        register_signal_handler(SIGRTMIN(), ignore)
            .map_err(|error| cannot("handle the signal that stops a vCPU")(io_error(error)))?;
        Ok(Self {
            threads: Vec::new(),
            stop,
        })
    }

    /// Starts the thread of vCPU `index`, whose page is `page`. It does `run`, which must end when
    /// KVM_RUN has returned EINTR and [`KvmRunPage::is_stop_requested`].
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn add(
        &mut self,
        index: u8,
        page: Arc<KvmRunPage>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        let thread = Builder::new()
            .name(format!("vcpu{index}"))
            .spawn(move || {
                // Whoever started this process may have left it blocked.
                if let Err(error) = unblock_signal(SIGRTMIN()) {
                    log::error!("cannot unblock the signal that stops a vCPU: {error:?}");
                }
                run();
            })
            .map_err(cannot("start a vCPU's thread"))?;
        self.threads.push(VcpuThread { page, thread });
        Ok(())
    }
}

impl Drop for VcpuThreads {
    /// The flag comes before the signal, so that no moment is lost: a thread that the signal meets
    /// outside KVM_RUN finds the flag when it enters next, and one that it meets inside returns
    /// because of the signal. A signal alone would be lost in the first case, a flag alone in the
    /// second. The event is for a thread that waits for room in the output.
    ///
    /// All are told before the first is waited for, since one may wait for a device that another
    /// keeps busy.
    fn drop(&mut self) {
        self.stop.set();
        for vcpu in &self.threads {
            vcpu.page.request_stop();
            if let Err(error) = vcpu.thread.kill(SIGRTMIN()) {
                log::error!("cannot signal a vCPU's thread: {error}");
            }
        }
        for vcpu in self.threads.drain(..) {
            // A panic has been reported by the hook that reports them all.
            let _ = vcpu.thread.join();
        }
    }
}

/// Handles the signal that stops a vCPU: that it interrupts KVM_RUN is all it is for.
extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn io_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
