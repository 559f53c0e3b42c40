//! A disk that does what a test tells it to: fails, counts, waits, or calls back.

use std::io;
use std::sync::{Arc, Mutex};

use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::{BlockBackend, TransferError};
use vm_memory::VolatileSlice;

/// What a [`HookedBackend`] does besides its work.
#[derive(Default)]
pub struct Hooks {
    /// Fails the next transfers after as many bytes as this, with this error.
    pub fail_transfer: Option<(usize, io::ErrorKind)>,
    /// Fails the next flushes with this error.
    pub fail_flush: Option<io::ErrorKind>,
    /// How often a flush was asked for.
    pub flushes: u32,
    /// Called before each read.
    pub before_read: Option<Box<dyn FnMut() + Send>>,
    /// Called before zeros are made the next time.
    pub before_zeroes: Option<Box<dyn FnOnce() + Send>>,
}

/// A disk in memory with hooks.
pub struct HookedBackend {
    pub disk: MemoryBackend,
    pub hooks: Arc<Mutex<Hooks>>,
}

impl HookedBackend {
    fn transfer(
        &self,
        slices: &[VolatileSlice<'_>],
        transfer: impl Fn(&MemoryBackend, &[VolatileSlice<'_>]) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let failure = self.hooks.lock().unwrap().fail_transfer;
        let Some((bytes, kind)) = failure else {
            return transfer(&self.disk, slices);
        };
        let mut left = bytes;
        let first: Vec<_> = slices
            .iter()
            .map(|slice| {
                let len = slice.len().min(left);
                left -= len;
                slice.subslice(0, len).unwrap()
            })
            .collect();
        assert_eq!(
            left, 0,
            "a transfer that is shorter than what it was to fail after"
        );
        transfer(&self.disk, &first)?;
        Err(TransferError {
            transferred: bytes as u64,
            source: kind.into(),
        })
    }
}

impl BlockBackend for HookedBackend {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.size()
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        // Taken out, so that the hooks can be reached while it runs.
        let hook = self.hooks.lock().unwrap().before_read.take();
        if let Some(mut hook) = hook {
            hook();
            self.hooks.lock().unwrap().before_read = Some(hook);
        }
        self.transfer(slices, |disk, slices| disk.read_at(slices, position))
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.transfer(slices, |disk, slices| disk.write_at(slices, position))
    }

    fn flush(&self) -> io::Result<()> {
        let mut hooks = self.hooks.lock().unwrap();
        hooks.flushes += 1;
        match hooks.fail_flush {
            Some(kind) => Err(kind.into()),
            None => self.disk.flush(),
        }
    }

    fn zero_unwritten(&self, _position: u64, _len: u64, _unmap: bool) -> io::Result<()> {
        let hook = self.hooks.lock().unwrap().before_zeroes.take();
        if let Some(hook) = hook {
            hook();
        }
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The default disk with hooks that do nothing yet.
pub fn hooked() -> (HookedBackend, Arc<Mutex<Hooks>>) {
    let hooks = Arc::new(Mutex::new(Hooks::default()));
    let backend = HookedBackend {
        disk: super::default_disk(),
        hooks: Arc::clone(&hooks),
    };
    (backend, hooks)
}
