//! Which content a disk may have after a run of the guest's `run=journal` that was cut off: what
//! `spec::journal` says, turned round. It looks at bytes, and runs nothing.

use std::collections::HashMap;
use std::fmt;

use spec::block::SECTOR_SIZE;
use spec::journal::{Change, FLUSHED, Slots, Stamp};

const SECTOR: usize = SECTOR_SIZE as usize;

/// A run on a whole disk.
#[derive(Clone, Copy, Debug)]
pub struct Journal {
    pub seed: u64,
    /// Sectors of a write.
    pub size: u64,
    /// Writes from one flush to the next.
    pub flush_every: u64,
    /// Whether some of them clear what others write.
    pub clears: bool,
}

/// What the console has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// How many flushes have completed.
    pub flushes: u64,
    /// The last write that is stable, and all before it.
    pub up_to: u64,
}

impl Acknowledged {
    /// From the lines that are whole.
    pub fn parse(console: &[u8]) -> Self {
        let mut acknowledged = Self::default();
        for line in console.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else {
                continue;
            };
            let line = std::str::from_utf8(line).unwrap();
            let up_to = line.strip_prefix(FLUSHED).map(str::parse);
            let Some(Ok(up_to)) = up_to else {
                panic!("not of a flush: {line}");
            };
            assert!(up_to >= acknowledged.up_to, "{line}");
            acknowledged.up_to = up_to;
            acknowledged.flushes += 1;
        }
        acknowledged
    }
}

/// What is wrong with a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It holds what was there before a write that is stable.
    Lost {
        lba: u64,
        /// The write.
        stable: u64,
    },
    /// Its bytes are of more than one value.
    Torn { lba: u64 },
    /// It holds what was never written to it.
    Foreign { lba: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { lba, stable } => write!(f, "sector {lba}: write {stable} is lost"),
            Self::Torn { lba } => write!(f, "sector {lba}: torn"),
            Self::Foreign { lba } => write!(f, "sector {lba}: never written"),
        }
    }
}

impl Journal {
    /// The most writes that the guest can have submitted when it had printed of `flushes`: those up
    /// to the next flush, which may have completed, and to the one after, which waits for it.
    pub fn submitted(&self, flushes: u64) -> u64 {
        (flushes + 2) * self.flush_every
    }

    /// All that is wrong with the disk `after` a run that began with the disk `before`, where all
    /// writes up to `up_to` are stable, and none after `submitted` was made.
    pub fn faults(&self, before: &[u8], after: &[u8], up_to: u64, submitted: u64) -> Vec<Fault> {
        assert_eq!(before.len(), after.len());
        let slots = (before.len() / SECTOR) as u64 / self.size;
        let mut writes: HashMap<u64, Vec<u64>> = HashMap::new();
        for (sequence, slot) in (1..=submitted).zip(Slots::new(self.seed, slots)) {
            writes.entry(slot).or_default().push(sequence);
        }
        let sectors = before.chunks_exact(SECTOR).zip(after.chunks_exact(SECTOR));
        (0..)
            .zip(sectors)
            .filter_map(|(lba, (before, after))| {
                let written = writes
                    .get(&(lba / self.size))
                    .map_or(&[][..], Vec::as_slice);
                self.fault(lba, before, after, written, up_to)
            })
            .collect()
    }

    fn fault(
        &self,
        lba: u64,
        before: &[u8],
        after: &[u8],
        written: &[u64],
        up_to: u64,
    ) -> Option<Fault> {
        let change = |sequence| Change::of(sequence, self.clears);
        // What was discarded may be what it was.
        let stable = written
            .iter()
            .rfind(|&&sequence| sequence <= up_to && change(sequence) != Change::Discard)
            .copied();
        let value = |sequence| {
            let seed = self.seed;
            let stamp = Stamp {
                sequence,
                lba,
                seed,
            };
            match change(sequence) {
                Change::Write => stamp.sector(),
                Change::WriteZeroes { .. } | Change::Discard => [0; SECTOR],
            }
        };
        let values: Vec<_> = written.iter().map(|sequence| value(*sequence)).collect();
        let mut holding = written.iter().zip(&values);
        let last = holding.rfind(|(_, value)| *value == after);
        let last = last.map(|(sequence, _)| *sequence);
        if last.is_some() || after == before {
            let lost = stable.map(|stable| Fault::Lost { lba, stable });
            return lost.filter(|_| last < stable);
        }
        let torn = (0..SECTOR)
            .all(|at| after[at] == before[at] || values.iter().any(|value| value[at] == after[at]));
        Some(if torn {
            Fault::Torn { lba }
        } else {
            Fault::Foreign { lba }
        })
    }

    /// Fails where there is something wrong with `what`.
    #[track_caller]
    pub fn assert_holds(
        &self,
        before: &[u8],
        after: &[u8],
        up_to: u64,
        submitted: u64,
        what: &str,
    ) {
        let faults = self.faults(before, after, up_to, submitted);
        let first: Vec<_> = faults.iter().take(5).map(Fault::to_string).collect();
        assert!(
            faults.is_empty(),
            "{what}: stable up to write {up_to}, at most {submitted} made: {} sectors are wrong: \
             {first:#?}",
            faults.len()
        );
    }
}
