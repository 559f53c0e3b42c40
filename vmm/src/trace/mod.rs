//! `--trace`: what happened in a run, kept in memory while it runs and written to a file when it has
//! ended. What an event is worth to a reader is the parts' to know; this file has them together.

mod event;
mod exits;
mod json;
mod observers;
mod queue;
mod recording;
mod ring;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::virtio::block::observe::MakeObserver;
use thiserror::Error;

use crate::config::{TraceConfig, VmConfig};
use crate::error::Error;
use crate::observe::{ExitObserver, MachineObserver, QueueName};
use crate::stats::address::AddressMap;
use event::Clock;
use observers::{ExitTracer, QueueTracer};
use recording::Recording;
use ring::{Home, Ring};

/// Why there is no trace.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file cannot be written to.
    #[error("cannot open it for writing: {0}")]
    Open(io::Error),
    /// It is a file that the machine is made of.
    #[error("that is the file {}, which the machine is made of", .0.display())]
    Input(PathBuf),
    /// Writing it failed.
    #[error("cannot write it: {0}")]
    Write(io::Error),
}

/// Watches a machine, and keeps what it sees.
#[derive(Debug)]
pub struct Tracer {
    config: TraceConfig,
    clock: Clock,
    vcpus: Vec<(String, Home)>,
    queues: Vec<(QueueName, Home)>,
}

impl Tracer {
    /// Keeps as much as `config` says.
    #[must_use]
    pub fn new(config: &TraceConfig) -> Self {
        Self {
            config: config.clone(),
            clock: Clock::start(),
            vcpus: Vec::new(),
            queues: Vec::new(),
        }
    }

    fn home(&self) -> Home {
        Home::new(usize::try_from(self.config.limit).unwrap_or(usize::MAX))
    }

    fn error(&self, source: TraceError) -> Error {
        let path = self.config.path.clone();
        Error::Trace { path, source }
    }
}

impl MachineObserver for Tracer {
    fn queue(&mut self, name: &QueueName) -> MakeObserver {
        let (home, clock) = (self.home(), self.clock);
        self.queues.push((name.clone(), home.clone()));
        Box::new(move || Box::new(QueueTracer::new(home.writer(), clock)))
    }

    fn vcpu(&mut self, index: u8) -> Box<dyn ExitObserver> {
        let home = self.home();
        self.vcpus.push((format!("vcpu{index}"), home.clone()));
        Box::new(ExitTracer::new(home.writer(), self.clock))
    }
}

/// A trace, and the file that it goes to.
#[derive(Debug)]
pub struct Trace {
    tracer: Tracer,
    map: Arc<AddressMap>,
    file: File,
}

impl Trace {
    /// Opens the file for what `tracer` will have seen of the machine that `config` describes, with
    /// devices where `map` says, and empties it.
    ///
    /// # Errors
    /// Where that cannot be done, or the machine is made of that file, which is then as it was.
    pub fn open(tracer: Tracer, map: Arc<AddressMap>, config: &VmConfig) -> Result<Self, Error> {
        match open(&tracer.config.path, config) {
            Ok(file) => Ok(Self { tracer, map, file }),
            Err(source) => Err(tracer.error(source)),
        }
    }

    /// Writes the trace, when the machine has ended, and returns how many events of it have not been
    /// kept: the first ones.
    ///
    /// # Errors
    /// Where the file takes no more.
    pub fn write(self) -> Result<u64, Error> {
        let Self { tracer, map, file } = self;
        let recording = Recording {
            limit: tracer.config.limit,
            vcpus: take(&tracer.vcpus),
            queues: take(&tracer.queues),
        };
        match recording.write(&map, &mut BufWriter::new(file)) {
            Ok(()) => Ok(recording.dropped()),
            Err(error) => Err(tracer.error(TraceError::Write(error))),
        }
    }
}

/// What was kept of each source.
fn take<N: Clone>(homes: &[(N, Home)]) -> Vec<(N, Ring)> {
    let homes = homes.iter();
    homes
        .map(|(name, home)| (name.clone(), home.take()))
        .collect()
}

fn open(path: &Path, config: &VmConfig) -> Result<File, TraceError> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = options.open(path).map_err(TraceError::Open)?;
    let metadata = file.metadata().map_err(TraceError::Open)?;
    for input in inputs(config) {
        let same = |other: Metadata| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino());
        if fs::metadata(input).is_ok_and(same) {
            return Err(TraceError::Input(input.to_owned()));
        }
    }
    if metadata.is_file() {
        file.set_len(0).map_err(TraceError::Open)?;
    }
    Ok(file)
}

/// The files that the machine is made of.
fn inputs(config: &VmConfig) -> impl Iterator<Item = &Path> {
    let images = config.kernel.iter().chain(&config.initrd);
    let disks = config.disks.iter().map(|disk| &disk.path);
    images.chain(disks).map(PathBuf::as_path)
}
