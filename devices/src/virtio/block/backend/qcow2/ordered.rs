//! The file of a qcow2 image as imago uses it, with its writes in an order that leaves the image sound
//! whenever the process is killed or the power fails. What is written, and when, is imago's to decide.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use imago::file::File as ImagoFile;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;
use imago::{Storage, StorageOpenOptions};
use log::warn;

use super::header::{Header, Qcow2Error, Table, be64};

/// The bits of an entry that tell where a cluster is, in bytes.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// That of an entry that says that nobody else refers to what it does.
const COPIED: u64 = 1 << 63;
/// Where the header ends that imago writes parts of.
const HEADER_END: u64 = 104;
/// Of the header, the location of the refcount table.
const REFCOUNT_TABLE: u64 = 48;

/// A file, and how much of it is on stable storage.
///
/// After a sync that has failed none succeeds, since the host counts what it could not write as
/// written.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: File,
    /// Held while a sync is under way.
    failed: Mutex<bool>,
    /// Whether something that is referred to may have been written since: data, or refcounts.
    referents: AtomicBool,
    /// Whether something that refers to it may have been.
    references: AtomicBool,
    /// For each entry of the L1 table of an image that is written, whether there is an L2 table that is
    /// the image's alone.
    has_table: RwLock<Vec<bool>>,
    /// What has been done to the file.
    #[cfg(test)]
    pub log: Mutex<Vec<Done>>,
}

/// What has been done to a file.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(super) enum Done {
    Wrote(u64, Vec<u8>),
    Cleared(u64, u64),
    Synced,
}

impl SyncedFile {
    pub fn new(file: File) -> Self {
        Self {
            file,
            failed: Mutex::new(false),
            referents: AtomicBool::new(false),
            references: AtomicBool::new(false),
            has_table: RwLock::default(),
            #[cfg(test)]
            log: Mutex::default(),
        }
    }

    /// Whether there is a table for entry `index` of the L1 table that need not be made to be changed.
    pub fn has_table(&self, index: u64) -> bool {
        let has_table = self
            .has_table
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(index).ok();
        index.and_then(|index| has_table.get(index).copied()) == Some(true)
    }

    /// Returns when all that has been written before is on stable storage.
    ///
    /// # Errors
    /// It could not be made so, this time or earlier.
    pub fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(io::Error::other("an earlier flush failed"));
        }
        self.referents.store(false, Ordering::Release);
        self.references.store(false, Ordering::Release);
        self.file.sync_data().inspect_err(|error| {
            *failed = true;
            warn!(
                "block: a flush failed, and none will succeed until the image is opened anew: \
                 {error}"
            );
        })?;
        #[cfg(test)]
        self.log.lock().unwrap().push(Done::Synced);
        Ok(())
    }
}

/// What a write is, to those that must come before it and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
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
struct Metadata {
    cluster_bits: u32,
    refcount_order: u32,
    l1: Table,
    refcount_table: RwLock<Table>,
    /// The L2 tables and the refcount blocks, by position.
    tables: RwLock<HashMap<u64, Kind>>,
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
    synced: Arc<SyncedFile>,
    helper: CommonStorageHelper,
    metadata: Option<Metadata>,
}

impl OrderedFile {
    /// The file of an image that is only read.
    ///
    /// # Errors
    /// Its size cannot be found out.
    pub fn read_only(file: File) -> io::Result<Self> {
        Self::new(file, false)
    }

    /// The file of the image with this `header`, to be written.
    ///
    /// # Errors
    /// Its tables cannot be read, or are not counted as used.
    pub fn writable(file: File, header: &Header) -> Result<Self, Qcow2Error> {
        let mut ordered = Self::new(file, true)?;
        let l2_tables = ordered.entries(header.l1)?;
        let refcounts = ordered.entries(header.refcount_table)?;
        let of = |kind| move |entry| (entry & OFFSET, kind);
        let tables = l2_tables.iter().map(of(Kind::References));
        let tables = tables.chain(refcounts.iter().map(of(Kind::Refcounts)));
        let has_table = l2_tables.iter().map(|entry| is_alone(*entry));
        let metadata = Metadata {
            cluster_bits: header.cluster_bits,
            refcount_order: header.refcount_order,
            l1: header.l1,
            refcount_table: RwLock::new(header.refcount_table),
            tables: RwLock::new(tables.filter(|(at, _)| *at != 0).collect()),
        };
        let mut known = ordered
            .synced
            .has_table
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.extend(has_table);
        drop(known);
        if !ordered.counts_metadata(&metadata)? {
            return Err(Qcow2Error::Refcounts);
        }
        ordered.metadata = Some(metadata);
        Ok(ordered)
    }

