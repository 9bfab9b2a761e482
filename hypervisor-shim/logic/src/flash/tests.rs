extern crate std;
use super::*;
use std::vec;
use std::vec::Vec;

/// Bits in ordinary memory, of which the last byte is broken.
struct Memory(Vec<u8>);

impl Cells for Memory {
    fn byte(&self, offset: u64) -> u8 {
        self.0[offset as usize]
    }

    fn program(&mut self, offset: u64, value: u8) -> bool {
        self.0[offset as usize] &= value;
        offset != SIZE - 1
    }

    fn erase(&mut self, offset: u64) {
        self.0[offset as usize..][..BLOCK as usize].fill(0xff);
    }
}

struct Bank(Flash, Memory);

impl Bank {
    fn new() -> Self {
        Self(Flash::new(), Memory(vec![0xff; SIZE as usize]))
    }

    /// A command as firmware sends it: to both chips at once.
    fn send(&mut self, offset: u64, command: u64) {
        self.0.write(&mut self.1, offset, 4, command << 16 | command);
    }

    fn write(&mut self, offset: u64, size: u64, value: u64) {
        self.0.write(&mut self.1, offset, size, value);
    }

    fn read(&self, offset: u64, size: u64) -> u64 {
        self.0.read(&self.1, offset, size)
    }

    fn status(&mut self) -> u64 {
        self.send(0, 0x70);
        self.read(0, 4)
    }
}

const DONE: u64 = 0x0080_0080;

#[test]
fn a_new_bank_is_erased_and_reads_as_memory() {
    let bank = Bank::new();
    assert_eq!((bank.read(0, 8), bank.read(SIZE - 1, 1)), (u64::MAX, 0xff));
}

#[test]
fn programming_clears_bits_and_only_erasing_sets_them() {
    let mut bank = Bank::new();
    for value in [0x1234_5678, 0xffff_0000] {
        bank.send(0x100, 0x40);
        bank.write(0x100, 4, value);
        assert_eq!(bank.read(0x100, 4), DONE, "the status until told otherwise");
    }
    bank.send(0, 0xff);
    assert_eq!((bank.read(0x100, 4), bank.read(0x102, 1), bank.read(0x104, 4)), (0x1234_0000, 0x34, 0xffff_ffff));
    bank.send(BLOCK, 0x40);
    bank.write(BLOCK, 4, 0);
    bank.send(0x3_0000, 0x20);
    bank.send(0x3_0000, 0xd0);
    bank.send(0, 0xff);
    assert_eq!((bank.read(0x100, 4), bank.read(BLOCK, 4)), (0xffff_ffff, 0), "one block and no other");
}

#[test]
fn a_buffer_is_programmed_when_it_is_confirmed() {
    let mut bank = Bank::new();
    bank.send(0x80, 0xe8);
    assert_eq!(bank.read(0x80, 4), DONE, "a buffer is free");
    bank.send(0x80, 31);
    for word in 0..32 {
        bank.write(0x80 + 4 * word, 4, word);
    }
    assert_eq!(bank.1.0[0x80..0x84], [0xff; 4]);
    bank.send(0x80, 0xd0);
    assert_eq!(bank.status(), DONE);
    bank.send(0, 0xff);
    assert_eq!((bank.read(0x80, 4), bank.read(0xfc, 4), bank.read(0x7c, 4)), (0, 31, 0xffff_ffff));
}

#[test]
fn narrow_writes_go_through_the_buffer_too() {
    let mut bank = Bank::new();
    bank.write(BLOCK, 2, 0xe8);
    bank.write(BLOCK, 2, 1);
    bank.write(BLOCK + 0x82, 2, 0xbeef);
    bank.write(BLOCK + 0x84, 2, 0xcafe);
    bank.write(BLOCK, 2, 0xd0);
    bank.write(BLOCK, 2, 0xff);
    assert_eq!(bank.read(BLOCK + 0x80, 8), 0xffff_cafe_beef_ffff);
}

#[test]
fn senseless_sequences_fail_change_nothing_and_stay_in_the_status_until_cleared() {
    const SEQUENCE_FAILED: u64 = 0x00b0_00b0;
    let sequences: [&[(u64, u64)]; 6] = [
        &[(0, 0x20), (0, 0x20)],
        &[(0, 0x60), (0, 0x77)],
        &[(0, 0xe8), (0, 128)],
        &[(0, 0xe8), (0, 1), (0, 5), (0x80, 5)],
        &[(0, 0xe8), (0, 0), (0, 5), (0, 0xff)],
        &[(0, 0xe8), (0, 0), (0, 5), (0, 0x40)],
    ];
    for sequence in sequences {
        let mut bank = Bank::new();
        sequence.iter().for_each(|(offset, value)| bank.send(*offset, *value));
        assert_eq!((bank.status(), bank.status()), (SEQUENCE_FAILED, SEQUENCE_FAILED), "{sequence:x?}");
        bank.send(0, 0x50);
        assert_eq!(bank.status(), DONE);
        assert!(bank.1.0.iter().all(|byte| *byte == 0xff));
    }
}

#[test]
fn cells_that_keep_nothing_are_told() {
    let mut bank = Bank::new();
    bank.send(SIZE - 4, 0x40);
    bank.write(SIZE - 4, 4, 0);
    assert_eq!(bank.status(), 0x0090_0090);
}

#[test]
fn locks_are_taken_and_ignored() {
    let mut bank = Bank::new();
    for action in [0x01, 0xd0, 0x2f] {
        bank.send(0, 0x60);
        bank.send(0, action);
        assert_eq!(bank.status(), DONE);
    }
    bank.send(0, 0x90);
    assert_eq!([0, 4, 8].map(|offset| bank.read(BLOCK + offset, 4)), [0x0089_0089, 0x0018_0018, 0]);
}

#[test]
fn the_query_describes_this_bank() {
    let mut bank = Bank::new();
    bank.send(0x154, 0x98);
    let word = |index: u64| bank.read(4 * index, 2);
    assert_eq!([0x10, 0x11, 0x12].map(word), [0x51, 0x52, 0x59]);
    assert_eq!(bank.read(0x40, 4), 0x0051_0051, "both chips answer");
    assert_eq!(2 << word(0x27), SIZE);
    assert_eq!(2 << word(0x2a), BUFFER);
    assert_eq!((word(0x2c), word(0x2d) + 1), (1, SIZE / BLOCK));
    assert_eq!((word(0x30) << 8 | word(0x2f)) * 256 * 2, BLOCK);
    let table = word(0x15);
    assert_eq!([table, table + 1, table + 2].map(word), [0x50, 0x52, 0x49]);
    assert_eq!((word(0), word(0xffff)), (0, 0));
}

#[test]
fn nothing_lies_behind_the_bank() {
    let mut bank = Bank::new();
    bank.write(SIZE, 4, 0x98);
    bank.write(SIZE - 4, 8, 0x98);
    assert_eq!((bank.read(0x40, 4), bank.read(SIZE, 8)), (0xffff_ffff, 0));
}
