//! What `vmm explain` does: runs a machine that is watched, until the story of a read and a write is
//! told or cannot go on, and hands the story to whoever shows it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::disk::BuiltInDisk;
use super::handler;
use super::html;
use super::recorder::Recorder;
use super::story::Story;
use super::symbols::Symbols;
use super::tell::{self, Subject};
use super::text;
use super::watch::Watcher;
use crate::config::{DiskConfig, Registers, VmConfig};
use crate::error::cannot;
use crate::layout;
use crate::output::{self, WriteError};
use crate::sandbox::{Sandbox, ThreadKind};
use crate::signals::{HeldSignals, SignalThread};
use crate::stop::StopReason;
use crate::vm::{Disks, Vm};

/// How often it is looked whether the guest still does something.
const LOOK: Duration = Duration::from_millis(20);
/// For how long a guest may do nothing that can be seen.
pub const SILENCE: Duration = Duration::from_secs(30);
/// For how long a guest that has been told of its last request is waited for to say that it goes on.
const LAST_WORD: Duration = Duration::from_secs(3);

/// What to tell, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The machine; its one disk, if the user has one, is the story's.
    pub config: VmConfig,
    /// Where the story goes as JSON, if anywhere.
    pub json: Option<JsonOutput>,
    /// The file for the page, if there is to be one.
    pub html: Option<PathBuf>,
}

/// Where JSON goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonOutput {
    /// To stdout, in place of the text.
    Stdout,
    /// To a file.
    File(PathBuf),
}

/// How it ended.
#[derive(Debug)]
pub enum Ending {
    /// The story is told.
    Told,
    /// The guest has ended, or has been ended, before that.
    Cut(Cut),
}

/// A story that is not told to its end.
#[derive(Debug)]
pub struct Cut {
    /// Why; `None` where the guest was silent for [too long](SILENCE).
    pub reason: Option<StopReason>,
    /// How far it came, as the end of a sentence.
    pub came: &'static str,
    /// What the guest wrote to its console last.
    pub console: String,
}

/// Why there is no story.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The machine could not be built or started.
    #[error(transparent)]
    Machine(#[from] crate::error::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is nowhere to show it.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    /// It cannot be put into JSON.
    #[error("writing the story as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Does what `request` asks for; the text, or the JSON in place of it, goes to `out`. The machine ends
/// with the first of the reasons, if the story is not told before.
///
/// # Errors
/// See [`ExplainError`].
pub fn run(
    request: &Request,
    (sender, reasons): (Sender<StopReason>, Receiver<StopReason>),
    out: &mut dyn Write,
) -> Result<Ending, ExplainError> {
    let json_file = match &request.json {
        Some(JsonOutput::File(path)) => Some(path),
        _ => None,
    };
    for path in json_file.into_iter().chain(&request.html) {
        output::check(path)?;
    }
    let (story, ending) = follow(&request.config, &sender, &reasons)?;
    let text = match &request.json {
        Some(JsonOutput::Stdout) => output::json(&story)?,
        _ => text::render(&story).into_bytes(),
    };
    out.write_all(&text)
        .and_then(|()| out.flush())
        .map_err(ExplainError::Stdout)?;
    if let Some(path) = json_file {
        output::write(path, &output::json(&story)?)?;
    }
    if let Some(path) = &request.html {
        output::write(path, html::page(&story)?.as_bytes())?;
    }
    Ok(ending)
}

/// Runs the machine of `config` as far as its story goes.
fn follow(
    config: &VmConfig,
    sender: &Sender<StopReason>,
    reasons: &Receiver<StopReason>,
) -> Result<(Story, Ending), ExplainError> {
    let held = HeldSignals::hold()?;
    let mut config = config.clone();
    let built_in = match config.disks.is_empty() {
        true => Some(BuiltInDisk::new().map_err(cannot("make the built-in disk"))?),
        false => None,
    };
    let disk = built_in.as_ref().map(BuiltInDisk::path);
    let disk = disk.map(|path| DiskConfig::new(path, "built-in"));
    config.disks.extend(disk);
    let symbols = match &config.kernel {
        None => Symbols::built_in(),
        Some(path) => Symbols::of_file(path),
    };
    let (window, registers) = match config.disks.first() {
        Some(disk) => (disk.window(0), disk.registers),
        None => (layout::virtio_mmio(0), Registers::Trap),
    };
    let subject = Subject {
        window,
        has_symbols: !symbols.is_empty(),
        is_built_in: built_in.is_some(),
    };
    let recorder = Recorder::new(subject.window, registers, symbols);
    let mut watcher = Watcher::new(recorder, sender.clone());
    let vm = Vm::observed(&config, Box::new(io::sink()), sender, &mut watcher)?;
    let memory = vm.memory().clone();
    watcher.recorder().set_memory(memory.clone());

    let mut sandbox = Sandbox::new(config.sandbox).map_err(crate::error::Error::from)?;
    let ticket = sandbox.ticket(ThreadKind::Listener);
    // No story is of a disk that gets another size: each signal ends it.
    let signals = SignalThread::spawn(held, sender.clone(), None, Disks::default(), ticket)?;
    sandbox.close()?;
    let running = vm.start(sender)?;
    let mut vector = None;
    // As long as it can be seen: a guest that switches itself off masks its interrupts first.
    let reason = wait(&watcher, reasons, || {
        vector = handler::vector(running.vm(), subject.window.gsi).or(vector);
    });
    drop(running);
    drop(signals);

    let mut recorder = watcher.recorder();
    recorder.close();
    if let Some(vector) = vector {
        recorder.set_vector(vector);
    }
    let story = tell::story(&config, &memory, &subject, &recorder);
    let ending = match tell::missing(&recorder) {
        None => Ending::Told,
        Some(came) => Ending::Cut(Cut {
            reason,
            came,
            console: recorder.console.text(),
        }),
    };
    Ok((story, ending))
}

/// Waits until there is no more to see, and has a `look` at the machine now and then, at the end too:
/// `None` where the guest just does nothing any more.
fn wait(
    watcher: &Watcher,
    reasons: &Receiver<StopReason>,
    mut look: impl FnMut(),
) -> Option<StopReason> {
    let (mut exits, mut heard) = (0, Instant::now());
    let mut told = None;
    loop {
        let reason = reasons.recv_timeout(LOOK);
        look();
        match reason {
            Ok(reason) => return Some(reason),
            Err(RecvTimeoutError::Disconnected) => return Some(StopReason::Panicked),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let recorder = watcher.recorder();
        if recorder.exits != exits {
            (exits, heard) = (recorder.exits, Instant::now());
        }
        if recorder.is_told() {
            let since = *told.get_or_insert_with(Instant::now);
            if since.elapsed() >= LAST_WORD {
                return None;
            }
        }
        if heard.elapsed() >= SILENCE {
            return None;
        }
    }
}
