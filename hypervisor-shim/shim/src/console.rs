//! What a VM prints, gathered into events `console {vm, data}` (trust label: UNTRUSTED).

use bulkhead_abi::NO_DEADLINE;
use bulkhead_el1::{channel, cpu};

/// Bytes that are gathered at most.
const CAPACITY: usize = 512;
/// Longest time that a byte waits, microseconds.
const PATIENCE: u64 = 10_000;

/// Bytes that have not been sent. Invariant: `deadline` is set if and only if there are any.
pub struct Console {
    bytes: [u8; CAPACITY],
    length: usize,
    deadline: u64,
}

impl Console {
    /// Nothing printed.
    pub const fn new() -> Self {
        Self { bytes: [0; CAPACITY], length: 0, deadline: NO_DEADLINE }
    }

    /// When what has been gathered should go out.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Takes one byte of VM `vm`.
    pub fn put(&mut self, vm: usize, byte: u8) {
        if self.length == 0 {
            self.deadline = cpu::now().saturating_add(cpu::ticks(PATIENCE));
        }
        self.bytes[self.length] = byte;
        self.length += 1;
        if self.length == CAPACITY {
            self.flush(vm);
        }
    }

    /// Sends what has been gathered if it is due.
    pub fn flush_due(&mut self, vm: usize, now: u64) {
        if self.deadline <= now {
            self.flush(vm);
        }
    }

    /// Sends what has been gathered.
    pub fn flush(&mut self, vm: usize) {
        if self.length != 0 {
            channel::event("console", |event| {
                event.u64("vm", vm as u64);
                event.bytes("data", &self.bytes[..self.length]);
            });
        }
        self.length = 0;
        self.deadline = NO_DEADLINE;
    }
}
