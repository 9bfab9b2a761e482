//! What the CPU must have, and what it has that must be hidden. Trust label: TRUSTED.
//!
//! Source: Arm ARM DDI 0487, D19.2 (ID registers). Written for Neoverse N1; V1, N2 and QEMU's `max` have more, which
//! is trapped and hidden (`cpu.rs`, and core's sanitized ID registers).

use crate::{cache, mem};

/// Field of four bits at `low`.
#[inline(always)]
const fn field(register: u64, low: u32) -> u64 {
    register >> low & 0xf
}

/// `ID_AA64MMFR0_EL1.PARange` as encoded in `TCR_EL2.PS` and `VTCR_EL2.PS`, at most 48 bits.
#[must_use]
pub fn physical_range() -> u64 {
    const BITS_48: u64 = 5;
    field(mrs!("ID_AA64MMFR0_EL1"), 0).min(BITS_48)
}

/// Number of physical address bits that stage 2 uses, at most 48.
#[must_use]
pub fn physical_bits() -> u64 {
    match physical_range() {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// Whether the CPU has a random number generator of its own (`ID_AA64ISAR0_EL1.RNDR`).
#[must_use]
pub fn has_random() -> bool {
    field(mrs!("ID_AA64ISAR0_EL1"), 60) != 0
}

/// Refuses a CPU that lacks what the engine is built on; the text says what is missing.
///
/// # Errors
/// The missing feature.
pub fn check() -> Result<(), &'static str> {
    let (processor, memory) = (mrs!("ID_AA64PFR0_EL1"), mrs!("ID_AA64MMFR0_EL1"));
    if mrs!("CurrentEL") != 2 << 2 {
        return Err("not entered at EL2");
    }
    if cache::line_size() < mem::LINE {
        return Err("data cache lines shorter than 64 bytes (CTR_EL0.DminLine)");
    }
    if field(processor, 24) == 0 {
        return Err("no GICv3 system register interface (ID_AA64PFR0_EL1.GIC)");
    }
    if field(processor, 28) == 0 {
        return Err("no RAS extension (ID_AA64PFR0_EL1.RAS)");
    }
    if field(mrs!("ID_AA64ISAR0_EL1"), 20) < 2 {
        return Err("no atomic instructions (ID_AA64ISAR0_EL1.Atomic)");
    }
    if field(memory, 28) == 0xf || field(memory, 40) == 1 {
        return Err("no 4 KiB granule (ID_AA64MMFR0_EL1.TGran4)");
    }
    if physical_bits() < 44 {
        return Err("fewer than 44 physical address bits: stage 2 cannot start at level 0");
    }
    crate::gic::check()
}

/// Optional features whose EL2 control registers exist.
#[derive(Debug, Clone, Copy)]
pub struct Optional {
    /// Fine-grained traps, `FEAT_FGT`.
    pub fine_grained_traps: bool,
    /// Those of activity monitors.
    pub activity_monitor_traps: bool,
    /// More of them, `FEAT_FGT2`.
    pub more_fine_grained_traps: bool,
    /// Enhanced counter virtualization with `CNTPOFF_EL2`.
    pub counter_offset: bool,
    /// `HCRX_EL2`.
    pub extended_configuration: bool,
    /// Virtualization host extensions (their extra registers).
    pub host_extensions: bool,
    /// Memory tagging with tag check fault registers.
    pub memory_tagging: bool,
    /// Limited ordering regions.
    pub ordering_regions: bool,
    /// Memory partitioning.
    pub partitioning: bool,
    /// Performance monitors, version 3.
    pub performance_monitors: bool,
    /// Statistical profiling whose buffer EL2 may program.
    pub profiling: bool,
    /// Trace buffer that EL2 may program.
    pub trace_buffer: bool,
    /// Trace filter controls.
    pub trace_filter: bool,
}

impl Optional {
    /// Reads the ID registers of this CPU.
    #[must_use]
    pub fn detect() -> Self {
        /// `PMBIDR_EL1.P` and `TRBIDR_EL1.P`: programming is not allowed at this exception level.
        const NOT_ALLOWED: u64 = 1 << 4;
        let (pfr0, pfr1) = (mrs!("ID_AA64PFR0_EL1"), mrs!("ID_AA64PFR1_EL1"));
        let (mmfr0, mmfr1) = (mrs!("ID_AA64MMFR0_EL1"), mrs!("ID_AA64MMFR1_EL1"));
        let dfr0 = mrs!("ID_AA64DFR0_EL1");
        Self {
            fine_grained_traps: field(mmfr0, 56) >= 1,
            activity_monitor_traps: field(mmfr0, 56) >= 1 && field(pfr0, 44) != 0,
            more_fine_grained_traps: field(mmfr0, 56) >= 2,
            counter_offset: field(mmfr0, 60) >= 2,
            extended_configuration: field(mmfr1, 40) != 0,
            host_extensions: field(mmfr1, 8) != 0,
            memory_tagging: field(pfr1, 8) >= 2,
            ordering_regions: field(mmfr1, 16) != 0,
            partitioning: field(pfr0, 40) != 0,
            performance_monitors: !matches!(field(dfr0, 8), 0 | 0xf),
            profiling: field(dfr0, 32) != 0 && mrs!("S3_0_C9_C10_7") & NOT_ALLOWED == 0,
            trace_buffer: field(dfr0, 44) != 0 && mrs!("S3_0_C9_C11_7") & NOT_ALLOWED == 0,
            trace_filter: field(dfr0, 40) != 0,
        }
    }
}
