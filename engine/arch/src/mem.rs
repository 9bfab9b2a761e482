//! Bulk memory primitives: the only loops over frames and tables. Trust label: PROVED by contract, the hash CHECKED.
//!
//! One exported symbol each, C calling convention, no call inside (the hash excepted), so that each is proved once on
//! the machine code and used by contract elsewhere. The loops count up by one word, all accesses are volatile and
//! 64 bits wide: nothing is vectorised, merged or left out. Callers pass frame-aligned physical addresses of RAM that
//! the engine's RAM window maps and that no other domain can change meanwhile.

use bulkhead_abi::BLOCK_SIZE;
use bulkhead_core::owner::Record;
use bulkhead_core::stage2;
use core::ptr::with_exposed_provenance_mut;
use sha2::digest::generic_array::GenericArray;

use crate::sysreg::dsb_sy;
use crate::{cache, layout};

/// Words of a frame.
const WORDS: u64 = 512;

/// Pointer to word `index` of the frame at physical address `pa`.
#[inline(always)]
fn word(pa: u64, index: u64) -> *mut u64 {
    with_exposed_provenance_mut((layout::RAM.wrapping_add(pa).wrapping_add(index.wrapping_mul(8))) as usize)
}

/// Writes zero to all words of a frame.
///
/// # Safety
/// `pa` is the address of a frame of RAM that this CPU may write.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_zero_frame(pa: u64) {
    let mut index = 0;
    while index < WORDS {
        // SAFETY: `index` is below 512, so the word lies in the frame (caller).
        unsafe { word(pa, index).write_volatile(0) };
        index = index.wrapping_add(1);
    }
}

/// Bytes of the shortest data cache line that boot accepts.
pub const LINE: u64 = 64;
/// Bytes that a turn of [`bulkhead_zero_block`] writes and cleans.
const TURN: u64 = 2 * LINE;

/// Writes zero to all words of a block, cleans and invalidates it to the point of coherency.
///
/// One stay at EL2: 16384 turns of few instructions. Not `DC ZVA`, whose size differs between CPUs.
///
/// # Safety
/// `pa` is the address of a block of RAM that this CPU may write.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_zero_block(pa: u64) {
    let start = layout::RAM.wrapping_add(pa);
    let mut offset = 0;
    while offset < BLOCK_SIZE {
        // SAFETY: the 128 bytes lie in the block (caller), which the RAM window maps as Normal memory.
        unsafe {
            core::arch::asm!(
                "stp xzr, xzr, [{line}]",
                "stp xzr, xzr, [{line}, #16]",
                "stp xzr, xzr, [{line}, #32]",
                "stp xzr, xzr, [{line}, #48]",
                "dc civac, {line}",
                "stp xzr, xzr, [{next}]",
                "stp xzr, xzr, [{next}, #16]",
                "stp xzr, xzr, [{next}, #32]",
                "stp xzr, xzr, [{next}, #48]",
                "dc civac, {next}",
                line = in(reg) start.wrapping_add(offset),
                next = in(reg) start.wrapping_add(offset).wrapping_add(LINE),
                options(nostack, preserves_flags),
            );
        }
        offset = offset.wrapping_add(TURN);
    }
    dsb_sy();
}

/// Cleans and invalidates a frame to the point of coherency.
///
/// # Safety
/// `pa` is the address of a frame of RAM.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_clean_frame(pa: u64) {
    // SAFETY: the RAM window maps the frame as Normal memory; a frame is 4096 bytes, aligned.
    unsafe { cache::clean_invalidate(layout::RAM.wrapping_add(pa), WORDS * 8) };
}

/// 1 if all words of the table are zero in bit 0 (no valid entry), else 0. Reads all 512, whatever it finds.
///
/// # Safety
/// `pa` is the address of a frame of RAM that this CPU may read.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_table_is_empty(pa: u64) -> u64 {
    let mut any = 0;
    let mut index = 0;
    while index < WORDS {
        // SAFETY: `index` is below 512, so the word lies in the frame (caller).
        any |= unsafe { word(pa, index).read_volatile() };
        index = index.wrapping_add(1);
    }
    u64::from(any & stage2::VALID == 0)
}

/// Writes the record HOST for all 512 frames of `block`, an index below the number of blocks.
///
/// # Safety
/// The block exists and its records are not in use yet (the ownership lock is held, the block is not split).
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_fill_frame_records(block: u64) {
    let first = layout::FRAMES.wrapping_add(block.wrapping_mul(WORDS * 8));
    let mut index = 0;
    while index < WORDS {
        let record: *mut u64 = with_exposed_provenance_mut(first.wrapping_add(index.wrapping_mul(8)) as usize);
        // SAFETY: the record array covers every frame of the block (caller).
        unsafe { record.write_volatile(Record::HOST.0) };
        index = index.wrapping_add(1);
    }
}

