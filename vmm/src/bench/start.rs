//! What it costs to start a machine: the time from exec to the guest's first serial byte, and the
//! memory that is not the guest's, each beside those of `bare`. This program is executed anew for
//! each figure; nothing is measured in this process.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};

use super::bare::{BYTE, FLOOR, MEMORY};
use super::error::{BenchError, cannot};
use super::progress::Progress;
use super::report::{Series, Start, Target};

/// How a start is measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Whether few samples will do: to see that it works, not what it costs.
    pub quick: bool,
}

/// A kernel that writes to COM1 until nobody reads: MOV DX, 0x3f8; MOV AL, '!'; OUT DX, AL; JMP to
/// the OUT. One that halted would be left behind by a benchmark that is killed.
const KERNEL: [u8; 9] = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'!', 0xee, 0xeb, 0xfd];
/// How long the byte may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How many starts there are of each program.
const STARTS: u64 = 20;
const QUICK_STARTS: u64 = 3;

/// Measures the start of this program.
///
/// # Errors
/// Where it cannot be executed, or its guest does not come to write.
pub fn measure(options: &StartOptions, progress: &mut dyn Progress) -> Result<Start, BenchError> {
    measure_program(Path::new("/proc/self/exe"), options, progress)
}

/// Measures the start of `program`, which is this one.
///
/// # Errors
/// As for [`measure`].
pub fn measure_program(
    program: &Path,
    options: &StartOptions,
    progress: &mut dyn Progress,
) -> Result<Start, BenchError> {
    let mut file = memfd_create("kernel", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(cannot("make a file in memory"))?;
    file.write_all(&KERNEL)
        .map_err(cannot("write a file in memory"))?;
    let kernel = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let run = |args: &[&str]| Started::new(program, args);
    let vmm = || run(&["--kernel", &kernel]);
    let floor = || run(&[FLOOR, &kernel]);
    let exec = || run(&[BYTE]);

    let starts = if options.quick { QUICK_STARTS } else { STARTS };
    progress.begin("start", starts);
    // What the host has to do once for all of them is not to be the first one's.
    vmm()?;
    let (mut vmm_times, mut floor_times, mut exec_times) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..starts {
        progress.step("exec to first byte");
        vmm_times.push(vmm()?.nanos());
        floor_times.push(floor()?.nanos());
        exec_times.push(exec()?.nanos());
    }
    Ok(Start {
        vmm: Series::new(vmm_times),
        floor: Series::new(floor_times),
        exec: Series::new(exec_times),
        resident: vmm()?.resident()?,
        floor_resident: floor()?.resident()?,
    })
}

/// What a start was to cost.
#[must_use]
pub fn targets(start: &Start) -> Vec<Target> {
    let time = start.vmm.ratio(&start.floor).map(|ratio| Target {
        name: "exec to the guest's first serial byte".into(),
        value: ratio.summary.median,
        limit: 1.1,
        unit: String::new(),
        from: "Median, over all rounds, of the time of this program divided by that of a minimal \
               one that makes the same VM in the same round."
            .into(),
    });
    let memory = Target {
        name: "memory of the VMM".into(),
        value: start.resident as f64 / f64::from(1 << 20),
        limit: 3.0,
        unit: "MiB".into(),
        from: "Peak of the resident memory of a machine whose guest has begun to write, less the \
               pages of its RAM that have been touched."
            .into(),
    };
    time.into_iter().chain([memory]).collect()
}

/// A process whose guest, or which itself, has written its first byte. It is killed when this is
/// dropped.
struct Started {
    child: Child,
    time: Duration,
}

impl Started {
    fn new(program: &Path, args: &[&str]) -> Result<Self, BenchError> {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let begin = Instant::now();
        let child = command
            .spawn()
            .map_err(cannot("execute this program again"))?;
        let mut started = Self {
            child,
            time: Duration::ZERO,
        };
        started.wait_for_byte()?;
        started.time = begin.elapsed();
        Ok(started)
    }

    fn wait_for_byte(&mut self) -> Result<(), BenchError> {
        let Some(stdout) = &mut self.child.stdout else {
            return Ok(());
        };
        let limit = Timespec::try_from(LIMIT).unwrap_or_default();
        let ready = poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&limit))
            .map_err(cannot("wait for a guest's first byte"))?;
        if ready == 0 {
            return Err(BenchError::Timeout {
                what: "write its first byte",
                limit: LIMIT,
                console: String::new(),
            });
        }
        let read = stdout
            .read(&mut [0])
            .map_err(cannot("read a guest's first byte"))?;
        if read == 0 {
            Err(self.failed())
        } else {
            Ok(())
        }
    }

    /// Why the process has ended without a byte: it has said so.
    fn failed(&mut self) -> BenchError {
        let mut message = String::new();
        if let Some(stderr) = &mut self.child.stderr
            && let Err(error) = stderr.read_to_string(&mut message)
        {
            return cannot("read what this program says when executed again")(error);
        }
        let line = message.lines().next().unwrap_or("it says nothing");
        BenchError::Unsupported(format!("executed again, this program fails: {line}"))
    }

    fn nanos(&self) -> f64 {
        self.time.as_nanos() as f64
    }

    /// The most memory that the process has had at once, less what there is of its guest's RAM.
    fn resident(&self) -> Result<u64, BenchError> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{}/{name}", self.child.id()))
                .map_err(cannot("read how much memory a process has"))
        };
        resident(&read("status")?, &read("smaps")?, MEMORY as u64).ok_or_else(|| {
            BenchError::Unsupported("the host does not tell how much memory a process has".into())
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Both fail where it has ended and been waited for, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// VmHWM of `status`, less Rss of the first mapping in `smaps` that is at least `ram` bytes long: the
/// kernel may have joined it with the few pages of a thread's stack next to it. In bytes.
fn resident(status: &str, smaps: &str, ram: u64) -> Option<u64> {
    let peak = status.lines().find_map(|line| kilobytes(line, "VmHWM:"))?;
    let is_ram = |line: &&str| kilobytes(line, "Size:").is_some_and(|size| size >= ram >> 10);
    let mut mapping = smaps.lines().skip_while(|line| !is_ram(line));
    let touched = mapping.find_map(|line| kilobytes(line, "Rss:"))?;
    Some(peak.saturating_sub(touched) << 10)
}

fn kilobytes(line: &str, name: &str) -> Option<u64> {
    let value = line.strip_prefix(name)?.strip_suffix("kB")?;
    value.trim().parse().ok()
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
