use std::io;
use std::sync::Arc;

use spec::block::config::{BLK_SIZE, CYLINDERS, OPT_IO_SIZE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, VolatileSlice};

use super::backend::MemoryBackend;
use super::*;
use crate::interrupt::Interrupt;
use crate::virtio::InterruptState;
use crate::virtio::queue::{QueueLayout, QueueRegisters};

fn block(id: &str, read_only: bool) -> Result<Block, BlockError> {
    on(MemoryBackend::new(vec![0; 4096]), id, read_only)
}

fn on(
    backend: impl BlockBackend + 'static,
    id: &str,
    read_only: bool,
) -> Result<Block, BlockError> {
    let options = BlockOptions {
        read_only,
        id: id.to_owned(),
        notify: vec![NotifyMode::Trap],
    };
    Block::new(Box::new(backend), options)
}

#[test]
fn an_id_of_20_bytes_fits_and_one_of_21_is_refused() {
    block(&"x".repeat(20), false).unwrap();
    let long = "x".repeat(21);
    let error = block(&long, false).unwrap_err();
    assert!(matches!(error, BlockError::IdTooLong(id) if id == long));
}

#[test]
fn an_id_that_is_not_printable_ascii_is_refused() {
    for id in ["nul\0", "tab\t", "ünicode", "\n"] {
        let error = block(id, false).unwrap_err();
        assert!(matches!(error, BlockError::IdNotPrintable(refused) if refused == id));
    }
    block("", false).unwrap();
    block("disk 0 (main)", false).unwrap();
}

#[test]
fn only_a_read_only_disk_offers_ro() {
    let offers = |read_only| {
        let block = block("", read_only).unwrap();
        block.features().contains(Features::VIRTIO_BLK_F_RO)
    };
    assert!(offers(true));
    assert!(!offers(false));
}

#[test]
fn the_capacity_is_in_sectors() {
    let mut capacity = [0; 8];
    block("", false).unwrap().read_config(&mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 8);
}

#[test]
fn the_geometry_is_that_of_an_ide_disk() {
    for (sectors, cylinders) in [(1, 1_u16), (2015, 1), (2016, 2), (1 << 40, 16383)] {
        let block = shaped(sectors, Topology::of_blocks(512));
        let mut space = [0; CYLINDERS as usize + 4];
        block.read_config(&mut space);
        let [low, high] = cylinders.to_le_bytes();
        assert!(space.ends_with(&[low, high, 16, 63]), "{space:x?}");
    }
}

/// What a device tells of its blocks: the logical size, the exponent of the physical one, and the
/// least that is best asked for at once.
fn blocks(block: &Block) -> (u32, u8, u16) {
    let mut space = [0; BLK_SIZE as usize + 8];
    block.read_config(&mut space);
    let [.., a, b, c, d, exponent, _, e, f] = space;
    let blk_size = u32::from_le_bytes([a, b, c, d]);
    (blk_size, exponent, u16::from_le_bytes([e, f]))
}

/// A disk that has a size and blocks, and nothing on it.
struct Shaped {
    sectors: u64,
    topology: Topology,
}

impl BlockBackend for Shaped {
    fn capacity(&self) -> u64 {
        self.sectors
    }

    fn topology(&self) -> Topology {
        self.topology
    }

    fn read_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        Ok(())
    }

    fn write_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn shaped(sectors: u64, topology: Topology) -> Block {
    on(Shaped { sectors, topology }, "", false).unwrap()
}

/// A disk of 8 sectors with physical blocks of 4096 bytes.
fn coarse() -> Block {
    shaped(8, Topology::of_blocks(4096))
}

#[test]
fn blocks_are_sectors_unless_the_user_or_the_backend_has_larger_ones() {
    assert_eq!(blocks(&block("", false).unwrap()), (512, 0, 1));
    assert_eq!(blocks(&coarse()), (512, 3, 8));
    for (size, told) in [
        (512, (512, 3, 8)),
        (1024, (1024, 2, 4)),
        (4096, (4096, 0, 1)),
    ] {
        assert_eq!(blocks(&coarse().with_block_size(size).unwrap()), told);
    }
    let fine = block("", false).unwrap().with_block_size(4096).unwrap();
    assert_eq!(blocks(&fine), (4096, 0, 1));
}

