//! Tests of the frame allocator (trust label: CHECKED).

extern crate std;
use super::*;
use std::collections::HashSet;
use std::vec;
use std::vec::Vec;

const BASE: u64 = 0x4000_0000;

fn with_frames(blocks: u64, test: impl FnOnce(Frames)) {
    let mut links = vec![0; (blocks * FRAMES_PER_BLOCK) as usize];
    let mut frames = Frames::new(BASE, &mut links);
    for index in 0..FRAMES_PER_BLOCK {
        frames.release(BASE + index * FRAME_SIZE);
    }
    for block in 1..blocks {
        frames.add_block(BASE + block * BLOCK_SIZE);
    }
    test(frames);
}

#[test]
fn every_frame_but_the_tables_can_be_had_once_and_the_count_is_exact() {
    with_frames(4, |mut frames| {
        assert_eq!(frames.available(), 512 + 3 * 511);
        let (mut seen, mut tables) = (HashSet::new(), HashSet::new());
        let mut list = List::EMPTY;
        for left in (0..512 + 3 * 511).rev() {
            let frame = frames.allocate(|block, table| {
                assert!(block % BLOCK_SIZE == 0 && tables.insert(table));
                true
            });
            let frame = frame.expect("a frame is left");
            assert!(seen.insert(frame) && (BASE..BASE + 4 * BLOCK_SIZE).contains(&frame));
            frames.push(&mut list, frame);
            assert_eq!(frames.available(), left);
        }
        assert_eq!(frames.allocate(|_, _| true), None);
        assert!(tables.len() == 3 && tables.is_disjoint(&seen));
        while let Some(frame) = frames.pop(&mut list) {
            assert!(seen.remove(&frame));
            frames.release(frame);
        }
        assert!(seen.is_empty() && list.is_empty());
        assert_eq!(frames.available(), 512 + 3 * 511);
    });
}

#[test]
fn a_refused_split_changes_nothing() {
    with_frames(2, |mut frames| {
        for _ in 0..511 {
            frames.allocate(|_, _| panic!("no split is due")).expect("a frame");
        }
        assert_eq!(frames.allocate(|_, _| false), None);
        assert_eq!(frames.available(), 1 + 511);
        assert!(frames.allocate(|_, _| true).is_some());
        assert_eq!(frames.available(), 511);
    });
}

#[test]
fn blocks_are_found_by_their_number_and_come_back_whole() {
    with_frames(5, |mut frames| {
        let before = frames.available();
        let mut list = List::EMPTY;
        let blocks: Vec<u64> = (0..4).map(|_| frames.allocate_block().expect("a block is left")).collect();
        assert_eq!((frames.allocate_block(), frames.available()), (None, 512));
        for (number, block) in blocks.iter().enumerate() {
            frames.push_block(&mut list, *block, 100 + number as u32);
        }
        assert_eq!(frames.take_block(&mut list, 7), None);
        for number in [2, 0, 3] {
            assert_eq!(frames.take_block(&mut list, 100 + number as u32), Some(blocks[number]));
            frames.add_block(blocks[number]);
        }
        assert_eq!(frames.take_block(&mut list, 102), None);
        assert_eq!((frames.pop(&mut list), list.is_empty()), (Some(blocks[1]), true));
        frames.add_block(blocks[1]);
        assert_eq!(frames.available(), before);
    });
}

#[test]
fn a_block_that_is_cut_while_it_is_given_away_keeps_the_count() {
    with_frames(2, |mut frames| {
        let before = frames.available();
        let block = frames.allocate_block().expect("a block is left");
        let table = frames.allocate(|_, _| panic!("no split is due")).expect("a frame");
        frames.allocate(|_, _| panic!("no split is due")).expect("a frame for the host's table, for good");
        for index in 0..FRAMES_PER_BLOCK {
            frames.release(block + index * FRAME_SIZE);
        }
        frames.release(table);
        assert_eq!(frames.available(), before);
    });
}

#[test]
fn addresses_outside_are_ignored() {
    with_frames(1, |mut frames| {
        for address in [0, BASE - FRAME_SIZE, BASE + BLOCK_SIZE, u64::MAX] {
            frames.release(address);
            frames.add_block(address);
        }
        assert_eq!(frames.available(), 512);
    });
}
