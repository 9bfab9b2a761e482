//! Random numbers for the TRNG calls: RNDR where the CPU has it, else a generator seeded at boot. Trust label: TRUSTED.
//!
//! The generator keeps one secret key of 256 bits for each CPU, derived from the boot seed and the CPU's number. A
//! request answers words of SHA-256(key ‖ OUTPUT) and replaces the key by SHA-256(key ‖ NEXT): whatever is kept tells
//! nothing of what was answered before, and no CPU shares state with another. Source of the construction: D. J.
//! Bernstein, "Fast-key-erasure random-number generators", 2017; of the instruction: Arm ARM DDI 0487, K18 and C5.2
//! (RNDR); of the calls: Arm DEN 0098.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bulkhead_abi::CPUS_MAX;

use crate::{features, mem, percpu};

/// Most tries for one value of RNDR, which may have none ready (Arm ARM: NZCV 0b0100).
const TRIES: usize = 32;
/// What is hashed with a key for the answer, and for the next key.
const OUTPUT: [u64; 4] = [1, 0, 0, 0];
const NEXT: [u64; 4] = [2, 0, 0, 0];

static KEYS: [[AtomicU64; 4]; CPUS_MAX] = [const { [const { AtomicU64::new(0) }; 4] }; CPUS_MAX];
static SEEDED: AtomicBool = AtomicBool::new(false);

/// Makes the boot seed part of every CPU's key; boot only, before any other CPU runs.
pub fn seed(chunks: &[[u64; 4]]) {
    for (cpu, key) in KEYS.iter().enumerate() {
        mix(key, &[cpu as u64, 0, 0, 0]);
        chunks.iter().for_each(|chunk| mix(key, chunk));
    }
    SEEDED.store(true, Ordering::Relaxed);
}

/// key = SHA-256(key ‖ data).
fn mix(key: &[AtomicU64; 4], data: &[u64; 4]) {
    // SAFETY: four words each; only the CPU that the key belongs to, or boot, accesses the key.
    unsafe { mem::bulkhead_measure_words(key.as_ptr() as *mut u64, data.as_ptr()) }
}

/// Whether there is a source of random numbers. Constant after boot.
#[must_use]
pub fn is_present() -> bool {
    features::has_random() || SEEDED.load(Ordering::Relaxed)
}

/// 192 random bits; None if there is no source, or it has nothing right now.
#[must_use]
pub fn next() -> Option<[u64; 3]> {
    if features::has_random() {
        return Some([hardware()?, hardware()?, hardware()?]);
    }
    let key = KEYS.get(percpu::current().cpu.get() as usize).filter(|_| SEEDED.load(Ordering::Relaxed))?;
    let mut output = [0; 4];
    for (word, part) in output.iter_mut().zip(key) {
        *word = part.load(Ordering::Relaxed);
    }
    // SAFETY: four words each, of this function alone.
    unsafe { mem::bulkhead_measure_words(output.as_mut_ptr(), OUTPUT.as_ptr()) };
    mix(key, &NEXT);
    let [first, second, third, _] = output;
    Some([first, second, third])
}

/// A value of RNDR, which the CPU must have.
fn hardware() -> Option<u64> {
    (0..TRIES).find_map(|_| {
        let (value, ready): (u64, u64);
        // SAFETY: reads a register (S3_3_C2_C4_0 is RNDR); the flags are declared as changed.
        unsafe {
            core::arch::asm!(
                "mrs {value}, S3_3_C2_C4_0",
                "cset {ready}, ne",
                value = out(reg) value,
                ready = out(reg) ready,
                options(nomem, nostack),
            );
        }
        (ready != 0).then_some(value)
    })
}