#[test]
fn what_the_backend_says_of_blocks_is_told_in_those_of_the_guest() {
    let told = |topology, size| {
        let block = shaped(1 << 20, topology);
        let mut space = [0; OPT_IO_SIZE as usize + 4];
        block.with_block_size(size).unwrap().read_config(&mut space);
        let [.., exponent, offset, a, b, c, d, e, f] = space;
        let (min_io, opt_io) = (u16::from_le_bytes([a, b]), u32::from_le_bytes([c, d, e, f]));
        (exponent, offset, min_io, opt_io)
    };
    let topology = Topology {
        physical_block: 4096,
        alignment_offset: 3584,
        min_io: 64 << 10,
        opt_io: 1 << 20,
    };
    assert_eq!(told(topology, 512), (3, 7, 128, 2048));
    // An offset that is none of whole blocks cannot be told.
    assert_eq!(told(topology, 4096), (0, 0, 16, 256));
    let odd = Topology {
        min_io: 1000,
        opt_io: 33_553_920,
        ..Topology::of_blocks(512)
    };
    assert_eq!(told(odd, 512), (0, 0, 0, 65_535));
    assert_eq!(told(odd, 4096), (0, 0, 1, 0));
}

#[test]
fn blocks_that_the_disk_cannot_be_made_of_are_refused() {
    for size in [0, 1, 256, 513, 1000, 8192, 1 << 31] {
        let error = coarse().with_block_size(size).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a disk of 8 sectors is not made of blocks of {size} bytes")
        );
    }
}

#[test]
fn the_thread_is_there_before_the_driver_is_and_begins_with_the_hook() {
    let (told, began) = std::sync::mpsc::channel();
    let name = || std::thread::current().name().map(str::to_owned);
    let options = BlockOptions {
        read_only: false,
        id: "a".to_owned(),
        notify: vec![NotifyMode::IoEventFd {
            kick: vmm_sys_util::eventfd::EventFd::new(0).unwrap(),
            on_start: StartHook::new(move || told.send(name()).unwrap()),
            on_failure: FailureHandler::new(|error| panic!("{error}")),
        }],
    };
    let block = Block::new(Box::new(MemoryBackend::new(vec![0; 512])), options).unwrap();
    assert_eq!(began.recv().unwrap(), Some("blk a".to_owned()));
    drop(block);
}

/// A thread that has panicked has no disk to give back: whoever waits for it must not do so for ever.
#[test]
fn a_reset_after_the_thread_has_panicked_panics_and_does_not_wait() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let registers = QueueRegisters {
        num: 4,
        desc: 0x100,
        driver: 0x200,
        device: 0x300,
    };
    let (told, failed) = std::sync::mpsc::channel();
    let options = BlockOptions {
        read_only: false,
        id: String::new(),
        notify: vec![NotifyMode::IoEventFd {
            kick: vmm_sys_util::eventfd::EventFd::new(0).unwrap(),
            on_start: StartHook::default(),
            on_failure: FailureHandler::new(move |error| {
                told.send(()).unwrap();
                panic!("{error}");
            }),
        }],
    };
    let mut block = Block::new(Box::new(MemoryBackend::new(vec![0; 512])), options).unwrap();
    let layout = QueueLayout::new(&registers, QUEUE_SIZE, &memory).unwrap();
    // More heads than the queue holds: a ring that needs a reset, for which the device interrupts.
    memory.write_obj(5_u16, GuestAddress(0x202)).unwrap();
    let activation = Activation {
        memory,
        features: Features::VIRTIO_F_VERSION_1,
        queues: vec![Some(layout)],
        interrupt: Arc::new(InterruptState::new(Arc::new(Disconnected))),
    };
    block.activate(activation).unwrap();
    failed.recv().unwrap();
    let reset = std::panic::AssertUnwindSafe(|| block.reset());
    assert!(std::panic::catch_unwind(reset).is_err());
}

/// An interrupt that cannot be raised.
struct Disconnected;

impl Interrupt for Disconnected {
    fn signal(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}
