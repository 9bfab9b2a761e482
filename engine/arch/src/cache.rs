//! Cache maintenance. Trust label: TRUSTED. Source: Arm ARM DDI 0487, D7.5 (cache support), CTR_EL0.
//!
//! QEMU does not model caches, so these are right by the manual, not by test: a frame is cleaned and invalidated to
//! the point of coherency before another domain gets it, because that domain may access it with other attributes.

use crate::sysreg::{dsb_ish, dsb_sy, isb};

/// Smallest data cache line in bytes (`CTR_EL0.DminLine`).
#[inline(always)]
#[must_use]
pub fn line_size() -> u64 {
    4 << (mrs!("CTR_EL0") >> 16 & 0xf)
}

/// Cleans and invalidates `size` bytes from virtual address `address` to the point of coherency.
///
/// # Safety
/// The range is mapped as Normal memory at EL2, `address` and `size` are multiples of 4096.
#[inline(always)]
pub unsafe fn clean_invalidate(address: u64, size: u64) {
    let line = line_size();
    let mut offset = 0;
    while offset < size {
        // SAFETY: the address is mapped (caller); cleaning a line changes no value that a coherent observer reads.
        unsafe {
            core::arch::asm!("dc civac, {}", in(reg) address.wrapping_add(offset), options(nostack, preserves_flags));
        }
        offset = offset.wrapping_add(line);
    }
    dsb_sy();
}

/// Drops all instructions cached on any CPU.
#[inline(always)]
pub fn invalidate_instructions() {
    // SAFETY: instruction cache maintenance only makes later fetches read memory again.
    unsafe { core::arch::asm!("ic ialluis", options(nostack, preserves_flags)) }
    dsb_ish();
    isb();
}

/// Drops all instructions cached on this CPU.
#[inline(always)]
pub fn invalidate_instructions_local() {
    // SAFETY: as in `invalidate_instructions`.
    unsafe {
        core::arch::asm!("ic iallu", "dsb nsh", "isb", options(nostack, preserves_flags));
    }
}
