//! Random numbers for the host and for VMs: TRNG Firmware Interface 1.0 (Arm DEN 0098). Trust label: CHECKED.
//!
//! Both ask the same source, which remembers nothing of what it has answered (`engine/arch`, `random.rs`).

use bulkhead_abi::{TRNG_UID, standard, status};

use crate::Hardware;
use crate::call::dispatch::low;

/// TRNG 1.0.
const VERSION: u64 = 0x1_0000;
const SUCCESS: u64 = 0;
const INVALID_PARAMETERS: u64 = -2i64 as u64;
const NO_ENTROPY: u64 = -3i64 as u64;
/// Most bits of one answer: three registers of the width of the calling convention.
const RND32_BITS: u64 = 96;
const RND64_BITS: u64 = 192;

/// Answers in `regs` (x0, x1, ...) if x0 is the id of a TRNG function, else says no. Without a source there are none.
pub fn call<H: Hardware>(hw: H, regs: &mut [u64]) -> bool {
    let [x0, x1, x2, x3, ..] = regs else { return false };
    let function = *x0;
    if !is_function(function) {
        return false;
    }
    if !hw.has_random() {
        *x0 = status::NOT_SUPPORTED;
        return true;
    }
    match function {
        standard::TRNG_VERSION => *x0 = VERSION,
        standard::TRNG_FEATURES => *x0 = if is_function(low(*x1)) { SUCCESS } else { status::NOT_SUPPORTED },
        standard::TRNG_GET_UUID => [*x0, *x1, *x2, *x3] = TRNG_UID.map(u64::from),
        standard::TRNG_RND32 => [*x0, *x1, *x2, *x3] = random32(hw, *x1),
        _ => [*x0, *x1, *x2, *x3] = random64(hw, *x1),
    }
    true
}

fn is_function(function: u64) -> bool {
    matches!(
        function,
        standard::TRNG_VERSION
            | standard::TRNG_FEATURES
            | standard::TRNG_GET_UUID
            | standard::TRNG_RND32
            | standard::TRNG_RND64
    )
}

/// `TRNG_RND64`: bits 63:0 in x3, 127:64 in x2, 191:128 in x1; those above `bits` are zero.
fn random64<H: Hardware>(hw: H, bits: u64) -> [u64; 4] {
    if bits == 0 || bits > RND64_BITS {
        return [INVALID_PARAMETERS, 0, 0, 0];
    }
    match hw.random() {
        None => [NO_ENTROPY, 0, 0, 0],
        Some([last, middle, high]) => [SUCCESS, high & mask(bits, 128), middle & mask(bits, 64), last & mask(bits, 0)],
    }
}

/// `TRNG_RND32`: bits 31:0 in w3, 63:32 in w2, 95:64 in w1.
fn random32<H: Hardware>(hw: H, bits: u64) -> [u64; 4] {
    let bits = low(bits);
    if bits > RND32_BITS {
        return [INVALID_PARAMETERS, 0, 0, 0];
    }
    let [x0, _, high, last] = random64(hw, bits);
    [x0, high, last >> 32, low(last)]
}

/// Which of the 64 bits from bit `first` on are among the lowest `bits`.
fn mask(bits: u64, first: u64) -> u64 {
    let count = bits.saturating_sub(first).min(64);
    if count == 0 { 0 } else { u64::MAX >> (64 - count) }
}
