//! Takes the boot seed out of the device tree, so that only the engine ever knows it. Trust label: TRUSTED.
//!
//! The boot loader leaves random bytes for the operating system in `/chosen`: `rng-seed` and `kaslr-seed` (Linux
//! `Documentation/devicetree/bindings/chosen.txt`). The engine's generator absorbs both, and zeros take their place
//! in RAM before the host runs. No source are `kaslr-seed` alone, which is 64 bits, and a seed of zeros, which is what
//! an engine leaves in a tree that comes a second time.

use bulkhead_abi::Range;
use bulkhead_arch::{cache, features, layout, random};

use crate::memory::end;
use crate::tables::PAGE;

/// Fewest bytes of `rng-seed` that make a source.
const LEAST: u64 = 32;
/// What is absorbed: the first 64 bytes of `rng-seed`, the first 32 of `kaslr-seed`.
const CHUNKS: [usize; 2] = [2, 1];

/// Absorbs and wipes the values at `seeds` (`rng-seed`, `kaslr-seed`), whose blocks the RAM window shows. Says where
/// random numbers come from.
pub fn take(seeds: [Range; 2]) -> &'static str {
    let mut chunks = [[0; 4]; CHUNKS[0] + CHUNKS[1]];
    let (rng, kaslr) = chunks.split_at_mut(CHUNKS[0]);
    move_out(seeds[0], rng);
    move_out(seeds[1], kaslr);
    let enough = seeds[0].size >= LEAST && rng.as_flattened().iter().any(|word| *word != 0);
    if enough {
        random::seed(&chunks);
    }
    for word in chunks.as_flattened_mut() {
        // SAFETY: a word of this function's; volatile, so that it is not left out.
        unsafe { (&raw mut *word).write_volatile(0) };
    }
    match (features::has_random(), enough) {
        (true, _) => "RNDR",
        (false, true) => "boot seed",
        (false, false) => "none",
    }
}

/// Moves the bytes at `from` to `to`, as far as there is room, and leaves zeros.
fn move_out(from: Range, to: &mut [[u64; 4]]) {
    for (index, address) in (from.base..end(from)).enumerate() {
        let place = (layout::RAM + address) as *mut u8;
        // SAFETY: a byte of the device tree, which boot has mapped; no reference into the tree is in use.
        unsafe {
            if let Some(word) = to.as_flattened_mut().get_mut(index / 8) {
                *word = *word << 8 | u64::from(place.read_volatile());
            }
            place.write_volatile(0);
        }
    }
    let start = from.base / PAGE * PAGE;
    // SAFETY: the tree's blocks are mapped whole.
    unsafe { cache::clean_invalidate(layout::RAM + start, end(from).next_multiple_of(PAGE) - start) };
}
