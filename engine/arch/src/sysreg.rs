//! Access to system registers by name. Trust label: TRUSTED.
//!
//! Two macros instead of a register crate: the registers used here (ICH_*, VDISR_EL2, S3_x encodings for optional
//! features) are not all in one, and a name that the assembler checks is the whole abstraction needed.

/// Reads a system register: `mrs!("HCR_EL2")`.
macro_rules! mrs {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading this register has no side effect on memory or control flow; it is accessible at EL2 on
        // every CPU that `features::Features::detect` accepts (optional ones are read behind a feature check).
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register: `msr!("HCR_EL2", value)`. Must be used in an `unsafe` block.
macro_rules! msr {
    ($register:literal, $value:expr) => {
        core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) $value, options(nostack, preserves_flags))
    };
}

/// `ISB`: later instructions see earlier system register writes (Arm ARM DDI 0487, D24.1.2.2).
#[inline(always)]
pub fn isb() {
    // SAFETY: a context synchronisation event changes no state that Rust knows of.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) }
}

/// `DSB SY`: earlier accesses and maintenance operations have completed.
#[inline(always)]
pub fn dsb_sy() {
    // SAFETY: a barrier changes no state.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// `DSB ISH`: as [`dsb_sy`] for the inner shareable domain, which holds all CPUs.
#[inline(always)]
pub fn dsb_ish() {
    // SAFETY: a barrier changes no state.
    unsafe { core::arch::asm!("dsb ish", options(nostack, preserves_flags)) }
}

/// `DSB ISHST`: earlier stores have completed for the inner shareable domain, table walkers included.
#[inline(always)]
pub fn dsb_ishst() {
    // SAFETY: a barrier changes no state.
    unsafe { core::arch::asm!("dsb ishst", options(nostack, preserves_flags)) }
}
