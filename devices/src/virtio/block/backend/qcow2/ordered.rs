//! The file of a qcow2 image as imago uses it, with its writes in an order that leaves the image sound
//! whenever the process is killed or the power fails. What is written, and when, is imago's to decide.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io;
use std::sync::{Arc, RwLock};

use imago::file::File as ImagoFile;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;
use imago::{Storage, StorageOpenOptions};
use spec::block::SECTOR_SIZE;

use super::header::{AUTOCLEAR, Header, Qcow2Error, Table, be64};
use super::synced::{FileEvent, Recorder, SyncedFile};
use crate::locks;

/// The bits of an entry that tell where a cluster is, in bytes.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// That of an entry that says that nobody else refers to what it does.
const COPIED: u64 = 1 << 63;
/// Where the header ends that imago writes parts of.
const HEADER_END: u64 = 104;
/// Of the header, the location of the refcount table.
const REFCOUNT_TABLE: u64 = 48;

/// What a write is, to those that must come before it and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Data, and metadata that nothing refers to yet.
    Data,
    /// A refcount block.
    Refcounts,
    /// What refers to data or metadata: an L2 table, or the header.
    References,
    /// The same, with one entry: of the L1 table or the refcount table.
    Entry,
}

/// The metadata of an image that is written.
#[derive(Debug)]
pub(super) struct Metadata {
    pub cluster_bits: u32,
    pub refcount_order: u32,
    pub l1: Table,
    pub refcount_table: RwLock<Table>,
    /// The L2 tables and the refcount blocks, by position.
    pub tables: RwLock<HashMap<u64, Kind>>,
}

/// The file of an image.
///
/// imago keeps L2 tables and refcount blocks in memory and writes them in an order that is right, but
/// does not wait for the first to be stable before it writes the second; and a new table's entry in
/// the L1 table or the refcount table it writes at once, while the table's own refcount is in memory
/// alone. Here the refcount of a new table is written before its entry; references are written when
/// what they refer to is stable, and refcounts (which may have sunk) when the references are.
///
/// Those who use the image must see to it that its metadata is changed by one thread at a time, and
/// that no other evicts from imago's memory meanwhile.
#[derive(Debug)]
pub(super) struct OrderedFile {
    file: ImagoFile,
    pub synced: Arc<SyncedFile>,
    helper: CommonStorageHelper,
    metadata: Option<Metadata>,
}

impl OrderedFile {
    /// The file of an image that is only read.
    ///
    /// # Errors
    /// Its size cannot be found out.
    pub fn read_only(file: File) -> io::Result<Self> {
        Self::new(file, false, None)
    }

    /// The file of the image with this `header`, to be written.
    ///
    /// # Errors
    /// Its tables cannot be read, are not counted as used, or are where others are; or features of it
    /// cannot be cleared.
    pub fn writable(
        file: File,
        header: &Header,
        recorder: Option<Arc<dyn Recorder>>,
    ) -> Result<Self, Qcow2Error> {
        let mut ordered = Self::new(file, true, recorder)?;
        let l2_tables = ordered.entries(header.l1)?;
        let refcounts = ordered.entries(header.refcount_table)?;
        let is_used = |entry: &&u64| **entry & OFFSET != 0;
        let used = l2_tables.iter().chain(&refcounts).filter(is_used).count();
        let of = |kind| move |entry| (entry & OFFSET, kind);
        let tables = l2_tables.iter().map(of(Kind::References));
        let tables = tables.chain(refcounts.iter().map(of(Kind::Refcounts)));
        let has_table = l2_tables.iter().map(|entry| is_alone(*entry));
        let tables: HashMap<_, _> = tables.filter(|(at, _)| *at != 0).collect();
        if tables.len() < used {
            return Err(Qcow2Error::Refcounts);
        }
        let metadata = Metadata {
            cluster_bits: header.cluster_bits,
            refcount_order: header.refcount_order,
            l1: header.l1,
            refcount_table: RwLock::new(header.refcount_table),
            tables: RwLock::new(tables),
        };
        locks::write(&ordered.synced.has_table).extend(has_table);
        if !ordered.counts_metadata(&metadata)? {
            return Err(Qcow2Error::Refcounts);
        }
        ordered.metadata = Some(metadata);
        if header.autoclear_features != 0 {
            // imago would write the whole header anew.
            ordered.write((&[0; 8][..]).into(), AUTOCLEAR as u64)?;
            ordered.synced.references.count();
        }
        Ok(ordered)
    }

