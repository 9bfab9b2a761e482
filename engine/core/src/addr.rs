//! Addresses and indices as types. Trust label: PROVED.
//!
//! A number that comes from the host or a VM is an allegation; only the checks of [`crate::call`] turn it into one
//! of these. Frames are counted from the machine's lowest RAM address, rounded down to 1 GiB, so that the frame
//! index of a physical address does not depend on where a platform puts its RAM.

use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE, IPA_BITS};

/// log2 of the frame size (4 KiB granule, Arm ARM DDI 0487 D8.2).
pub const FRAME_SHIFT: u32 = 12;
/// log2 of the number of frames in a block, of entries in a table.
pub const TABLE_SHIFT: u32 = 9;
/// Entries of a translation table; frames of a block.
pub const TABLE_ENTRIES: u64 = 1 << TABLE_SHIFT;

/// A frame of RAM: index of a 4 KiB page counted from the machine's RAM base. Less than `Hardware::frames()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame(pub u64);

/// A block of RAM: index of a 2 MiB area counted from the machine's RAM base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block(pub u64);

/// A page-aligned intermediate physical address of a VM, below 2^39.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipa(pub u64);

/// A VM slot, below `abi::VM_SLOTS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmId(pub u64);

impl Frame {
    /// The block that the frame lies in.
    #[inline(always)]
    #[must_use]
    pub const fn block(self) -> Block {
        Block(self.0 >> TABLE_SHIFT)
    }

    /// Index of the frame within its block: the slot of its leaf in the block's host table.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u64 {
        self.0 & (TABLE_ENTRIES - 1)
    }
}

impl Block {
    /// First frame of the block.
    #[inline(always)]
    #[must_use]
    pub const fn first(self) -> Frame {
        Frame(self.0 << TABLE_SHIFT)
    }
}

impl Ipa {
    /// Accepts a page-aligned address below 2^39.
    #[inline(always)]
    #[must_use]
    pub const fn checked(value: u64) -> Option<Self> {
        if value & (FRAME_SIZE - 1) == 0 && value >> IPA_BITS == 0 { Some(Self(value)) } else { None }
    }

    /// Index of the address in its translation table of `level` 1, 2 or 3 (Arm ARM DDI 0487 D8.2.4).
    #[inline(always)]
    #[must_use]
    pub const fn index(self, level: u32) -> u64 {
        let shift = FRAME_SHIFT + TABLE_SHIFT * (3 - level);
        (self.0 >> shift) & (TABLE_ENTRIES - 1)
    }

    /// Whether the address is one that a level 2 entry can map: a multiple of 2 MiB.
    #[inline(always)]
    #[must_use]
    pub const fn is_block_aligned(self) -> bool {
        self.0 & (BLOCK_SIZE - 1) == 0
    }
}