/// Writes the records of the 512 frames of `block`, an index below the number of blocks: `first` is that of the first,
/// in slot 0 of its table, the others are alike but for their slots.
///
/// # Safety
/// As [`bulkhead_fill_frame_records`].
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_fill_vm_records(block: u64, first: u64) {
    let base = layout::FRAMES.wrapping_add(block.wrapping_mul(WORDS * 8));
    let mut index = 0;
    while index < WORDS {
        let record: *mut u64 = with_exposed_provenance_mut(base.wrapping_add(index.wrapping_mul(8)) as usize);
        // SAFETY: the record array covers every frame of the block (caller).
        unsafe { record.write_volatile(Record(first).with_slot(index).0) };
        index = index.wrapping_add(1);
    }
}

/// Fills the table at `table_pa` with the 512 page descriptors of the block at `block_pa`, in their order.
///
/// # Safety
/// `table_pa` is the address of a frame of RAM that this CPU may write.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_fill_table(table_pa: u64, block_pa: u64) {
    let mut index = 0;
    while index < WORDS {
        let descriptor = block_pa.wrapping_add(index << 12) | stage2::PAGE;
        // SAFETY: `index` is below 512, so the word lies in the frame (caller).
        unsafe { word(table_pa, index).write_volatile(descriptor) };
        index = index.wrapping_add(1);
    }
}

/// Zeroes the 64 words of a VM record, from the last to the first: STATE, word 0, comes last.
///
/// # Safety
/// `record` points to a VM record; the ownership lock is held.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_clear_vm(record: *mut u64) {
    let mut left: u64 = 64;
    while left > 0 {
        left = left.wrapping_sub(1);
        // SAFETY: `left` is below 64, so the word lies in the record (caller).
        unsafe { record.wrapping_add(left as usize).write_volatile(0) };
    }
}

/// SHA-256 initial state (FIPS 180-4 section 5.3.3).
const SHA256_INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// One step of the compression function on 8 little-endian words (64 bytes).
#[inline(always)]
fn compress(state: &mut [u32; 8], words: &[u64; 8]) {
    let mut block = GenericArray::default();
    for (bytes, value) in block.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    sha2::compress256(state, core::slice::from_ref(&block));
}

/// Compresses the padding block of a message that ends on a block boundary, and stores the digest.
///
/// # Safety
/// `digest` points to four words that this CPU may write.
#[inline(always)]
unsafe fn finish(mut state: [u32; 8], message_bytes: u64, digest: *mut u64) {
    let padding = [0x80, 0, 0, 0, 0, 0, 0, (message_bytes * 8).swap_bytes()];
    compress(&mut state, &padding);
    let mut index = 0;
    while index < 4 {
        let (high, low) = (state[2 * index].swap_bytes(), state[2 * index + 1].swap_bytes());
        // SAFETY: `index` is below 4 (caller).
        unsafe { digest.wrapping_add(index).write_volatile(u64::from(high) | u64::from(low) << 32) };
        index += 1;
    }
}

/// The first block: the old digest's four words and the four words at `data`.
///
/// # Safety
/// Both pointers point to four words that this CPU may read.
#[inline(always)]
unsafe fn first_block(digest: *const u64, data: *const u64) -> [u64; 8] {
    let mut words = [0; 8];
    let mut index = 0;
    while index < 4 {
        // SAFETY: `index` is below 4 (caller).
        unsafe {
            words[index] = digest.wrapping_add(index).read_volatile();
            words[index + 4] = data.wrapping_add(index).read_volatile();
        }
        index += 1;
    }
    words
}

/// digest = SHA-256(digest || the 32 bytes at `data`).
///
/// # Safety
/// `digest` and `data` point to four words each; the digest's can be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_measure_words(digest: *mut u64, data: *const u64) {
    let mut state = SHA256_INITIAL;
    // SAFETY: both have four words (caller).
    unsafe {
        compress(&mut state, &first_block(digest, data));
        finish(state, 64, digest);
    }
}

/// digest = SHA-256(digest || the 32 bytes at `header` || the frame's 4096 bytes).
///
/// # Safety
/// As [`bulkhead_measure_words`]; `pa` is the address of a frame of RAM that no domain can write meanwhile.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn bulkhead_measure_frame(digest: *mut u64, header: *const u64, pa: u64) {
    let mut state = SHA256_INITIAL;
    // SAFETY: both have four words (caller).
    let first = unsafe { first_block(digest, header) };
    compress(&mut state, &first);
    let mut index = 0;
    while index < WORDS {
        let mut words = [0; 8];
        for (slot, value) in words.iter_mut().enumerate() {
            // SAFETY: `index` is a multiple of 8 below 512, so the word lies in the frame (caller).
            *value = unsafe { word(pa, index.wrapping_add(slot as u64)).read_volatile() };
        }
        compress(&mut state, &words);
        index = index.wrapping_add(8);
    }
    // SAFETY: the digest has four words (caller).
    unsafe { finish(state, 64 + 4096, digest) };
}
