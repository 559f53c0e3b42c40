//! Files of an ext2, ext3 or ext4 file system that fills the disk: what directories and files hold.
//! How they are laid out is the crate's matter. Whatever is on the disk, no more memory is taken than
//! there is, but for a journal that is to be replayed: it takes some 60 bytes a block.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::error::Error as StdError;
use core::fmt::{self, Write};
use core::mem;
use core::ptr::NonNull;
use core::str;

use ext4_view::{Ext4, Ext4Read, File, FileType};
use spec::block::SECTOR_SIZE;
use thiserror::Error;

use super::super::extent::Extent;
use super::driven::{BUFFER_SIZE, Driven};
use super::path::{resolve, target};
use super::{Arguments, Disk, Next, Shell, Wrong};

/// Where the superblock is, in bytes from the start of the disk, and how much of it is looked at.
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_LEN: usize = 1024;
/// What is in each superblock.
const MAGIC: u32 = 0xef53;
/// The largest block: 2^(10 + 6) bytes.
const MAX_LOG_BLOCK_SIZE: u32 = 6;
/// The most block groups, a descriptor of each of which is kept.
const MAX_GROUPS: u64 = 16 << 10;
/// How much of a file is shown where no other length is asked for, in bytes.
const CAT_MAX: u64 = 1 << 20;
/// How much of a file is read at once, in bytes.
const PIECE: usize = 4096;

/// Bytes of a disk.
trait Source {
    /// Reads the bytes from `start` on.
    fn read(&mut self, start: u64, to: &mut [u8]) -> Result<(), Wrong>;
}

impl Source for Driven<'_, '_> {
    fn read(&mut self, start: u64, to: &mut [u8]) -> Result<(), Wrong> {
        let first = start / SECTOR_SIZE;
        let mut skipped = (start % SECTOR_SIZE) as usize;
        let count = (skipped + to.len()).div_ceil(SECTOR_SIZE as usize) as u64;
        let mut to = to;
        for (lba, len) in Extent::new(self.block.info(), first, count, BUFFER_SIZE)? {
            Driven::read(self, lba, len)?;
            let (now, rest) = to.split_at_mut(to.len().min(len - skipped));
            self.buffer.read(skipped, now);
            (to, skipped) = (rest, 0);
        }
        Ok(())
    }
}

/// A disk that is lent to a file system, and can be taken back.
type Lent = Rc<Cell<Option<NonNull<dyn Source>>>>;

/// What the file system reads from.
struct Reader(Lent);

/// Why it cannot.
#[derive(Debug, Error)]
#[error("{0}")]
struct CannotRead(Box<str>);

impl Ext4Read for Reader {
    fn read(
        &mut self,
        start: u64,
        to: &mut [u8],
    ) -> Result<(), Box<dyn StdError + Send + Sync + 'static>> {
        let Some(mut source) = self.0.take() else {
            return Err(Box::new(CannotRead("the disk has been taken back".into())));
        };
        // SAFETY: `Loan` puts in here what it has borrowed exclusively, and takes it out before that
        // ends. Nobody else uses it meanwhile: it is taken out during the call, too.
        let read = unsafe { source.as_mut() }.read(start, to);
        self.0.set(Some(source));
        read.map_err(|wrong| CannotRead(alloc::format!("{wrong}").into()).into())
    }
}

/// A disk lent to a file system, which asks for a reader that lives for ever: for as long as this is
/// there, it reads, and then it cannot.
struct Loan(Lent);

impl Loan {
    /// Has `look` see the file system on `source`.
    fn with<T>(
        source: &mut (dyn Source + '_),
        look: impl FnOnce(Ext4) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        check(source)?;
        let source: NonNull<dyn Source + '_> = NonNull::from(source);
        // SAFETY: the two types differ in how long what is pointed to lives, and in nothing else.
        // It lives until this function ends, and the pointer is taken back when `loan` is dropped.
        let source =
            unsafe { mem::transmute::<NonNull<dyn Source + '_>, NonNull<dyn Source>>(source) };
        let loan = Self(Rc::new(Cell::new(Some(source))));
        look(Ext4::load(Box::new(Reader(Rc::clone(&loan.0))))?)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// Sees that there is a file system, and that it needs no more memory than there is: blocks are
/// buffered, and the descriptors of all block groups are kept.
fn check(source: &mut dyn Source) -> Result<(), Wrong> {
    let mut superblock = [0; SUPERBLOCK_LEN];
    source.read(SUPERBLOCK, &mut superblock)?;
    let field = |offset: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&superblock[offset..offset + 4]);
        u32::from_le_bytes(bytes)
    };
    if field(0x38) & 0xffff != MAGIC {
        return Err(Wrong::NoFiles);
    }
    let blocks = u64::from(field(0x150)) << 32 | u64::from(field(0x4));
    if field(0x18) > MAX_LOG_BLOCK_SIZE {
        return Err(Wrong::TooLarge("blocks of more than 64 KiB"));
    }
    if blocks / u64::from(field(0x20)).max(1) > MAX_GROUPS {
        return Err(Wrong::TooLarge("more than 16384 block groups"));
    }
    Ok(())
}

/// Text of a disk that does no harm to a terminal.
struct Shown<'t>(&'t [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char.is_control() {
                    true => write!(f, "{}", char.escape_default())?,
                    false => f.write_char(char)?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// A path as it was typed, from the root.
struct Rooted<'t>(&'t str);

impl fmt::Display for Rooted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", Shown(self.0.trim_start_matches('/').as_bytes()))
    }
}

/// Writes what may be text, piece by piece. What is not UTF-8 is replaced.
#[derive(Default)]
struct Text {
    /// The start of a character that a piece ended in.
    rest: [u8; 3],
    len: usize,
    /// What was written last.
    last: Option<char>,
}

impl Text {
    fn write(&mut self, out: &mut dyn Write, piece: &[u8]) -> fmt::Result {
        let mut bytes = Vec::with_capacity(self.len + piece.len());
        bytes.extend_from_slice(&self.rest[..self.len]);
        bytes.extend_from_slice(piece);
        self.len = 0;
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.put(out, chunk.valid())?;
            let invalid = chunk.invalid();
            let is_begun = chunks.peek().is_none()
                && str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if is_begun {
                self.len = invalid.len();
                self.rest[..self.len].copy_from_slice(invalid);
            } else if !invalid.is_empty() {
                self.put(out, "\u{fffd}")?;
            }
        }
        Ok(())
    }

