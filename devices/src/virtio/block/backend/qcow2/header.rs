//! The header of a qcow2 image (QEMU's docs/interop/qcow2.txt), read before imago gets the file: what
//! imago does not look at, or only after something has been changed, is refused here.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use spec::block::SECTOR_SIZE;
use thiserror::Error;

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Length of the header of version 3 as far as it is looked at; version 2 has 72 bytes of it.
const LEN: usize = 104;
const V2_LEN: usize = 72;
/// Where `autoclear_features` are.
pub(super) const AUTOCLEAR: usize = 88;
/// The longest name of a backing file, and what is before the name of its format, in bytes.
const NAME_MAX: u32 = 1023;
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The largest tables that QEMU takes, in bytes.
const L1_MAX: u64 = 32 << 20;
const REFCOUNT_TABLE_MAX: u64 = 8 << 20;

/// Why a file cannot be used as a qcow2 image.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Qcow2Error {
    #[error("it is none")]
    Magic,
    #[error("its version is {0}, not 2 or 3")]
    Version(u32),
    #[error("its cluster size, 2^{0} bytes, is not from 512 bytes to 2 MiB")]
    ClusterSize(u32),
    #[error("its virtual size, {0} bytes, is not a multiple of {SECTOR_SIZE}, of one at least")]
    Size(u64),
    #[error("it is encrypted")]
    Encrypted,
    #[error(
        "it was not closed and may have wrong reference counts ('qemu-img check -r all' mends it)"
    )]
    Dirty,
    #[error("it is marked as corrupt ('qemu-img check' says why)")]
    Corrupt,
    #[error("its data is in another file")]
    DataFile,
    #[error("it has clusters compressed by other than zlib")]
    Compression,
    #[error("it has extended L2 entries")]
    ExtendedL2,
    #[error("it has incompatible features that are not known ({0:#x})")]
    Features(u64),
    #[error("its {0} is not one that such an image can have")]
    Table(&'static str),
    #[error("its reference counts are wrong ('qemu-img check' says where)")]
    Refcounts,
    #[error("the format of its backing file is not said in it")]
    NoBackingFormat,
    #[error("its backing file is '{0}', not raw or qcow2")]
    BackingFormat(String),
    #[error("more than {0} images are behind each other")]
    Chain(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The bits of `incompatible_features` that have a name.
const INCOMPATIBLE: [(u64, Qcow2Error); 5] = [
    (1 << 0, Qcow2Error::Dirty),
    (1 << 1, Qcow2Error::Corrupt),
    (1 << 2, Qcow2Error::DataFile),
    (1 << 3, Qcow2Error::Compression),
    (1 << 4, Qcow2Error::ExtendedL2),
];

/// Where the metadata of an image is, in bytes from the start of its file.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub version: u32,
    /// Virtual size, in bytes: whole sectors.
    pub size: u64,
    /// Exponent of the cluster size: from 9 to 21.
    pub cluster_bits: u32,
    /// Exponent of a refcount's width in bits: up to 6.
    pub refcount_order: u32,
    /// The features that whoever writes the image without knowing them is to clear.
    pub autoclear_features: u64,
    pub l1: Table,
    pub refcount_table: Table,
    /// What is behind it.
    pub backing: Option<Backing>,
}

/// A file that is behind an image.
#[derive(Clone, Debug)]
pub(super) struct Backing {
    /// Its name, where it is relative from the directory of the image.
    pub name: PathBuf,
    pub format: BackingFormat,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum BackingFormat {
    Raw,
    Qcow2,
}

/// A table of big-endian u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub start: u64,
    /// Its length, in bytes.
    pub len: u64,
}

impl Table {
    pub fn contains(self, position: u64) -> bool {
        position >= self.start && position - self.start < self.len
    }
}

impl Header {
    /// Reads the header of `file`.
    ///
    /// # Errors
    /// The image cannot be used, or the file not be read.
    pub fn read(file: &File) -> Result<Self, Qcow2Error> {
        let mut bytes = [0; LEN];
        let read = read_up_to(file, &mut bytes)?;
        let mut header = Self::parse(&bytes, read)?;
        header.backing = backing(file, &bytes, &header)?;
        Ok(header)
    }

    /// The header in the first `len` of these bytes, which are those of a file, but for what is behind
    /// it.
    fn parse(bytes: &[u8; LEN], len: usize) -> Result<Self, Qcow2Error> {
        let (u32_at, u64_at) = (|at| be32(bytes, at), |at| be64(bytes, at));
        if len < V2_LEN || !bytes.starts_with(&MAGIC) {
            return Err(Qcow2Error::Magic);
        }
        let version = u32_at(4);
        let (incompatible, autoclear_features, refcount_order) = match version {
            2 => (0, 0, 4),
            3 if len == LEN => (u64_at(72), u64_at(AUTOCLEAR), u32_at(96)),
            3 => return Err(Qcow2Error::Magic),
            _ => return Err(Qcow2Error::Version(version)),
        };
        for (bit, error) in INCOMPATIBLE {
            if incompatible & bit != 0 {
                return Err(error);
            }
        }
        if incompatible != 0 {
            return Err(Qcow2Error::Features(incompatible));
        }
        if u32_at(32) != 0 {
            return Err(Qcow2Error::Encrypted);
        }
        let cluster_bits = u32_at(20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Qcow2Error::ClusterSize(cluster_bits));
        }
        let size = u64_at(24);
        if size == 0 || !size.is_multiple_of(SECTOR_SIZE) {
            return Err(Qcow2Error::Size(size));
        }
        if refcount_order > 6 {
            return Err(Qcow2Error::Table("refcount order"));
        }
        let cluster = 1_u64 << cluster_bits;
        let table = |name, start: u64, len: u64, max| {
            let sound =
                start.is_multiple_of(cluster) && len <= max && start <= i64::MAX as u64 - max;
            sound
                .then_some(Table { start, len })
                .ok_or(Qcow2Error::Table(name))
        };
        let l1 = table("L1 table", u64_at(40), u64::from(u32_at(36)) * 8, L1_MAX)?;
        // An entry for each table of L2 entries, which fills a cluster with 8 bytes per cluster.
        if l1.len < size.div_ceil(cluster << (cluster_bits - 3)) * 8 {
            return Err(Qcow2Error::Table("L1 table"));
        }
        let clusters = u64::from(u32_at(56));
        let refcount_table = table(
            "refcount table",
            u64_at(48),
            clusters * cluster,
            REFCOUNT_TABLE_MAX,
        )?;
        Ok(Self {
            version,
            size,
            cluster_bits,
            refcount_order,
            autoclear_features,
            l1,
            refcount_table,
            backing: None,
        })
    }
}

