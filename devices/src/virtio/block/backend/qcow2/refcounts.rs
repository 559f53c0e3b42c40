//! The refcounts of an image's metadata, as they are in its file: all else of them is imago's.

use std::collections::HashSet;
use std::io;

use super::header::be64;
use super::ordered::{Metadata, OFFSET, OrderedFile};
use crate::locks;

impl OrderedFile {
    /// Has the refcount of the new table at `position` written, where there is a block for it already:
    /// a refcount block may count itself.
    pub fn count(&self, metadata: &Metadata, position: u64) -> io::Result<()> {
        let Some(refcount) = self.refcount(metadata, position)? else {
            return Ok(());
        };
        if position == 0 || !refcount.is_zero() {
            return Ok(());
        }
        let bytes = (refcount.word | 1 << refcount.shift).to_be_bytes();
        let bytes = bytes.get(8 - refcount.width..).unwrap_or_default();
        let written = self.write(bytes.into(), refcount.at);
        self.synced.referents.count();
        written
    }

    /// The refcount of the cluster at `position`, if there is a block for it.
    fn refcount(&self, metadata: &Metadata, position: u64) -> io::Result<Option<Refcount>> {
        let table = *locks::read(&metadata.refcount_table);
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

    /// Whether all that is metadata is counted as used, so that nothing else can come to be there, and
    /// each in a place of its own.
    pub fn counts_metadata(&self, metadata: &Metadata) -> io::Result<bool> {
        let cluster = 1 << metadata.cluster_bits;
        let refcounts = *locks::read(&metadata.refcount_table);
        let tables = locks::read(&metadata.tables);
        let clusters = [metadata.l1, refcounts].into_iter();
        let clusters = clusters.flat_map(|table| {
            (0..table.len)
                .step_by(cluster)
                .map(move |at| table.start + at)
        });
        let mut seen = HashSet::new();
        for position in clusters.chain(tables.keys().copied()).chain([0]) {
            let refcount = self.refcount(metadata, position)?;
            if !seen.insert(position) || refcount.is_none_or(|refcount| refcount.is_zero()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
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