    /// Ends the text, and the line that it may be in the middle of.
    fn finish(mut self, out: &mut dyn Write) -> fmt::Result {
        if self.len > 0 {
            self.put(out, "\u{fffd}")?;
        }
        match self.last {
            None | Some('\n') => Ok(()),
            Some(_) => out.write_char('\n'),
        }
    }

    fn put(&mut self, out: &mut dyn Write, text: &str) -> fmt::Result {
        self.last = text.chars().next_back().or(self.last);
        out.write_str(text)
    }
}

/// Writes the start of a file as `text`; returns how many bytes that is.
fn show(file: &mut File, text: &mut Text, out: &mut dyn Write) -> Result<u64, Wrong> {
    let mut piece = alloc::vec![0; PIECE];
    let mut left = CAT_MAX;
    while left > 0 {
        let most = left.min(PIECE as u64) as usize;
        let read = file.read_bytes(&mut piece[..most])?;
        if read == 0 {
            break;
        }
        text.write(out, &piece[..read])?;
        left -= read as u64;
    }
    Ok(CAT_MAX - left)
}

/// The letter that `ls -l` has for a type.
fn letter(kind: FileType) -> char {
    if kind.is_dir() {
        'd'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_regular_file() {
        '-'
    } else if kind.is_char_dev() {
        'c'
    } else if kind.is_block_dev() {
        'b'
    } else if kind.is_fifo() {
        'p'
    } else {
        's'
    }
}

impl Shell<'_, '_, '_> {
    /// `ls`
    pub fn ls(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let path = arguments.rest();
        let (console, disk) = (&mut *self.console, &mut self.disk);
        let Disk::Driven(driven) = disk else {
            return Err(Wrong::NotOpen);
        };
        let entries = Loan::with(&mut **driven, |files| {
            let mut entries = 0;
            for entry in files.read_dir(&resolve(&files, path)?)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                let name = entry.file_name();
                let target = (metadata.is_symlink())
                    .then(|| target(&files, &entry.path(), &metadata))
                    .transpose()?;
                write!(
                    console,
                    "  {}{:04o} {:>5} {:>5} {:>10}  {}",
                    letter(metadata.file_type()),
                    metadata.mode() & 0o7777,
                    metadata.uid(),
                    metadata.gid(),
                    metadata.len(),
                    Shown(name.as_ref())
                )?;
                if let Some(target) = target {
                    write!(console, " -> {}", Shown(target.as_ref()))?;
                }
                writeln!(console)?;
                entries += 1;
            }
            Ok(entries)
        })?;
        let path = Rooted(path);
        writeln!(self.console, "ls path={path} entries={entries} ok")?;
        Ok(Next::Prompt)
    }

    /// `cat`
    pub fn cat(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let path = arguments.rest();
        if path.is_empty() {
            return Err(Wrong::Words);
        }
        let (console, disk) = (&mut *self.console, &mut self.disk);
        let Disk::Driven(driven) = disk else {
            return Err(Wrong::NotOpen);
        };
        let (shown, len) = Loan::with(&mut **driven, |files| {
            let mut file = files.open(&resolve(&files, path)?)?;
            let mut text = Text::default();
            let shown = show(&mut file, &mut text, console);
            text.finish(console)?;
            Ok((shown?, file.metadata().len()))
        })?;
        let path = Rooted(path);
        match shown == len {
            true => writeln!(self.console, "cat path={path} bytes={len} ok")?,
            false => writeln!(self.console, "cat path={path} bytes={shown} of {len} ok")?,
        }
        Ok(Next::Prompt)
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
