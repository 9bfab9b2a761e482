//! Stage 2 descriptors, 4 KiB granule (Arm ARM DDI 0487, D8.3 and D8.5). Trust label: PROVED.

use crate::Hardware;
use crate::addr::{FRAME_SHIFT, Frame};

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
