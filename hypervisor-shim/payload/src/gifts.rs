//! Which frames a storm has given away, to which VM, and what is in those that come back (trust label: UNTRUSTED).
//!
//! Notes are hints: another CPU may be about to change what they say. Whether a frame that has come back is zero can be
//! said all the same: if nobody was giving it away while it was looked at, it was the host's all the time.

use crate::tally::{self, Event};
use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE};
use bulkhead_el1::probe;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Most frames and blocks that a storm is about.
const FRAMES: usize = 16 << 10;
const BLOCKS: usize = FRAMES / PER_BLOCK;
const PER_BLOCK: usize = (BLOCK_SIZE / FRAME_SIZE) as usize;

/// Owner of a frame or block that nobody has got.
pub const NOBODY: u8 = 0;
/// Owner of a frame that the host's stage 2 keeps.
pub const HOST_TABLE: u8 = u8::MAX;

/// Attempts to give a loose frame, or anything of a block, away: those under way below [`OVER`], those that are over above.
static ATTEMPTS: [AtomicU64; FRAMES + BLOCKS] = [const { AtomicU64::new(0) }; FRAMES + BLOCKS];
/// Who got it: [`NOBODY`], a VM's slot + 1, or [`HOST_TABLE`].
static OWNER: [AtomicU8; FRAMES + BLOCKS] = [const { AtomicU8::new(NOBODY) }; FRAMES + BLOCKS];
const OVER: u64 = 1 << 32;

/// Physical memory that a storm is about: loose frames, then blocks.
#[derive(Clone, Copy)]
pub struct Ground {
    /// First loose frame and their number.
    pub frame: u64,
    /// See `frame`.
    pub frames: u64,
    /// First block and their number.
    pub block: u64,
    /// See `block`.
    pub blocks: u64,
    /// A page of the host with the code that the host puts into frames; nothing else may be in one that comes back.
    pub code: u64,
}

/// One frame, or one whole block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// 4 KiB at this address.
    Frame(u64),
    /// 2 MiB at this address.
    Block(u64),
}

impl Ground {
    /// Addresses of all blocks.
    pub fn all_blocks(self) -> impl Iterator<Item = u64> {
        (0..self.blocks).map(move |number| self.block + number * BLOCK_SIZE)
    }

    /// Addresses of all frames, those of blocks last.
    pub fn all_frames(self) -> impl Iterator<Item = u64> {
        let loose = (0..self.frames).map(move |number| self.frame + number * FRAME_SIZE);
        loose.chain(self.all_blocks().flat_map(frames_of))
    }

    fn place(self, piece: Piece) -> Option<usize> {
        let inside = |address: u64, base: u64, size: u64| (base..base + size).contains(&address);
        let loose = self.frames as usize;
        let in_blocks = |address: u64| inside(address, self.block, self.blocks * BLOCK_SIZE);
        match piece {
            Piece::Frame(at) if inside(at, self.frame, self.frames * FRAME_SIZE) => {
                Some(((at - self.frame) / FRAME_SIZE) as usize)
            }
            Piece::Frame(at) if in_blocks(at) => Some(loose + ((at - self.block) / FRAME_SIZE) as usize),
            Piece::Block(at) if in_blocks(at) => Some(FRAMES + ((at - self.block) / BLOCK_SIZE) as usize),
            _ => None,
        }
        .filter(|place| *place < OWNER.len())
    }

    /// Who has it, as far as is known.
    pub fn owner(self, piece: Piece) -> u8 {
        self.place(piece).map_or(NOBODY, |place| OWNER[place].load(Ordering::Relaxed))
    }

    /// Notes who has it.
    pub fn note(self, piece: Piece, owner: u8) {
        if let Some(place) = self.place(piece) {
            OWNER[place].store(owner, Ordering::Relaxed);
        }
    }

    /// Notes that `owner` has it no more.
    pub fn forget(self, piece: Piece, owner: u8) {
        if self.owner(piece) == owner {
            self.note(piece, NOBODY);
        }
    }

    /// Makes `call`, which gives `piece` to `owner` if it answers true.
    pub fn give(self, piece: Piece, owner: u8, call: impl FnOnce() -> bool) -> bool {
        let Some(attempts) = self.attempts(piece) else { return call() };
        attempts.fetch_add(1, Ordering::SeqCst);
        let given = call();
        if given {
            self.note(piece, owner);
        }
        attempts.fetch_add(OVER - 1, Ordering::SeqCst);
        given
    }

    /// Makes `call`, which takes `piece` back if it answers true, and looks at all that has come back.
    pub fn take_back(self, piece: Piece, call: impl FnOnce() -> bool) -> bool {
        let attempts = || self.attempts(piece).map_or(1, |attempts| attempts.load(Ordering::SeqCst));
        let before = attempts();
        if !call() {
            return false;
        }
        self.note(piece, NOBODY);
        let (frames, block) = match piece {
            Piece::Frame(address) => (Some(address), None),
            Piece::Block(address) => (None, Some(address)),
        };
        for frame in frames.into_iter().chain(block.into_iter().flat_map(frames_of)) {
            let clean = self.is_clean(frame);
            if before % OVER != 0 || attempts() != before {
                break;
            }
            match clean {
                Some(true) => tally::event(Event::LookedAt),
                Some(false) => tally::event(Event::Dirty),
                None => {}
            }
        }
        true
    }

    fn attempts(self, piece: Piece) -> Option<&'static AtomicU64> {
        let place = match piece {
            Piece::Frame(at) | Piece::Block(at) => {
                self.place(Piece::Block(at - at % BLOCK_SIZE)).or_else(|| self.place(piece))
            }
        };
        place.map(|place| &ATTEMPTS[place])
    }

    /// Whether nothing is in a frame but the host's own code and zeros; `None` if the host cannot see it.
    fn is_clean(self, frame: u64) -> Option<bool> {
        const PIECE: usize = 512; // of the stack
        let (mut found, mut code) = ([0; PIECE], [0; PIECE]);
        for offset in (0..FRAME_SIZE).step_by(PIECE) {
            // SAFETY: loads of memory that the tester has named; the program relies on none of it.
            unsafe {
                probe::load(frame + offset, &mut found).ok()?;
                probe::load(self.code + offset, &mut code).ok()?;
            }
            if found.iter().zip(&code).any(|(found, code)| *found != 0 && found != code) {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Forgets who has what.
pub fn clear() {
    OWNER.iter().for_each(|owner| owner.store(NOBODY, Ordering::Relaxed));
}

/// Addresses of the frames of a block.
pub fn frames_of(block: u64) -> impl Iterator<Item = u64> {
    (block..block + BLOCK_SIZE).step_by(FRAME_SIZE as usize)
}
