//! Takes the boot seed out of the device tree, so that only the engine ever knows it. Trust label: TRUSTED.
//!
//! The boot loader leaves random bytes for the operating system in `/chosen`: `rng-seed` and `kaslr-seed` (Linux
//! `Documentation/devicetree/bindings/chosen.txt`). The engine's generator absorbs both, and zeros take their place
//! in RAM before the host runs. `kaslr-seed` alone, 64 bits, is no source.

use bulkhead_abi::Range;
use bulkhead_arch::{cache, features, layout, random};

use crate::memory::end;
use crate::tables::PAGE;

/// Fewest bytes of `rng-seed` that make a source.
const LEAST: u64 = 32;
/// Bytes absorbed at a time, and in all.
const CHUNK: usize = 32;
const MOST: usize = 96;

/// Absorbs and wipes the values at `seeds` (`rng-seed`, `kaslr-seed`), whose blocks the RAM window shows. Says where
/// random numbers come from.
pub fn take(seeds: [Range; 2]) -> &'static str {
    let mut bytes = [0; MOST];
    let places = bytes.split_at_mut(MOST - CHUNK);
    move_out(seeds[0], places.0);
    move_out(seeds[1], places.1);
    let enough = seeds[0].size >= LEAST;
    if enough {
        let word = |part: &[u8]| part.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        random::seed(bytes.chunks_exact(CHUNK).map(|chunk| {
            let mut words = chunk.chunks_exact(8).map(word);
            [(); 4].map(|()| words.next().unwrap_or(0))
        }));
    }
    match (features::has_random(), enough) {
        (true, _) => "RNDR",
        (false, true) => "boot seed",
        (false, false) => "none",
    }
}

/// Moves the bytes at `from` to `to`, as far as there is room, and leaves zeros.
fn move_out(from: Range, to: &mut [u8]) {
    let mut to = to.iter_mut();
    for address in from.base..end(from) {
        let place = (layout::RAM + address) as *mut u8;
        // SAFETY: a byte of the device tree, which boot has mapped; no reference into the tree is in use.
        unsafe {
            if let Some(byte) = to.next() {
                *byte = place.read_volatile();
            }
            place.write_volatile(0);
        }
    }
    let start = from.base / PAGE * PAGE;
    // SAFETY: the tree's blocks are mapped whole.
    unsafe { cache::clean_invalidate(layout::RAM + start, end(from).next_multiple_of(PAGE) - start) };
}
