//! Memory with guards: every piece of it has bytes before and after it that nobody may touch, and
//! begins as such bytes itself. It knows nothing of what the pieces are for.

use crate::dma::{Arena, OutOfMemory, Region};

/// What a byte is that nothing has been written to.
pub const UNTOUCHED: u8 = 0xa5;
/// How many bytes are before and after each piece, and what pieces are aligned to.
const GUARD: usize = 64;
/// How many bytes are looked at in one step.
const STEP: usize = 512;
/// How many pieces there can be.
const PIECES: usize = 32;

/// Memory that is handed out in pieces.
pub struct Yard<'m> {
    arena: Arena<'m>,
    /// Each piece with its guards.
    pieces: [Option<Region<'m>>; PIECES],
}

impl<'m> Yard<'m> {
    /// A yard in `arena`.
    pub const fn new(arena: Arena<'m>) -> Self {
        Self {
            arena,
            pieces: [None; PIECES],
        }
    }

    /// A piece of `len` bytes, all of them [`UNTOUCHED`].
    ///
    /// # Errors
    /// There is not so much memory left. More pieces than there can be are a mistake in this
    /// program, and panic.
    pub fn alloc(&mut self, len: usize) -> Result<Region<'m>, OutOfMemory> {
        let piece = self.arena.alloc(GUARD + len + GUARD, GUARD as u64)?;
        piece.fill(UNTOUCHED);
        let free = self.pieces.iter().position(Option::is_none);
        self.pieces[free.unwrap_or(PIECES)] = Some(piece);
        Ok(piece.part(GUARD, len))
    }

    /// Whether no guard has been touched.
    pub fn is_intact(&self) -> bool {
        self.pieces.iter().flatten().all(|piece| {
            let end = piece.len() - GUARD;
            is_filled(piece.part(0, GUARD), UNTOUCHED)
                && is_filled(piece.part(end, GUARD), UNTOUCHED)
        })
    }
}

/// Whether every byte of `region` is `byte`.
pub fn is_filled(region: Region<'_>, byte: u8) -> bool {
    chunks(region).all(|chunk| {
        let mut bytes = [0; STEP];
        let bytes = &mut bytes[..chunk.len()];
        chunk.read(0, bytes);
        *bytes == [byte; STEP][..chunk.len()]
    })
}

/// Whether two regions of one length hold the same.
pub fn is_same(a: Region<'_>, b: Region<'_>) -> bool {
    a.len() == b.len()
        && chunks(a).zip(chunks(b)).all(|(a, b)| {
            let (mut ours, mut theirs) = ([0; STEP], [0; STEP]);
            a.read(0, &mut ours[..a.len()]);
            b.read(0, &mut theirs[..b.len()]);
            ours == theirs
        })
}

/// Copies all of `from` to the beginning of `to`.
pub fn copy(from: Region<'_>, to: Region<'_>) {
    for (i, chunk) in chunks(from).enumerate() {
        let mut bytes = [0; STEP];
        let bytes = &mut bytes[..chunk.len()];
        chunk.read(0, bytes);
        to.write(i * STEP, bytes);
    }
}

fn chunks(region: Region<'_>) -> impl Iterator<Item = Region<'_>> {
    (0..region.len())
        .step_by(STEP)
        .map(move |offset| region.part(offset, STEP.min(region.len() - offset)))
}
