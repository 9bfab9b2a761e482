//! What `bulkhead-arch` asks of this crate while calls run (its `hooks.rs`). Trust label: TRUSTED.

use crate::{log, psci, stop, time};

/// `log_read`: next offset, count, eight words of text.
#[unsafe(no_mangle)]
extern "Rust" fn bulkhead_log_read(offset: u64) -> [u64; 10] {
    let (next, count, text) = log::read(offset);
    let [a, b, c, d, e, f, g, h] = text;
    [next, count, a, b, c, d, e, f, g, h]
}

/// `stats` kind 2: the tick at which a boot stage was reached, None if there is none of that number.
#[unsafe(no_mangle)]
extern "Rust" fn bulkhead_stage_ticks(index: u64) -> Option<u64> {
    time::reached(index)
}

/// PSCI for the host's CPUs; None for an unknown function.
#[unsafe(no_mangle)]
extern "Rust" fn bulkhead_host_psci(function: u64, arguments: [u64; 3]) -> Option<u64> {
    psci::host_call(function, arguments)
}

/// Does not come back if every CPU shall stop.
#[unsafe(no_mangle)]
extern "Rust" fn bulkhead_park_if_stopped() {
    stop::park_if_stopped();
}
