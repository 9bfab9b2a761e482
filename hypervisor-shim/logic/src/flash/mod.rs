//! The NOR flash that a VM's firmware keeps its variables in: two 16-bit chips side by side that act as one, with the
//! Intel command set (trust label: UNTRUSTED).
//!
//! Sources: Common Flash Interface (JEDEC JESD68.01, JEP137B: command set 0x0001) and the data sheet of Intel
//! StrataFlash P30 (order number 306666), section 6: commands, status register. A chip's command is the low byte of
//! a write; programming clears bits, erasing a block sets all of them. Every command is done at once, so the chips
//! are never busy; no block can be locked. As in QEMU's machine `virt`, for which the firmware is made, both chips
//! take every command, also one that a narrow write addresses to one of them alone.

mod query;

/// Bytes of the bank.
pub const SIZE: u64 = 1 << 20;
/// Bytes of a block, the unit of erasing: 128 KiB of each chip.
pub const BLOCK: u64 = 256 << 10;
/// Bytes of the write buffer: 64 of each chip.
const BUFFER: u64 = 128;
/// Bytes between two words of a chip.
const STRIDE: u64 = 4;

/// Status: ready.
const READY: u8 = 1 << 7;
const ERASE_FAILED: u8 = 1 << 5;
const PROGRAM_FAILED: u8 = 1 << 4;
/// Both failures together: the sequence of commands made no sense.
const SEQUENCE: u8 = ERASE_FAILED | PROGRAM_FAILED;

const CONFIRM: u8 = 0xd0;
const LOCK: u8 = 0x01;
const LOCK_DOWN: u8 = 0x2f;

/// What keeps the bits. Offsets are below [`SIZE`].
pub trait Cells {
    /// The byte at `offset`; erased: 0xff.
    fn byte(&self, offset: u64) -> u8;
    /// Clears the bits of the byte at `offset` that are 0 in `value`; false if it cannot keep them.
    fn program(&mut self, offset: u64, value: u8) -> bool;
    /// Sets all bits of the block at `offset`.
    fn erase(&mut self, offset: u64);
}

/// What a load sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Array,
    Status,
    Identifier,
    Query,
}

/// What the next write means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Command,
    /// One datum to program.
    Datum,
    /// The confirmation of an erasure.
    Erase,
    /// What to do with a block's lock.
    Lock,
    /// Number of data less one.
    Count,
    /// Data for the buffer, whose place in the bank the first datum's address has said or will say.
    Data {
        left: u64,
        base: Option<u64>,
    },
    /// The confirmation that the buffer is to be programmed there.
    Program {
        base: u64,
    },
}

/// The command state of the bank.
pub struct Flash {
    view: View,
    expected: Expected,
    status: u8,
    buffer: [u8; BUFFER as usize],
}

impl Default for Flash {
    fn default() -> Self {
        Self::new()
    }
}

impl Flash {
    /// The bank after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self { view: View::Array, expected: Expected::Command, status: READY, buffer: [0xff; BUFFER as usize] }
    }

    /// Value of a load of `size` bytes (1 to 8) at `offset`.
    #[must_use]
    pub fn read(&self, cells: &impl Cells, offset: u64, size: u64) -> u64 {
        (0..size).rev().fold(0, |value, index| value << 8 | u64::from(self.byte(cells, offset + index)))
    }

    fn byte(&self, cells: &impl Cells, offset: u64) -> u8 {
        let word = offset % BLOCK / STRIDE;
        match self.view {
            View::Array if offset < SIZE => cells.byte(offset),
            // What chips say of themselves stands in the low byte of their 16 bits.
            View::Status if offset % 2 == 0 => self.status,
            View::Identifier if offset % 2 == 0 => query::identifier(word),
            View::Query if offset % 2 == 0 => query::answer(word),
            _ => 0,
        }
    }

    /// A store of `size` bytes (1 to 8) at `offset`.
    pub fn write(&mut self, cells: &mut impl Cells, offset: u64, size: u64, value: u64) {
        if offset >= SIZE || size > SIZE - offset {
            return;
        }
        let low = value as u8;
        match self.expected {
            Expected::Command => self.command(low),
            Expected::Datum => {
                let kept = bytes(offset, size, value).all(|(at, byte)| cells.program(at, byte));
                self.finish(if kept { 0 } else { PROGRAM_FAILED });
            }
            Expected::Erase if low == CONFIRM => {
                cells.erase(offset / BLOCK * BLOCK);
                self.finish(0);
            }
            Expected::Lock if matches!(low, LOCK | LOCK_DOWN | CONFIRM) => self.finish(0),
            Expected::Count => self.open_buffer(value & 0xffff),
            Expected::Data { left, base } => {
                let base = base.unwrap_or(offset / BUFFER * BUFFER);
                self.fill_buffer(base, bytes(offset, size, value), left);
            }
            Expected::Program { base } if low == CONFIRM => {
                let mut data = (base..).zip(self.buffer);
                let kept = data.all(|(at, byte)| cells.program(at, byte));
                self.finish(if kept { 0 } else { PROGRAM_FAILED });
            }
            Expected::Erase | Expected::Lock | Expected::Program { .. } => self.finish(SEQUENCE),
        }
    }

    fn command(&mut self, command: u8) {
        let (view, expected) = match command {
            0x10 | 0x40 => (View::Status, Expected::Datum),
            0x20 => (View::Status, Expected::Erase),
            0x50 => {
                self.status = READY;
                (self.view, Expected::Command)
            }
            0x60 => (View::Status, Expected::Lock),
            0x70 => (View::Status, Expected::Command),
            0x90 => (View::Identifier, Expected::Command),
            0x98 => (View::Query, Expected::Command),
            0xe8 => (View::Status, Expected::Count),
            // 0xff. What is no command of these chips resets them, too: so do probes for those of other makers.
            _ => (View::Array, Expected::Command),
        };
        self.view = view;
        self.expected = expected;
    }

    fn open_buffer(&mut self, count: u64) {
        if count >= BUFFER {
            return self.finish(SEQUENCE);
        }
        self.buffer = [0xff; BUFFER as usize];
        self.expected = Expected::Data { left: count + 1, base: None };
    }

    fn fill_buffer(&mut self, base: u64, data: impl Iterator<Item = (u64, u8)>, left: u64) {
        for (at, byte) in data {
            let place = at.checked_sub(base).and_then(|place| usize::try_from(place).ok());
            match place.and_then(|place| self.buffer.get_mut(place)) {
                Some(place) => *place &= byte,
                None => return self.finish(SEQUENCE),
            }
        }
        self.expected = match left {
            0 | 1 => Expected::Program { base },
            _ => Expected::Data { left: left - 1, base: Some(base) },
        };
    }

    /// The end of a command, with failures that stay in the status until it is cleared.
    fn finish(&mut self, failures: u8) {
        self.status |= failures;
        self.expected = Expected::Command;
    }
}

/// The bytes of a store and where they go.
fn bytes(offset: u64, size: u64, value: u64) -> impl Iterator<Item = (u64, u8)> {
    (0..size).map(move |index| (offset + index, (value >> (8 * index)) as u8))
}

#[cfg(test)]
mod tests;
