//! The process: arguments in, one machine run, and its end as an exit status and at most one
//! message. What a machine is, is the library's.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};

use vmm::cli::{self, Command, NoRun};
use vmm::config::VmConfig;
use vmm::error::Error;
use vmm::logger::{self, say};
use vmm::stop::StopReason;
use vmm::trace::Trace;
use vmm::vm::Vm;

/// The command line is wrong.
const USAGE: u8 = 2;
/// The highest value of the debug-exit port that is a status.
const MAX_GUEST_STATUS: u8 = 124;
/// An error of the VMM.
const VMM_ERROR: u8 = 125;
/// The guest crashed.
const GUEST_CRASH: u8 = 126;
/// Added to the number of the signal that ended the VMM.
const SIGNALLED: u8 = 128;

fn main() -> ExitCode {
    #[cfg(feature = "bench")]
    if let Some(status) = vmm::bench::bare::enter(std::env::args_os()) {
        return status;
    }
    use_one_heap();
    // A panic has said why; it must not leave by a status that could be the guest's.
    let status = std::panic::catch_unwind(run).unwrap_or(VMM_ERROR);
    ExitCode::from(status)
}

/// Has all threads allocate from one heap: few do anything of the kind once a guest runs, and one of
/// its own would cost each of them a mapping and its first pages at the start.
fn use_one_heap() {
    // SAFETY: the call takes plain numbers, and there is no other thread yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

fn run() -> u8 {
    if let Err(error) = logger::init() {
        say(&format!("cannot log: {error}"));
        return VMM_ERROR;
    }
    match cli::parse(std::env::args_os()) {
        Ok(Command::Run(config)) => run_machine(&config),
        #[cfg(feature = "bench")]
        Ok(Command::Bench(request)) => bench(&request),
        #[cfg(feature = "explain")]
        Ok(Command::Explain(request)) => explain(&request),
        Err(NoRun::Text(text)) => print(&text),
        Err(NoRun::Wrong(line)) => {
            say(&line);
            USAGE
        }
    }
}

#[cfg(feature = "bench")]
fn bench(request: &vmm::bench::Request) -> u8 {
    match vmm::bench::run(request, &mut io::stdout()) {
        Ok(()) => 0,
        Err(error) => {
            say(&error.to_string());
            VMM_ERROR
        }
    }
}

#[cfg(feature = "explain")]
fn explain(request: &vmm::explain::Request) -> u8 {
    use vmm::explain::run::SILENCE;
    use vmm::explain::{Cut, Ending};
    let (sender, reasons) = mpsc::channel();
    stop_on_panic(sender.clone());
    match vmm::explain::run(request, (sender, reasons), &mut io::stdout()) {
        Ok(Ending::Told) => 0,
        Ok(Ending::Cut(Cut {
            reason,
            came,
            console,
        })) => {
            // When stderr is gone there is nobody left to tell.
            let _ = io::stderr().write_all(console.as_bytes());
            let silent = match reason {
                None => format!(", by a guest that did nothing for {SILENCE:?}"),
                Some(_) => String::new(),
            };
            say(&format!("explain: the story ended {came}{silent}"));
            match reason.map(status) {
                None | Some(0) => VMM_ERROR,
                Some(status) => status,
            }
        }
        Err(error) => {
            say(&error.to_string());
            VMM_ERROR
        }
    }
}

fn run_machine(config: &VmConfig) -> u8 {
    if !config.sandbox {
        say("the sandbox is off (--no-sandbox)");
    }
    let (sender, reasons) = mpsc::channel();
    stop_on_panic(sender.clone());
    let mut vm = match Vm::new(config, &sender) {
        Ok(vm) => vm,
        Err(error) => return fail(&error),
    };
    let trace = vm.take_trace();
    let status = match vm.run((sender, reasons)) {
        Ok(reason) => status(reason),
        Err(error) => fail(&error),
    };
    match trace.map(Trace::write) {
        None | Some(Ok(0)) => status,
        Some(Ok(dropped)) => {
            say(&format!(
                "the trace is without the first {dropped} events, for which there was no room \
                 (--trace-limit)"
            ));
            status
        }
        Some(Err(error)) => fail(&error),
    }
}

/// Lets a panic of any thread, a device's too, end the machine.
fn stop_on_panic(reasons: Sender<StopReason>) {
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        // The message may hold what a guest has put there.
        say(&format!("thread '{name}' {info}").replace(":\n", ": "));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            let _ = write!(io::stderr(), "{backtrace}");
        }
        // Nobody listens any more when the machine has stopped for another reason.
        let _ = reasons.send(StopReason::Panicked);
    }));
}

fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("cannot write to stdout: {error}"));
            VMM_ERROR
        }
    }
}

/// The exit status for `reason`, and its message if it has one.
fn status(reason: StopReason) -> u8 {
    match reason {
        StopReason::Exited(value) => match u8::try_from(value) {
            Ok(status) if status <= MAX_GUEST_STATUS => status,
            _ => {
                say(&format!(
                    "the guest ended with {value}, which is no exit status: {MAX_GUEST_STATUS} is"
                ));
                MAX_GUEST_STATUS
            }
        },
        StopReason::Reset | StopReason::Quit => 0,
        StopReason::Signal(number) => SIGNALLED.saturating_add(number.try_into().unwrap_or(0)),
        StopReason::Failed(error) => fail(&error),
        StopReason::Panicked => VMM_ERROR,
        StopReason::Crashed(crash) => {
            let (vcpu, reason) = (crash.vcpu, crash.reason);
            say(&format!("the guest crashed on vCPU {vcpu}: {reason}"));
            // When stderr is gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "{crash}");
            GUEST_CRASH
        }
    }
}

fn fail(error: &Error) -> u8 {
    say(&error.to_string());
    VMM_ERROR
}
