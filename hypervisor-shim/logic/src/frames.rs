//! The frames that the host can give away (trust label: UNTRUSTED).
//!
//! Memory comes as whole 2 MiB blocks; before a block's frames can change hands one by one, the engine needs a
//! frame for its finer table (`host_split`), for good. One table of links, a `u32` per frame, holds the list of
//! free frames, the list of unsplit blocks (linked by their first frames) and the lists of frames that each VM
//! got ([`List`]). An unsplit block counts as 511 free frames, so that splitting changes no count and a VM that
//! comes and goes leaves the number of free frames as it was.

use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE};

const FRAMES_PER_BLOCK: u64 = BLOCK_SIZE / FRAME_SIZE;
/// End of a list.
const NONE: u32 = u32::MAX;

/// A list of frames, linked through the table of [`Frames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    head: u32,
    length: u64,
}

impl List {
    /// No frames.
    pub const EMPTY: Self = Self { head: NONE, length: 0 };

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// All frames. Invariants: a frame is in at most one list; `base` is the address of link 0, block-aligned.
pub struct Frames<'t> {
    base: u64,
    links: &'t mut [u32],
    free: List,
    blocks: List,
}

impl<'t> Frames<'t> {
    /// No free frames yet, among `links.len()` frames from physical address `base`.
    #[must_use]
    pub fn new(base: u64, links: &'t mut [u32]) -> Self {
        Self { base, links, free: List::EMPTY, blocks: List::EMPTY }
    }

    /// Number of frames that can be allocated.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.free.length + self.blocks.length * (FRAMES_PER_BLOCK - 1)
    }

    /// Adds an unsplit block, or gives one back. Addresses outside the table are ignored.
    pub fn add_block(&mut self, address: u64) {
        if address % BLOCK_SIZE == 0 {
            let mut blocks = self.blocks;
            self.push(&mut blocks, address);
            self.blocks = blocks;
        }
    }

    /// A whole block, if one is left that has not been split.
    pub fn allocate_block(&mut self) -> Option<u64> {
        let mut blocks = self.blocks;
        let block = self.pop(&mut blocks);
        self.blocks = blocks;
        block
    }

    /// Puts an allocated block into `list`, with a number by which [`Frames::take_block`] finds it.
    pub fn push_block(&mut self, list: &mut List, block: u64, number: u32) {
        let before = list.length;
        self.push(list, block);
        if list.length != before {
            // The link of the block's second frame is free: frames of a whole block are in no list.
            if let Some(link) = self.links.get_mut(list.head as usize + 1) {
                *link = number;
            }
        }
    }

    /// Takes the block with this number off `list`.
    pub fn take_block(&mut self, list: &mut List, number: u32) -> Option<u64> {
        let (mut previous, mut index) = (None, list.head);
        loop {
            let next = *self.links.get(index as usize)?;
            if self.links.get(index as usize + 1) == Some(&number) {
                match previous {
                    None => list.head = next,
                    Some(previous) => self.links[previous as usize] = next,
                }
                list.length -= 1;
                return Some(self.base + u64::from(index) * FRAME_SIZE);
            }
            (previous, index) = (Some(index), next);
        }
    }

    /// Gives a frame back, or adds one of a split block. Addresses outside the table are ignored.
    pub fn release(&mut self, address: u64) {
        let mut free = self.free;
        self.push(&mut free, address);
        self.free = free;
    }

    /// A frame. `split(block, table)` must ask the engine to split `block` with the frame `table`; it is called
    /// while one frame is left, and false from it means that nothing changed.
    pub fn allocate(&mut self, split: impl FnOnce(u64, u64) -> bool) -> Option<u64> {
        if self.free.length <= 1 && !self.blocks.is_empty() {
            self.split_one(split)?;
        }
        let mut free = self.free;
        let frame = self.pop(&mut free);
        self.free = free;
        frame
    }

    fn split_one(&mut self, split: impl FnOnce(u64, u64) -> bool) -> Option<()> {
        let (mut free, mut blocks) = (self.free, self.blocks);
        let table = self.pop(&mut free)?;
        let block = self.pop(&mut blocks)?;
        if !split(block, table) {
            self.push(&mut blocks, block);
            self.push(&mut free, table);
            return None;
        }
        for index in (0..FRAMES_PER_BLOCK).rev() {
            self.push(&mut free, block + index * FRAME_SIZE);
        }
        (self.free, self.blocks) = (free, blocks);
        Some(())
    }

    /// Puts an allocated frame into `list`.
    pub fn push(&mut self, list: &mut List, address: u64) {
        let index = address.checked_sub(self.base).map(|offset| offset / FRAME_SIZE);
        let index = index.and_then(|index| u32::try_from(index).ok());
        if let Some((index, link)) = index.and_then(|index| Some((index, self.links.get_mut(index as usize)?))) {
            *link = list.head;
            *list = List { head: index, length: list.length + 1 };
        }
    }

    /// Takes the frame that was put into `list` last.
    pub fn pop(&mut self, list: &mut List) -> Option<u64> {
        let link = *self.links.get(list.head as usize)?;
        let address = self.base + u64::from(list.head) * FRAME_SIZE;
        *list = List { head: link, length: list.length - 1 };
        Some(address)
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
