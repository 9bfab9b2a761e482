//! What the chips say of themselves (trust label: UNTRUSTED). Source: JEDEC JESD68.01, tables of the query structure.

use super::{BLOCK, BUFFER, SIZE};

const CHIPS: u64 = 2;
const CHIP_SIZE_LOG2: u8 = (SIZE / CHIPS).ilog2() as u8;
const BUFFER_LOG2: u8 = (BUFFER / CHIPS).ilog2() as u8;
/// Blocks less one, and a block's size in units of 256 bytes.
const BLOCKS: [u8; 2] = ((SIZE / BLOCK - 1) as u16).to_le_bytes();
const BLOCK_SIZE: [u8; 2] = ((BLOCK / CHIPS / 256) as u16).to_le_bytes();

/// From word 0x10 on.
const TABLE: [u8; 44] = [
    b'Q',
    b'R',
    b'Y',
    0x01,
    0x00, // the Intel command set,
    0x31,
    0x00, // whose own table is there;
    0x00,
    0x00,
    0x00,
    0x00, // there is no other.
    0x45,
    0x55,
    0x00,
    0x00, // Supply voltages.
    0x07,
    0x07,
    0x0a,
    0x00, // Typical times to program a word and a buffer, to erase a block and all: 2^n us, ms.
    0x04,
    0x04,
    0x04,
    0x00, // Longest times, 2^n times the typical ones.
    CHIP_SIZE_LOG2,
    0x02,
    0x00, // Size, and a data bus of 8 or 16 bits.
    BUFFER_LOG2,
    0x00, // The write buffer.
    0x01,
    BLOCKS[0],
    BLOCKS[1],
    BLOCK_SIZE[0],
    BLOCK_SIZE[1], // One region of equal blocks.
    b'P',
    b'R',
    b'I',
    b'1',
    b'0', // The command set's own table, version 1.0:
    0x00,
    0x00,
    0x00,
    0x00, // no optional feature,
    0x00,
    0x00, // nothing possible during a suspension,
];

/// The byte of the query structure at a chip's `word`.
pub fn answer(word: u64) -> u8 {
    const FIRST: u64 = 0x10;
    let index = word.checked_sub(FIRST).and_then(|index| usize::try_from(index).ok());
    index.and_then(|index| TABLE.get(index)).copied().unwrap_or(0)
}

/// The identifier at `word` of a block: maker (Intel), device (28F128J3), and that the block is not locked.
pub fn identifier(word: u64) -> u8 {
    match word {
        0 => 0x89,
        1 => 0x18,
        _ => 0,
    }
}
