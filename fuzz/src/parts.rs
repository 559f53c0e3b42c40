//! What the harness is made of: a device on a disk in memory, in a notify mode, with an interrupt
//! that is counted.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::{Block, BlockOptions, FailureHandler, NotifyMode, StartHook};
use devices::virtio::{Interrupt, MmioTransport, RegisterPage};
use log::{LevelFilter, Log, Metadata, Record};
use spec::block::ID_SIZE;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::window::Window;

/// Size of the disk, in sectors.
pub const SECTORS: u64 = 64;
/// What GET_ID answers.
const ID: &str = "fuzz";
/// What the disk holds at the start: bytes that differ between sectors.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..SECTORS * 512)
        .map(|i| (i % 251 + i / 512) as u8)
        .collect()
});

/// Counts the edges of an interrupt.
#[derive(Debug, Default)]
pub struct Edges(AtomicU64);

impl Edges {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Interrupt for Edges {
    fn signal(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Takes what the device logs of its guest, for the message to be made, and to be a line.
struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args().to_string();
        assert!(
            !message.contains(char::is_control),
            "not a line: {message:?}"
        );
    }

    fn flush(&self) {}
}

/// Who serves the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Trap,
    /// The same for a guest that has the registers for memory.
    Mapped,
    IoEventFd,
    Poll,
}

/// A device and its surroundings.
pub struct Parts {
    pub transport: MmioTransport,
    /// What a guest could read in place of the registers.
    pub page: Arc<RegisterPage>,
    /// What a guest has in place of the registers, if it has.
    pub window: Option<Window>,
    pub backend: MemoryBackend,
    pub edges: Arc<Edges>,
    /// What notifies the queues of a device that has threads.
    pub kicks: Vec<EventFd>,
}

impl Parts {
    /// A new device with so many queues, which are in `memory`.
    pub fn new((mode, queues): (Mode, usize), read_only: bool, memory: GuestMemoryMmap) -> Self {
        // Another device may have set it.
        let _ = log::set_logger(&Lines);
        log::set_max_level(LevelFilter::Trace);
        let on_failure = FailureHandler::new(|error| panic!("the device's thread: {error}"));
        let mut kicks = Vec::new();
        let mut notify_mode = || {
            if matches!(mode, Mode::Trap | Mode::Mapped) {
                return NotifyMode::Trap;
            }
            let kick = EventFd::new(0).unwrap();
            kicks.push(kick.try_clone().unwrap());
            let (on_start, on_failure) = (StartHook::default(), on_failure.clone());
            match mode {
                Mode::Poll => NotifyMode::Poll {
                    kick,
                    on_start,
                    on_failure,
                    idle_limit: Duration::from_micros(50),
                },
                _ => NotifyMode::IoEventFd {
                    kick,
                    on_start,
                    on_failure,
                },
            }
        };
        let options = BlockOptions {
            read_only,
            id: ID.into(),
            notify: (0..queues).map(|_| notify_mode()).collect(),
        };
        let backend = MemoryBackend::new(CONTENT.clone());
        let block = Block::new(Box::new(backend.clone()), options).unwrap();
        let edges = Arc::new(Edges::default());
        let page = Arc::new(RegisterPage::default());
        let window = (mode == Mode::Mapped).then(|| Window::on(&page));
        Self {
            transport: MmioTransport::on_page(
                memory,
                Box::new(block),
                edges.clone(),
                Arc::clone(&page),
            ),
            page,
            window,
            backend,
            edges,
            kicks,
        }
    }
}

/// What GET_ID must answer.
pub fn id() -> [u8; ID_SIZE] {
    let mut id = [0; ID_SIZE];
    id[..ID.len()].copy_from_slice(ID.as_bytes());
    id
}