/// What is behind the image with this header.
fn backing(file: &File, bytes: &[u8], header: &Header) -> Result<Option<Backing>, Qcow2Error> {
    let (position, len) = (be64(bytes, 8), be32(bytes, 16));
    if position == 0 {
        return Ok(None);
    }
    let cluster = 1_u64 << header.cluster_bits;
    if len > NAME_MAX || position > cluster - u64::from(len).min(cluster) {
        return Err(Qcow2Error::Table("backing file's name"));
    }
    let mut name = vec![0; len as usize];
    file.read_exact_at(&mut name, position)?;
    // It is shown in messages, each of one line.
    if String::from_utf8_lossy(&name).chars().any(char::is_control) {
        return Err(Qcow2Error::Table("backing file's name"));
    }
    let extensions = match header.version {
        2 => V2_LEN as u64,
        _ => u64::from(be32(bytes, 100)),
    };
    let format = match backing_format(file, extensions, cluster)?.as_deref() {
        Some(b"raw") => BackingFormat::Raw,
        Some(b"qcow2") => BackingFormat::Qcow2,
        Some(other) => {
            let name = String::from_utf8_lossy(other).escape_debug().to_string();
            return Err(Qcow2Error::BackingFormat(name));
        }
        None => return Err(Qcow2Error::NoBackingFormat),
    };
    let name = OsString::from_vec(name).into();
    Ok(Some(Backing { name, format }))
}

/// The name of the backing file's format, from among the extensions of a header, which go from
/// `position` to the end of the first cluster at most.
fn backing_format(file: &File, mut position: u64, cluster: u64) -> io::Result<Option<Vec<u8>>> {
    while position + 8 <= cluster {
        let mut start = [0; 8];
        file.read_exact_at(&mut start, position)?;
        let (kind, len) = (be32(&start, 0), be32(&start, 4));
        match kind {
            0 => break,
            BACKING_FORMAT if len <= NAME_MAX => {
                let mut name = vec![0; len as usize];
                file.read_exact_at(&mut name, position + 8)?;
                return Ok(Some(name));
            }
            _ => position += 8 + u64::from(len).next_multiple_of(8),
        }
    }
    Ok(None)
}

/// Fills `bytes` from the start of `file`, as far as it reaches, and says how far that was.
fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// The big-endian u32 at `at`; 0 past the end.
fn be32(bytes: &[u8], at: usize) -> u32 {
    let value = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u32::from_be_bytes(value.copied().unwrap_or_default())
}

/// The big-endian u64 at `at`; 0 past the end.
pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    let value = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u64::from_be_bytes(value.copied().unwrap_or_default())
}
