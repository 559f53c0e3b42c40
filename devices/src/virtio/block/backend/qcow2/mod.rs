//! A qcow2 image as a disk, by the crate imago. The image and its backing files are opened here, before
//! the guest is, and no other afterwards; no format is concluded from what is in a file.

mod header;
mod ordered;
mod refcounts;
mod synced;

use std::fs::File;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, Mapping, StorageExt};
use log::warn;
use spec::block::SECTOR_SIZE;
use vm_memory::VolatileSlice;

use super::file::open_locked;
use super::{BlockBackend, FileBackendError, TransferError};
use crate::locks;
pub use header::Qcow2Error;
use header::{BackingFormat, Header};
use ordered::OrderedFile;
use synced::SyncedFile;
pub use synced::{FileEvent, Recorder};

/// The most images that are behind each other.
const CHAIN_MAX: usize = 16;

/// A disk in a qcow2 image, with its backing files. All are locked as [`FileBackend`] locks its file.
///
/// What has been written is the image's once it is flushed or closed, and lost where the process is
/// killed before; the image is sound at any time (clusters may be counted that are not used).
///
/// After a flush that has failed none succeeds, as with [`FileBackend`].
///
/// [`FileBackend`]: super::FileBackend
#[derive(Debug)]
pub struct Qcow2Backend {
    /// Written by who changes where clusters are: one at a time, and nobody reads meanwhile, as that can
    /// have imago write metadata which it has no more room for.
    image: RwLock<FormatAccess<OrderedFile>>,
    synced: Arc<SyncedFile>,
    header: Header,
    read_only: bool,
}

impl Qcow2Backend {
    /// Opens the image at `path`, and the backing files that it names, read-only. A relative name is one
    /// beside the image that it is in.
    ///
    /// # Errors
    /// There is no such file, it is not such an image or of a kind that is not known (see
    /// [`Qcow2Error`]), or one of the files is in use.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, FileBackendError> {
        Ok(Self::new(
            open_qcow2(path, read_only, None, CHAIN_MAX)?,
            read_only,
        ))
    }

    /// The same, to be written; the `recorder` is told of all that is done to the image's file.
    ///
    /// # Errors
    /// The same.
    pub fn open_recorded(
        path: &Path,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Self, FileBackendError> {
        let opened = open_qcow2(path, false, Some(recorder), CHAIN_MAX)?;
        Ok(Self::new(opened, false))
    }

    fn new(opened: Opened, read_only: bool) -> Self {
        Self {
            image: RwLock::new(opened.image),
            synced: opened.synced,
            header: opened.header,
            read_only,
        }
    }

    fn shared(&self) -> RwLockReadGuard<'_, FormatAccess<OrderedFile>> {
        locks::read(&self.image)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, FormatAccess<OrderedFile>> {
        locks::write(&self.image)
    }

    fn cluster(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    /// Makes a `change` that may need clusters, to one part of this range after the other: each is of one
    /// L2 table. Where there is to be a new one, what refers to clusters that have been freed is written
    /// first, since imago may take one of them, and refers to it at once.
    fn change(
        &self,
        position: u64,
        len: u64,
        mut change: impl FnMut(&mut FormatAccess<OrderedFile>, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut image = self.exclusive();
        // An entry of 8 bytes for each cluster, in a table of one cluster.
        let of_table = self.cluster() << (self.header.cluster_bits - 3);
        let (mut at, end) = (position, position.saturating_add(len));
        while at < end {
            let index = at / of_table;
            let next = ((index + 1) * of_table).min(end);
            if !self.synced.has_table(index) {
                image.flush()?;
            }
            change(&mut image, at, next - at)?;
            at = next;
        }
        Ok(())
    }

    /// Has the clusters of this range be no data, and gives those that are wholly in it back to the file
    /// system: first, as they may be another's afterwards.
    fn unmap(
        &self,
        image: &mut FormatAccess<OrderedFile>,
        position: u64,
        len: u64,
    ) -> io::Result<()> {
        let (mut at, end) = (position, position.saturating_add(len));
        let mut is_empty = true;
        while at < end {
            let (mapping, mapped) = image.get_mapping(at, end - at)?;
            is_empty &= matches!(
                mapping,
                Mapping::Zero {
                    explicit: false,
                    ..
                }
            );
            if let Mapping::Raw {
                storage,
                offset,
                writable: true,
                ..
            } = mapping
            {
                let first = at.next_multiple_of(self.cluster()) - at;
                let whole = mapped.saturating_sub(first) / self.cluster() * self.cluster();
                if whole > 0 {
                    storage.discard(offset + first, whole)?;
                }
            }
            at += mapped.max(SECTOR_SIZE);
        }
        match is_empty {
            true => Ok(()),
            false => image.discard_to_zero(position, len),
        }
    }
}

impl BlockBackend for Qcow2Backend {
    fn capacity(&self) -> u64 {
        self.header.size / SECTOR_SIZE
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        let (vector, _mapped) = IoVectorMut::from_volatile_slice(slices);
        Ok(self.shared().readv(vector, position)?)
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        let (vector, _mapped) = IoVector::from_volatile_slice(slices);
        let left = write_in_place(&self.shared(), vector, position)?;
        let Some((mut rest, position)) = left else {
            return Ok(());
        };
        let len = rest.len();
        Ok(self.change(position, len, |image, position, len| {
            let piece;
            (piece, rest) = mem::replace(&mut rest, IoVector::new()).split_at(len);
            image.writev(piece, position)
        })?)
    }

    fn flush(&self) -> io::Result<()> {
        if !self.read_only {
            self.exclusive().flush()?;
        }
        self.synced.sync()
    }

    /// Version 2 has no clusters that read as zeros whatever is behind them.
    fn discard_granularity(&self) -> Option<u32> {
        (!self.read_only && self.header.version > 2).then(|| 1 << self.header.cluster_bits)
    }

    fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        self.zero_unwritten(position, len, true)
    }

    fn zero_unwritten(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        if self.discard_granularity().is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.change(position, len, |image, position, len| match unmap {
            true => self.unmap(image, position, len),
            false => image.write_zeroes(position, len),
        })
    }
}

impl Drop for Qcow2Backend {
    fn drop(&mut self) {
        if self.read_only {
            return;
        }
        if let Err(error) = self.exclusive().flush() {
            warn!("block: what has been written since the last flush is lost: {error}");
        }
    }
}

/// Writes the clusters that are there already, up to the first that is not: from there on, what is
/// left is given back.
fn write_in_place<'a>(
    image: &FormatAccess<OrderedFile>,
    mut vector: IoVector<'a>,
    mut position: u64,
) -> io::Result<Option<(IoVector<'a>, u64)>> {
    while !vector.is_empty() {
        let (mapping, len) = image.get_mapping(position, vector.len())?;
        let Mapping::Raw {
            storage,
            offset,
            writable: true,
            ..
        } = mapping
        else {
            return Ok(Some((vector, position)));
        };
        let (piece, rest) = vector.split_at(len);
        storage.check_data(offset, len)?;
        storage.writev(piece, offset)?;
        (vector, position) = (rest, position + len);
    }
    Ok(None)
}

