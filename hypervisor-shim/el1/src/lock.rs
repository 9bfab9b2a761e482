//! Locks between CPUs (trust label: UNTRUSTED).
//!
//! While waiting they execute YIELD, so that a machine that gives its CPUs turns on one thread (QEMU with
//! instruction counting) goes on with the CPU that holds the lock.

use crate::cpu;

/// A spinning lock.
pub type Mutex<T> = spin::mutex::SpinMutex<T, Yield>;

/// How a waiting CPU waits.
pub struct Yield;

impl spin::RelaxStrategy for Yield {
    fn relax() {
        cpu::relax();
    }
}
