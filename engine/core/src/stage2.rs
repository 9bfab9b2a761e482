//! Stage 2 descriptors, 4 KiB granule (Arm ARM DDI 0487, D8.3 and D8.5). Trust label: PROVED.

use crate::Hardware;
use crate::addr::{Block, FRAME_SHIFT, Frame, Ipa, VmId};
use crate::vm::Field;

/// Output address bits 47:12 of a descriptor.
pub const ADDRESS_MASK: u64 = 0x0000_ffff_ffff_f000;
/// Bit 0: the entry is valid.
pub const VALID: u64 = 1;
/// Bits 1:0 of a table descriptor at levels 0 to 2.
pub const TABLE: u64 = 3;
/// Leaf attributes for RAM: Normal Write-Back (`MemAttr` 0xf), read-write, inner shareable, accessed.
const RAM: u64 = 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10;
/// Level 3 leaf for RAM.
pub const PAGE: u64 = RAM | 3;
/// Level 2 leaf for RAM.
pub const BLOCK: u64 = RAM | 1;

/// The level 3 descriptor that maps RAM frame `frame`.
#[inline(always)]
pub fn page<H: Hardware>(hw: H, frame: Frame) -> u64 {
    address(hw, frame) | PAGE
}

/// The descriptor that names the table in `frame`.
#[inline(always)]
pub fn table<H: Hardware>(hw: H, frame: Frame) -> u64 {
    address(hw, frame) | TABLE
}

/// The level 2 descriptor that maps RAM block `block`.
#[inline(always)]
pub fn block<H: Hardware>(hw: H, block: Block) -> u64 {
    address(hw, block.first()) | BLOCK
}

/// Whether a descriptor of level 1 or 2 names a table.
#[inline(always)]
#[must_use]
pub const fn is_table(descriptor: u64) -> bool {
    descriptor & TABLE == TABLE
}

/// Physical address of a frame. Cannot overflow: the RAM window ends below 2^46.
#[inline(always)]
pub fn address<H: Hardware>(hw: H, frame: Frame) -> u64 {
    hw.ram_base().wrapping_add(frame.0 << FRAME_SHIFT)
}

/// The frame that a valid descriptor names; only meaningful for descriptors that the engine wrote.
#[inline(always)]
pub fn target<H: Hardware>(hw: H, descriptor: u64) -> Frame {
    Frame((descriptor & ADDRESS_MASK).wrapping_sub(hw.ram_base()) >> FRAME_SHIFT)
}

/// What the stage 2 of a VM has at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// No leaf.
    Nothing,
    /// A whole block.
    Block,
    /// A page in this frame.
    Page(Frame),
}

/// Walks the tables of `vm`. The ownership lock is held: tables do not change hands meanwhile.
#[inline(always)]
pub fn walk<H: Hardware>(hw: H, vm: VmId, ipa: Ipa) -> Mapping {
    let level1 = hw.table_entry(Frame(hw.vm_word(vm, Field::ROOT)), ipa.index(1));
    if level1 & VALID == 0 {
        return Mapping::Nothing;
    }
    let level2 = hw.table_entry(target(hw, level1), ipa.index(2));
    if level2 & VALID == 0 {
        return Mapping::Nothing;
    }
    if !is_table(level2) {
        return Mapping::Block;
    }
    let leaf = hw.table_entry(target(hw, level2), ipa.index(3));
    if leaf & VALID == 0 { Mapping::Nothing } else { Mapping::Page(target(hw, leaf)) }
}
