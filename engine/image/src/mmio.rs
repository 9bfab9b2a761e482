//! Access to the engine's device registers. Trust label: TRUSTED.

/// A page or more of device registers in the DEVICE window.
#[derive(Clone, Copy)]
pub struct Registers(u64);

impl Registers {
    /// The registers at virtual address `base`.
    ///
    /// # Safety
    /// The pages of every offset used later are in the DEVICE window and mapped.
    pub const unsafe fn new(base: u64) -> Self {
        Self(base)
    }

    /// The registers `offset` bytes further on.
    pub const fn at(self, offset: u64) -> Self {
        Self(self.0 + offset)
    }

    /// Virtual address of the register at offset 0.
    pub const fn address(self) -> u64 {
        self.0
    }

    /// Reads the 32-bit register at `offset`.
    pub fn read(self, offset: u64) -> u32 {
        let value: u32;
        // SAFETY: a mapped device register (`new`). In assembly, so that the access is one plain `ldr` (no writeback).
        unsafe { core::arch::asm!("ldr {:w}, [{}]", out(reg) value, in(reg) self.0 + offset, options(nostack)) };
        value
    }

    /// Writes the 32-bit register at `offset`.
    pub fn write(self, offset: u64, value: u32) {
        // SAFETY: as in `read`.
        unsafe { core::arch::asm!("str {:w}, [{}]", in(reg) value, in(reg) self.0 + offset, options(nostack)) };
    }
}
