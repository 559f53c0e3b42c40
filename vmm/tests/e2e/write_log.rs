//! The log of the device mapper's target log-writes (Documentation/admin-guide/device-mapper): all
//! writes to a device in the order in which they became stable. A write stands in it only when a
//! FLUSH that came after it, or its own FUA, has made it so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Size of a sector of the device, in bytes.
const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLAG_DISCARD: u64 = 1 << 2;
const FLAG_MARK: u64 = 1 << 3;

/// What stands in the log.
pub enum Entry {
    /// These bytes were written at this position.
    Write { position: u64, bytes: Vec<u8> },
    /// So many bytes from this position on were discarded.
    Discard { position: u64, len: u64 },
    /// The message `mark` came, with this text.
    Mark(String),
}

/// A log whose device is not in use any more.
pub struct WriteLog {
    file: File,
    /// Where the next entry is, in bytes.
    at: u64,
    left: u64,
}

impl WriteLog {
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let [magic, version, left, sector] = words(&file, 0);
        assert_eq!((magic, version), (MAGIC, VERSION));
        assert_eq!(sector & 0xffff_ffff, SECTOR);
        let at = SECTOR;
        Self { file, at, left }
    }
}

impl Iterator for WriteLog {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        let [sector, sectors, flags, len] = words(&self.file, self.at);
        // The text of a mark is in the sector of the entry.
        let text = self.at + 32;
        self.at += SECTOR;
        if flags & FLAG_MARK != 0 {
            let text = bytes(&self.file, text, len).unwrap();
            return Some(Entry::Mark(String::from_utf8(text).unwrap()));
        }
        let position = sector * SECTOR;
        if flags & FLAG_DISCARD != 0 {
            let len = sectors * SECTOR;
            return Some(Entry::Discard { position, len });
        }
        let bytes = bytes(&self.file, self.at, sectors * SECTOR).unwrap();
        self.at += sectors * SECTOR;
        Some(Entry::Write { position, bytes })
    }
}

fn words(file: &File, at: u64) -> [u64; 4] {
    let bytes = bytes(file, at, 32).unwrap();
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

fn bytes(file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}