    fn new(file: File, writable: bool) -> io::Result<Self> {
        let synced = Arc::new(SyncedFile::new(file.try_clone()?));
        let options = StorageOpenOptions::new().write(writable);
        Ok(Self {
            file: ImagoFile::from_open_file(file, options)?,
            synced,
            helper: CommonStorageHelper::default(),
            metadata: None,
        })
    }

    /// The file, to have it synced.
    pub fn synced(&self) -> Arc<SyncedFile> {
        Arc::clone(&self.synced)
    }

    /// The entries of `table`.
    fn entries(&self, table: Table) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; usize::try_from(table.len).unwrap_or(usize::MAX)];
        self.read(&mut bytes, table.start)?;
        let entries = bytes.chunks_exact(8).map(|entry| be64(entry, 0));
        Ok(entries.collect())
    }

    fn read(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        // SAFETY: the file asks for no alignment, and whoever changes metadata is alone.
        unsafe { self.file.pure_readv(bytes.into(), position) }
    }

    fn write(&self, vector: IoVector<'_>, position: u64) -> io::Result<()> {
        #[cfg(test)]
        {
            let mut bytes = vec![0; usize::try_from(vector.len()).unwrap()];
            vector.copy_into_slice(&mut bytes);
            self.synced
                .log
                .lock()
                .unwrap()
                .push(Done::Wrote(position, bytes));
        }
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
        if kind != Kind::Data && before.load(Ordering::Acquire) {
            self.synced.sync()?;
        }
        written.store(true, Ordering::Release);
        self.write(vector, position)?;
        if position < HEADER_END {
            self.look_at_header(metadata)?;
        }
        Ok(())
    }

    /// Knows the new table of this `entry`, which is to be written at `position`, and has it counted.
    fn enter(&self, metadata: &Metadata, entry: u64, position: u64) -> io::Result<()> {
        self.count(metadata, entry & OFFSET)?;
        let mut kind = Kind::Refcounts;
        if metadata.l1.contains(position) {
            kind = Kind::References;
            let index = usize::try_from((position - metadata.l1.start) / 8).ok();
            let mut has_table =
                (self.synced.has_table.write()).unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = index.and_then(|index| has_table.get_mut(index)) {
                *known = is_alone(entry);
            }
        }
        let mut tables = metadata
            .tables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        tables.insert(entry & OFFSET, kind);
        Ok(())
    }

    /// Has the refcount of the new table at `position` written, where there is a block for it already:
    /// a refcount block may count itself.
    fn count(&self, metadata: &Metadata, position: u64) -> io::Result<()> {
        let Some(refcount) = self.refcount(metadata, position)? else {
            return Ok(());
        };
        if position == 0 || !refcount.is_zero() {
            return Ok(());
        }
        self.synced.referents.store(true, Ordering::Release);
        let bytes = (refcount.word | 1 << refcount.shift).to_be_bytes();
        let bytes = bytes.get(8 - refcount.width..).unwrap_or_default();
        self.write(bytes.into(), refcount.at)
    }

    /// The refcount of the cluster at `position`, if there is a block for it.
    fn refcount(&self, metadata: &Metadata, position: u64) -> io::Result<Option<Refcount>> {
        let table = *metadata
            .refcount_table
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let (order, cluster) = (metadata.refcount_order, position >> metadata.cluster_bits);
        let block_bits = metadata.cluster_bits + 3 - order;
        let entry = (cluster >> block_bits).saturating_mul(8);
        if entry >= table.len {
            return Ok(None);
        }
        let mut block = [0; 8];
        self.read(&mut block, table.start + entry)?;
        let block = be64(&block, 0) & OFFSET;
        if block == 0 {
            return Ok(None);
        }
        let bit = (cluster & ((1 << block_bits) - 1)) << order;
        let (at, width) = (block + bit / 8, (1_usize << order).div_ceil(8));
        let mut word = [0; 8];
        self.read(word.get_mut(8 - width..).unwrap_or_default(), at)?;
        // Narrow ones are in a byte together, the first in its lowest bits.
        let shift = if order < 3 { bit % 8 } else { 0 };
        Ok(Some(Refcount {
            at,
            width,
            word: u64::from_be_bytes(word),
            shift,
            mask: u64::MAX >> (64 - (1 << order)),
        }))
    }

    /// Whether all that is metadata is counted as used, so that nothing else can come to be there.
    fn counts_metadata(&self, metadata: &Metadata) -> io::Result<bool> {
        let cluster = 1 << metadata.cluster_bits;
        let refcounts = *metadata
            .refcount_table
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let tables = metadata
            .tables
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let clusters = [metadata.l1, refcounts].into_iter();
        let clusters = clusters.flat_map(|table| {
            (0..table.len)
                .step_by(cluster)
                .map(move |at| table.start + at)
        });
        for position in clusters.chain(tables.keys().copied()).chain([0]) {
            let refcount = self.refcount(metadata, position)?;
            if refcount.is_none_or(|refcount| refcount.is_zero()) {
                return Ok(false);
            }
        }
        Ok(true)
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
        let mut tables = metadata
            .tables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let blocks = self.entries(table)?;
        tables.extend(blocks.iter().map(|entry| (entry & OFFSET, Kind::Refcounts)));
        *metadata
            .refcount_table
            .write()
            .unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }
}