/// An image with what is behind it.
struct Opened {
    image: FormatAccess<OrderedFile>,
    synced: Arc<SyncedFile>,
    header: Header,
}

/// Opens the image at `path` with what is behind it, `depth` images at most in all.
fn open_qcow2(
    path: &Path,
    read_only: bool,
    recorder: Option<Arc<dyn Recorder>>,
    depth: usize,
) -> Result<Opened, FileBackendError> {
    let wrong = |source: Qcow2Error| FileBackendError::Qcow2 {
        path: path.into(),
        source: Box::new(source),
    };
    let Some(depth) = depth.checked_sub(1) else {
        return Err(wrong(Qcow2Error::Chain(CHAIN_MAX)));
    };
    let (file, _) = open_locked(path, read_only)?;
    let header = Header::read(&file).map_err(wrong)?;
    // First what is behind it, as features are cleared in some headers.
    let backing = match &header.backing {
        None => None,
        Some(backing) => {
            let path = path.parent().unwrap_or(Path::new("")).join(&backing.name);
            Some(match backing.format {
                BackingFormat::Raw => open_raw(&path)?,
                BackingFormat::Qcow2 => open_qcow2(&path, true, None, depth)?.image,
            })
        }
    };
    let writable = (!read_only).then_some(&header);
    let (mut image, synced) = open_image(file, writable, recorder).map_err(wrong)?;
    image.set_backing(backing);
    Ok(Opened {
        image: FormatAccess::new(image),
        synced,
        header,
    })
}

/// The image in `file` with nothing behind it, which may be written where its header is given.
fn open_image(
    file: File,
    writable: Option<&Header>,
    recorder: Option<Arc<dyn Recorder>>,
) -> Result<(Qcow2<OrderedFile>, Arc<SyncedFile>), Qcow2Error> {
    let storage = match writable {
        Some(header) => OrderedFile::writable(file, header, recorder)?,
        None => OrderedFile::read_only(file)?,
    };
    let synced = Arc::clone(&storage.synced);
    let image = Qcow2::builder(storage)
        .write(writable.is_some())
        .backing(None)
        .data_file(None)
        .open(DenyImplicitOpenGate::default())?;
    Ok((image, synced))
}

/// The raw image at `path`, to be read.
fn open_raw(path: &Path) -> Result<FormatAccess<OrderedFile>, FileBackendError> {
    let wrong = |source| FileBackendError::Open {
        path: path.into(),
        source,
    };
    let (file, _) = open_locked(path, true)?;
    let storage = OrderedFile::read_only(file).map_err(wrong)?;
    let raw = Raw::builder(storage).open(DenyImplicitOpenGate::default());
    Ok(FormatAccess::new(raw.map_err(wrong)?))
}
