//! What `vmm bench` does, from what the user asks for to a report shown and kept.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::block::options::{Amount, BlockOptions};
use super::block::plan::Plan;
use super::compare::compare;
use super::csv::csv;
use super::error::BenchError;
use super::exits::ExitsOptions;
use super::files::{self, FileError};
use super::format::time;
use super::host::System;
use super::html::page;
use super::linux::{self, Source};
use super::plot::PlotError;
use super::progress::Bar;
use super::report::{FORMAT, Report};
use super::start::StartOptions;
use super::text::text;
use super::worker::{self, WorkerError};
use super::{block, exits, start};
use crate::logger::printable_lines;
use crate::output::{self, WriteError};
use crate::pin::{self, PinError};
use crate::signals;
use thiserror::Error;

/// What a few instructions of arithmetic take at least where they are emulated, in nanoseconds.
const SLOW: f64 = 200.0;

// What is measured of block I/O with `--quick`.
const QUICK_DEPTHS: [u32; 2] = [1, 32];
const QUICK_QUEUES: [u32; 2] = [1, 4];
const QUICK_AMOUNT: Amount = Amount::Seconds(0.1);

/// What the user asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Something to measure.
    Measure(Box<Measurement>),
    /// Two reports to compare.
    Compare {
        /// The file of the report that is compared with.
        a: PathBuf,
        /// The file of the report that is compared.
        b: PathBuf,
        /// Where to keep the comparison.
        json: Option<PathBuf>,
    },
}

/// What is to be measured, and where the report goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Whether exits are measured.
    pub exits: bool,
    /// What block I/O is measured, if any.
    pub block: Option<BlockOptions>,
    /// Where to find what a Linux guest gets, if that is to be shown.
    pub linux: Option<Source>,
    /// Whether the start of a machine is measured.
    pub start: bool,
    /// Where the report goes, besides stdout.
    pub outputs: Outputs,
    /// Whether the vCPU that is measured has a CPU of the host for itself.
    pub pin: bool,
    /// Whether few and short samples will do.
    pub quick: bool,
}

/// Files for the report, each if it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// All of it, as [`files::read`] reads it.
    pub json: Option<PathBuf>,
    /// A row for each figure.
    pub csv: Option<PathBuf>,
    /// A page for a browser.
    pub html: Option<PathBuf>,
}