/// Whether this entry of the L1 table is of a table that can be changed in its place.
fn is_alone(entry: u64) -> bool {
    entry & OFFSET != 0 && entry & COPIED != 0
}

/// A refcount as it is in the file.
#[derive(Clone, Copy, Debug)]
struct Refcount {
    /// Where its bytes are, and how many.
    at: u64,
    width: usize,
    /// Their value, with those of others where it is narrower than a byte.
    word: u64,
    /// Which bits of them it has: those of `mask`, so far up.
    shift: u64,
    mask: u64,
}

impl Refcount {
    fn is_zero(self) -> bool {
        self.word >> self.shift & self.mask == 0
    }
}

impl Metadata {
    /// What a write of `len` bytes at `position` is.
    fn kind(&self, position: u64, len: u64) -> Kind {
        if position < HEADER_END {
            return Kind::References;
        }
        if len == 8 {
            let table = *self
                .refcount_table
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if self.l1.contains(position) || table.contains(position) {
                return Kind::Entry;
            }
        }
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.get(&position).copied().unwrap_or(Kind::Data)
    }
}

impl Storage for OrderedFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    unsafe fn pure_readv(&self, vector: IoVectorMut<'_>, position: u64) -> io::Result<()> {
        // SAFETY: the caller's.
        unsafe { self.file.pure_readv(vector, position) }
    }

    unsafe fn pure_writev(&self, vector: IoVector<'_>, position: u64) -> io::Result<()> {
        match &self.metadata {
            Some(metadata) => {
                let kind = metadata.kind(position, vector.len());
                self.write_ordered(metadata, kind, vector, position)
            }
            None => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    unsafe fn pure_write_zeroes(&self, position: u64, len: u64) -> io::Result<()> {
        self.synced.referents.store(true, Ordering::Release);
        #[cfg(test)]
        self.synced
            .log
            .lock()
            .unwrap()
            .push(Done::Cleared(position, len));
        // SAFETY: the caller's.
        unsafe { self.file.pure_write_zeroes(position, len) }
    }

    unsafe fn pure_discard(&self, position: u64, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.synced
            .log
            .lock()
            .unwrap()
            .push(Done::Cleared(position, len));
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