    fn new(file: File, writable: bool, recorder: Option<Arc<dyn Recorder>>) -> io::Result<Self> {
        let synced = Arc::new(SyncedFile::new(file.try_clone()?, recorder));
        let options = StorageOpenOptions::new().write(writable);
        Ok(Self {
            file: ImagoFile::from_open_file(file, options)?,
            synced,
            helper: CommonStorageHelper::default(),
            metadata: None,
        })
    }

    /// The entries of `table`.
    fn entries(&self, table: Table) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; usize::try_from(table.len).unwrap_or(usize::MAX)];
        self.read(&mut bytes, table.start)?;
        let entries = bytes.chunks_exact(8).map(|entry| be64(entry, 0));
        Ok(entries.collect())
    }

    /// Sees that data can be written to these `len` bytes from `position`: that no metadata is there.
    ///
    /// # Errors
    /// Some is, or the image is only read.
    pub fn check_data(&self, position: u64, len: u64) -> io::Result<()> {
        match &self.metadata {
            Some(metadata) => metadata.check_data(position, len),
            None => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    pub fn read(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        // SAFETY: the file asks for no alignment, and whoever changes metadata is alone.
        unsafe { self.file.pure_readv(bytes.into(), position) }
    }

    pub fn write(&self, vector: IoVector<'_>, position: u64) -> io::Result<()> {
        self.synced.record(|| {
            let mut bytes = vec![0; usize::try_from(vector.len()).unwrap_or(usize::MAX)];
            vector.copy_into_slice(&mut bytes);
            FileEvent::Write(position, bytes)
        });
        // SAFETY: the file asks for no alignment, and whoever changes metadata is alone.
        unsafe { self.file.pure_writev(vector, position) }
    }

    /// Writes what is of this `kind`, after what must be there before them.
    fn write_ordered(
        &self,
        metadata: &Metadata,
        kind: Kind,
        vector: IoVector<'_>,
        position: u64,
    ) -> io::Result<()> {
        if kind == Kind::Entry {
            let mut entry = [0; 8];
            vector.copy_into_slice(&mut entry);
            self.enter(metadata, be64(&entry, 0), position)?;
        }
        let (before, written) = match kind {
            Kind::Data | Kind::Refcounts => (&self.synced.references, &self.synced.referents),
            Kind::References | Kind::Entry => (&self.synced.referents, &self.synced.references),
        };
        if !before.are_stable() {
            self.synced.sync()?;
        }
        let result = self.write(vector, position);
        written.count();
        result?;
        if position < HEADER_END {
            self.look_at_header(metadata)?;
        }
        Ok(())
    }

    /// Knows the new table of this `entry`, which is to be written at `position`, and has it counted. The
    /// one in whose stead it is may be freed.
    fn enter(&self, metadata: &Metadata, entry: u64, position: u64) -> io::Result<()> {
        self.count(metadata, entry & OFFSET)?;
        let mut old = [0; 8];
        self.read(&mut old, position)?;
        let mut kind = Kind::Refcounts;
        if metadata.l1.contains(position) {
            kind = Kind::References;
            let index = usize::try_from((position - metadata.l1.start) / 8).ok();
            let mut has_table = locks::write(&self.synced.has_table);
            if let Some(known) = index.and_then(|index| has_table.get_mut(index)) {
                *known = is_alone(entry);
            }
        }
        let mut tables = locks::write(&metadata.tables);
        tables.remove(&(be64(&old, 0) & OFFSET));
        tables.insert(entry & OFFSET, kind);
        Ok(())
    }

    /// Learns where the refcount table has come to, and what is in it.
    fn look_at_header(&self, metadata: &Metadata) -> io::Result<()> {
        let mut location = [0; 12];
        self.read(&mut location, REFCOUNT_TABLE)?;
        let clusters = be64(&location, 4) & u64::from(u32::MAX);
        let table = Table {
            start: be64(&location, 0),
            len: clusters << metadata.cluster_bits,
        };
        let mut tables = locks::write(&metadata.tables);
        let blocks = self.entries(table)?;
        let blocks = blocks.iter().map(|entry| entry & OFFSET);
        tables.extend(blocks.filter(|at| *at != 0).map(|at| (at, Kind::Refcounts)));
        *locks::write(&metadata.refcount_table) = table;
        Ok(())
    }
}

/// Whether this entry of the L1 table is of a table that can be changed in its place.
fn is_alone(entry: u64) -> bool {
    entry & OFFSET != 0 && entry & COPIED != 0
}

impl Metadata {
    /// What a write of `len` bytes at `position` is.
    ///
    /// # Errors
    /// It is of data, which are whole sectors, where metadata is. A whole table is not told from data.
    fn kind(&self, position: u64, len: u64) -> io::Result<Kind> {
        if position < HEADER_END && !len.is_multiple_of(SECTOR_SIZE) {
            return Ok(Kind::References);
        }
        if len == 8 {
            let table = *locks::read(&self.refcount_table);
            if self.l1.contains(position) || table.contains(position) {
                return Ok(Kind::Entry);
            }
        }
        let table = locks::read(&self.tables).get(&position).copied();
        match table.filter(|_| position > 0 && len == 1 << self.cluster_bits) {
            Some(kind) => Ok(kind),
            None => self.check_data(position, len).map(|()| Kind::Data),
        }
    }

    /// Sees that no metadata is in the clusters of these `len` bytes from `position`.
    fn check_data(&self, position: u64, len: u64) -> io::Result<()> {
        let cluster = 1 << self.cluster_bits;
        let tables = locks::read(&self.tables);
        let refcount_table = *locks::read(&self.refcount_table);
        let is_metadata = |at: u64| {
            at == 0
                || self.l1.contains(at)
                || refcount_table.contains(at)
                || tables.contains_key(&at)
        };
        let mut clusters = (position / cluster..position.saturating_add(len).div_ceil(cluster))
            .map(|number| number * cluster);
        match clusters.any(is_metadata) {
            true => Err(io::Error::other("the image has metadata where it has data")),
            false => Ok(()),
        }
    }
}

impl Storage for OrderedFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    /// A block device clears whole blocks only.
    fn zero_align(&self) -> usize {
        self.file.zero_align()
    }

    fn discard_align(&self) -> usize {
        self.file.discard_align()
    }

    unsafe fn pure_readv(&self, vector: IoVectorMut<'_>, position: u64) -> io::Result<()> {
        // SAFETY: the caller's.
        unsafe { self.file.pure_readv(vector, position) }
    }

    unsafe fn pure_writev(&self, vector: IoVector<'_>, position: u64) -> io::Result<()> {
        match &self.metadata {
            Some(metadata) => {
                let kind = metadata.kind(position, vector.len())?;
                self.write_ordered(metadata, kind, vector, position)
            }
            None => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    unsafe fn pure_write_zeroes(&self, position: u64, len: u64) -> io::Result<()> {
        self.check_data(position, len)?;
        if !self.synced.references.are_stable() {
            self.synced.sync()?;
        }
        self.synced.record(|| FileEvent::Clear(position, len));
        // SAFETY: the caller's.
        let result = unsafe { self.file.pure_write_zeroes(position, len) };
        self.synced.referents.count();
        result
    }

    unsafe fn pure_discard(&self, position: u64, len: u64) -> io::Result<()> {
        self.check_data(position, len)?;
        self.synced.record(|| FileEvent::Clear(position, len));
        // SAFETY: the caller's.
        unsafe { self.file.pure_discard(position, len) }
    }

    fn flush(&self) -> io::Result<()> {
        self.file.flush()
    }

    fn sync(&self) -> io::Result<()> {
        self.synced.sync()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }
}

impl Display for OrderedFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)
    }
}

#[cfg(test)]
#[path = "ordered_tests.rs"]
mod tests;