/// Why there is no report, or one that lacks something.
#[derive(Debug, Error)]
pub enum RunError {
    /// A part could not be measured.
    #[error("measuring {what}: {source}")]
    Part {
        /// The part.
        what: &'static str,
        /// Why not.
        source: BenchError,
    },
    /// The device could not be measured by itself.
    #[error("measuring the device: {0}")]
    Worker(#[from] WorkerError),
    /// A file is not as it has to be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A report cannot be kept.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The process cannot be prepared.
    #[error(transparent)]
    Process(#[from] crate::error::Error),
    /// Threads cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A plot cannot be drawn.
    #[error("drawing a plot: {0}")]
    Plot(#[from] PlotError),
    /// The figures cannot be put into CSV.
    #[error("making CSV: {0}")]
    Csv(#[from] ::csv::Error),
    /// The report cannot be put into JSON.
    #[error("making JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The report cannot be shown.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
}

/// Does what `request` says, and shows what came of it on `out`.
///
/// # Errors
/// See [`RunError`]; of several, the first. Where only a part could not be measured, shown or kept,
/// all others are first.
pub fn run(request: &Request, out: &mut dyn Write) -> Result<(), RunError> {
    match request {
        Request::Measure(measurement) => {
            signals::let_writes_fail()?;
            measurement.outputs.check()?;
            let (report, error) = measurement.measure()?;
            let mut results = vec![error.map_or(Ok(()), Err)];
            if report.has_figures() {
                results.push(show(out, &text(&report)));
                results.push(measurement.outputs.write(&report));
            }
            results.into_iter().collect()
        }
        Request::Compare { a, b, json } => {
            if let Some(path) = json {
                output::check(path)?;
            }
            let comparison = compare(&files::read(a)?, &files::read(b)?);
            if let Some(path) = json {
                output::write(path, &output::json(&comparison)?)?;
            }
            show(out, &comparison.text())
        }
    }
}

fn show(out: &mut dyn Write, text: &str) -> Result<(), RunError> {
    let text = printable_lines(text);
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(RunError::Stdout)
}

impl Outputs {
    /// Whether all can be written, before a minute has been spent on what they are to hold.
    fn check(&self) -> Result<(), WriteError> {
        let paths = [&self.json, &self.csv, &self.html];
        paths
            .into_iter()
            .flatten()
            .try_for_each(|path| output::check(path))
    }

    /// Writes each, whatever becomes of the others.
    fn write(&self, report: &Report) -> Result<(), RunError> {
        let keep = |path: &Option<PathBuf>, content: &dyn Fn() -> Result<Vec<u8>, RunError>| {
            let Some(path) = path else { return Ok(()) };
            Ok(output::write(path, &content()?)?)
        };
        let results = [
            keep(&self.json, &|| Ok(output::json(report)?)),
            keep(&self.csv, &|| Ok(csv(report)?)),
            keep(&self.html, &|| Ok(page(report)?.into_bytes())),
        ];
        results.into_iter().collect()
    }
}

impl Report {
    fn has_figures(&self) -> bool {
        self.exits.is_some() || self.block.is_some() || self.start.is_some()
    }
}

impl Measurement {
    /// Measures all of it, and says why the first part could not be measured, if one could not.
    fn measure(&self) -> Result<(Report, Option<RunError>), RunError> {
        let linux = self.linux.as_ref().map(Source::read).transpose()?;
        let system = System::new(Path::new("/"));
        let mut report = Report {
            format: FORMAT,
            host: system.describe(),
            warnings: system.warnings(),
            exits: None,
            block: None,
            linux: None,
            start: None,
            targets: Vec::new(),
        };
        report.warnings.extend(self.warnings());
        let pin = self.pin.then(pin::spare_a_cpu).transpose()?;
        if let Some(cpu) = pin {
            let fact = format!("CPU {cpu} for the vCPU that is measured, the others for all else");
            report.host.facts.push(("Pinning".into(), fact));
        }
        let before = system.stolen();
        let mut parts = Parts {
            asked: self,
            pin,
            progress: Bar::on_stderr(),
            report,
        };
        let results = [parts.exits(), parts.block(), parts.start()];
        let mut report = parts.report;
        if let Some(figures) = linux {
            report.targets.extend(linux::targets(&figures));
            report.linux = Some(figures);
        }
        let stolen = system.stolen().saturating_sub(before);
        if !stolen.is_zero() {
            report.warnings.push(format!(
                "A hypervisor took {stolen:?} of CPU time from this machine meanwhile."
            ));
        }
        report.warnings.extend(slow_guest(&report));
        Ok((report, results.into_iter().find_map(Result::err)))
    }

    /// What makes the figures less trustworthy, of this program and what the user asks for.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.quick {
            warnings.push("Few and short samples were taken (--quick): spread is wide.".into());
        }
        if cfg!(debug_assertions) {
            warnings.push("This program was built without optimization: its part is slow.".into());
        }
        warnings
    }
}

/// What is under way, and the report of what has been measured so far.
struct Parts<'m> {
    asked: &'m Measurement,
    pin: Option<usize>,
    progress: Bar,
    report: Report,
}

impl Parts<'_> {
    fn exits(&mut self) -> Result<(), RunError> {
        if self.asked.exits {
            let (pin, quick) = (self.pin, self.asked.quick);
            let measured = exits::measure(&ExitsOptions { pin, quick }, &mut self.progress)
                .map_err(part("exits"))?;
            self.report.warnings.extend(exits::warnings(&measured));
            self.report.targets.extend(exits::targets(&measured));
            self.report.exits = Some(measured);
        }
        Ok(())
    }

    fn block(&mut self) -> Result<(), RunError> {
        if let Some(options) = &self.asked.block {
            let options = match self.asked.quick {
                true => quick(options),
                false => options.clone(),
            };
            let pin = self.pin;
            let measured = options
                .plan()
                .map_err(|error| BenchError::Unsupported(error.to_string()))
                .and_then(|plan| block::measure(&Plan { pin, ..plan }, &mut self.progress))
                .map_err(part("block I/O"))?;
            self.report.targets.extend(measured.targets);
            self.report.block = Some(measured.block);
            self.report.targets.push(worker::measure()?);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), RunError> {
        if self.asked.start {
            let quick = self.asked.quick;
            let measured = start::measure(&StartOptions { quick }, &mut self.progress)
                .map_err(part("the start of a machine"))?;
            self.report.targets.extend(start::targets(&measured));
            self.report.start = Some(measured);
        }
        Ok(())
    }
}

/// `options` with little in place of what is measured where nothing is said.
fn quick(options: &BlockOptions) -> BlockOptions {
    let mut options = options.clone();
    if options.queues.is_empty() && options.is_whole() {
        options.queues = QUICK_QUEUES.into();
    }
    if options.depths.is_empty() {
        options.depths = QUICK_DEPTHS.into();
    }
    if options.amount == Amount::default() {
        options.amount = QUICK_AMOUNT;
    }
    options
}

/// Names the part that could not be measured, for `map_err`.
fn part(what: &'static str) -> impl FnOnce(BenchError) -> RunError {
    move |source| RunError::Part { what, source }
}

/// Says so where a guest's own instructions are slow.
fn slow_guest(report: &Report) -> Option<String> {
    // A few additions, or the like.
    let mut kinds = report.exits.as_ref()?.kinds.iter();
    let alu = kinds.find(|kind| kind.name == "alu")?;
    let ns = alu.cost.as_ref().ok()?.vmm.summary.median;
    (ns > SLOW).then(|| {
        format!(
            "A few instructions of a guest take {}: its instructions are emulated one by one.",
            time(ns)
        )
    })
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
