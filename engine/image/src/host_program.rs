//! Copies the host program to its place and tells it what it has. Trust label: TRUSTED.
//!
//! The program follows the engine in the boot file and is an arm64 Image itself: its header says how much memory it
//! takes with its zero-initialised data. The page after that holds the [`BootInfo`].

use bulkhead_abi::{BootInfo, Range};
use bulkhead_arch::{cache, layout};

use crate::tables::PAGE;

/// Offset of `image_size` and of the magic number in an arm64 Image header.
const IMAGE_SIZE: u64 = 16;
const MAGIC_OFFSET: u64 = 56;
const MAGIC: u32 = u32::from_le_bytes(*b"ARM\x64");

/// Memory that the program at `source` (a range of the boot file, mapped in the RAM window) takes, in whole pages.
pub fn memory_size(source: Range) -> Result<u64, &'static str> {
    if source.size < 64 {
        return Err("the host program is missing: the boot file ends with the engine");
    }
    let header = layout::RAM + source.base;
    // SAFETY: the header lies in the boot file (size above), mapped, aligned to 4 KiB.
    let (magic, size) =
        unsafe { (((header + MAGIC_OFFSET) as *const u32).read(), ((header + IMAGE_SIZE) as *const u64).read()) };
    if magic != MAGIC || size < source.size || size > 1 << 30 {
        return Err("the host program has no sound arm64 Image header");
    }
    Ok(size.next_multiple_of(PAGE))
}

/// Copies the program to the start of `target` and zeroes the rest of it.
pub fn load(source: Range, target: Range) {
    let address = layout::RAM + target.base;
    // SAFETY: both ranges are mapped RAM, the target is the host's, they do not overlap (boot chose it so).
    unsafe {
        let to = address as *mut u8;
        core::ptr::copy_nonoverlapping((layout::RAM + source.base) as *const u8, to, source.size as usize);
        core::ptr::write_bytes(to.add(source.size as usize), 0, (target.size - source.size) as usize);
        cache::clean_invalidate(address, target.size);
    }
    cache::invalidate_instructions();
}

/// Writes the boot information to the page at physical address `pa`.
pub fn describe(pa: u64, info: &BootInfo) {
    const { assert!(size_of::<BootInfo>() <= PAGE as usize) };
    // SAFETY: a page of the target range, mapped, the host's, not in use.
    unsafe {
        core::ptr::write_bytes((layout::RAM + pa) as *mut u8, 0, PAGE as usize);
        ((layout::RAM + pa) as *mut BootInfo).write(*info);
        cache::clean_invalidate(layout::RAM + pa, PAGE);
    }
}
