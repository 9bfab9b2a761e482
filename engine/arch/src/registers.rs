//! Traps, resident system registers, breakpoints, constants that boot writes. Trust label: TRUSTED.
//!
//! Generated from engine/arch/registers/*.toml by `python -m bulkhead.registers`; do not edit.

use bulkhead_core::vcpu::registers::ResidentSystem;

use crate::features::Optional;

/// Bits of `HCR_EL2` while the host runs that decide who may use a register.
pub const HCR_HOST: u64 = 1 << 17 // TID2
    | 1 << 20 // TIDCP
    | 1 << 21 // TACR
    | 1 << 22 // TSW
    | 1 << 26 // TVM
    | 1 << 30 // TRVM
    | 1 << 35 // TLOR
    | 1 << 36 // TERR
    | 1 << 58; // TID5

/// Bits of `HCR_EL2` while a VM runs that decide who may use a register.
pub const HCR_VM: u64 = 1 << 16 // TID1
    | 1 << 18 // TID3
    | 1 << 20 // TIDCP
    | 1 << 21 // TACR
    | 1 << 22 // TSW
    | 1 << 35 // TLOR
    | 1 << 36 // TERR
    | 1 << 58; // TID5

/// Bits of `CPTR_EL2` while the host runs that decide who may use a register.
pub const CPTR_HOST: u64 = 1 << 8 // TZ
    | 1 << 10 // TFP
    | 1 << 12 // TSM
    | 1 << 20 // TTA
    | 1 << 30; // TAM

/// Bits of `CPTR_EL2` while a VM runs that decide who may use a register.
pub const CPTR_VM: u64 = 1 << 8 // TZ
    | 1 << 12 // TSM
    | 1 << 20 // TTA
    | 1 << 30; // TAM

/// Bits of `MDCR_EL2` that decide who may use a register.
pub const MDCR: u64 = 1 << 5 // TPMCR
    | 1 << 6 // TPM
    | 1 << 9 // TDA
    | 1 << 10 // TDOSA
    | 1 << 11 // TDRA
    | 1 << 14 // TPMS
    | 1 << 19 // TTRF
    | 1 << 27; // TDCC

/// Bits of `CNTHCTL_EL2` while the host runs that decide who may use a register.
pub const CNTHCTL_HOST: u64 = 1 // EL1PCTEN
    | 1 << 1; // EL1PCEN

/// Bits of `CNTHCTL_EL2` while a VM runs that decide who may use a register.
pub const CNTHCTL_VM: u64 = 0;

/// Gives the CPU the resident registers of a vCPU.
///
/// # Safety
/// The vCPU is the one that this CPU is loading: EL2 does not use them, and the host has no access.
pub unsafe fn load_resident(from: &ResidentSystem) {
    // SAFETY: as above.
    unsafe {
        msr!("S3_0_C2_C0_0", from.ttbr0_el1);
        msr!("S3_0_C2_C0_1", from.ttbr1_el1);
        msr!("S3_0_C10_C2_0", from.mair_el1);
        msr!("S3_0_C10_C3_0", from.amair_el1);
        msr!("S3_0_C13_C0_1", from.contextidr_el1);
        msr!("S3_0_C5_C1_0", from.afsr0_el1);
        msr!("S3_0_C5_C1_1", from.afsr1_el1);
        msr!("S3_2_C0_C0_0", from.csselr_el1);
        msr!("S3_4_C12_C11_7", from.ich_vmcr_el2);
        msr!("S3_4_C12_C8_0", from.ich_ap0r0_el2);
        msr!("S3_4_C12_C9_0", from.ich_ap1r0_el2);
        msr!("S3_4_C12_C1_1", from.vdisr_el2);
    }
}

/// Takes the resident registers of the vCPU that is loaded.
pub fn save_resident(to: &mut ResidentSystem) {
    to.ttbr0_el1 = mrs!("S3_0_C2_C0_0");
    to.ttbr1_el1 = mrs!("S3_0_C2_C0_1");
    to.mair_el1 = mrs!("S3_0_C10_C2_0");
    to.amair_el1 = mrs!("S3_0_C10_C3_0");
    to.contextidr_el1 = mrs!("S3_0_C13_C0_1");
    to.afsr0_el1 = mrs!("S3_0_C5_C1_0");
    to.afsr1_el1 = mrs!("S3_0_C5_C1_1");
    to.csselr_el1 = mrs!("S3_2_C0_C0_0");
    to.ich_vmcr_el2 = mrs!("S3_4_C12_C11_7");
    to.ich_ap0r0_el2 = mrs!("S3_4_C12_C8_0");
    to.ich_ap1r0_el2 = mrs!("S3_4_C12_C9_0");
    to.vdisr_el2 = mrs!("S3_4_C12_C1_1");
}

/// Writes MDSCR_EL1, a breakpoint or a watchpoint register: op0=2, op1=0, CRn=0, `crm`, `op2`.
///
/// # Safety
/// The register exists; its value acts on EL0 and EL1 of a VM only (HMC and SSC zero).
pub unsafe fn write_debug(crm: u64, op2: u64, value: u64) {
    // SAFETY: as above.
    unsafe {
        match (crm, op2) {
            (2, 2) => msr!("S2_0_C0_C2_2", value),
            (0, 4) => msr!("S2_0_C0_C0_4", value),
            (1, 4) => msr!("S2_0_C0_C1_4", value),
            (2, 4) => msr!("S2_0_C0_C2_4", value),
            (3, 4) => msr!("S2_0_C0_C3_4", value),
            (4, 4) => msr!("S2_0_C0_C4_4", value),
            (5, 4) => msr!("S2_0_C0_C5_4", value),
            (6, 4) => msr!("S2_0_C0_C6_4", value),
            (7, 4) => msr!("S2_0_C0_C7_4", value),
            (8, 4) => msr!("S2_0_C0_C8_4", value),
            (9, 4) => msr!("S2_0_C0_C9_4", value),
            (10, 4) => msr!("S2_0_C0_C10_4", value),
            (11, 4) => msr!("S2_0_C0_C11_4", value),
            (12, 4) => msr!("S2_0_C0_C12_4", value),
            (13, 4) => msr!("S2_0_C0_C13_4", value),
            (14, 4) => msr!("S2_0_C0_C14_4", value),
            (15, 4) => msr!("S2_0_C0_C15_4", value),
            (0, 5) => msr!("S2_0_C0_C0_5", value),
            (1, 5) => msr!("S2_0_C0_C1_5", value),
            (2, 5) => msr!("S2_0_C0_C2_5", value),
            (3, 5) => msr!("S2_0_C0_C3_5", value),
            (4, 5) => msr!("S2_0_C0_C4_5", value),
            (5, 5) => msr!("S2_0_C0_C5_5", value),
            (6, 5) => msr!("S2_0_C0_C6_5", value),
            (7, 5) => msr!("S2_0_C0_C7_5", value),
            (8, 5) => msr!("S2_0_C0_C8_5", value),
            (9, 5) => msr!("S2_0_C0_C9_5", value),
            (10, 5) => msr!("S2_0_C0_C10_5", value),
            (11, 5) => msr!("S2_0_C0_C11_5", value),
            (12, 5) => msr!("S2_0_C0_C12_5", value),
            (13, 5) => msr!("S2_0_C0_C13_5", value),
            (14, 5) => msr!("S2_0_C0_C14_5", value),
            (15, 5) => msr!("S2_0_C0_C15_5", value),
            (0, 6) => msr!("S2_0_C0_C0_6", value),
            (1, 6) => msr!("S2_0_C0_C1_6", value),
            (2, 6) => msr!("S2_0_C0_C2_6", value),
            (3, 6) => msr!("S2_0_C0_C3_6", value),
            (4, 6) => msr!("S2_0_C0_C4_6", value),
            (5, 6) => msr!("S2_0_C0_C5_6", value),
            (6, 6) => msr!("S2_0_C0_C6_6", value),
            (7, 6) => msr!("S2_0_C0_C7_6", value),
            (8, 6) => msr!("S2_0_C0_C8_6", value),
            (9, 6) => msr!("S2_0_C0_C9_6", value),
            (10, 6) => msr!("S2_0_C0_C10_6", value),
            (11, 6) => msr!("S2_0_C0_C11_6", value),
            (12, 6) => msr!("S2_0_C0_C12_6", value),
            (13, 6) => msr!("S2_0_C0_C13_6", value),
            (14, 6) => msr!("S2_0_C0_C14_6", value),
            (15, 6) => msr!("S2_0_C0_C15_6", value),
            (0, 7) => msr!("S2_0_C0_C0_7", value),
            (1, 7) => msr!("S2_0_C0_C1_7", value),
            (2, 7) => msr!("S2_0_C0_C2_7", value),
            (3, 7) => msr!("S2_0_C0_C3_7", value),
            (4, 7) => msr!("S2_0_C0_C4_7", value),
            (5, 7) => msr!("S2_0_C0_C5_7", value),
            (6, 7) => msr!("S2_0_C0_C6_7", value),
            (7, 7) => msr!("S2_0_C0_C7_7", value),
            (8, 7) => msr!("S2_0_C0_C8_7", value),
            (9, 7) => msr!("S2_0_C0_C9_7", value),
            (10, 7) => msr!("S2_0_C0_C10_7", value),
            (11, 7) => msr!("S2_0_C0_C11_7", value),
            (12, 7) => msr!("S2_0_C0_C12_7", value),
            (13, 7) => msr!("S2_0_C0_C13_7", value),
            (14, 7) => msr!("S2_0_C0_C14_7", value),
            (15, 7) => msr!("S2_0_C0_C15_7", value),
            _ => {}
        }
    }
}

/// Writes every register that boot gives a constant.
///
/// # Safety
/// EL1 does not run on this CPU yet; `optional` tells what this CPU has.
pub unsafe fn write_constants(optional: &Optional) {
    // SAFETY: as above; each register exists by the feature that guards it.
    unsafe {
        msr!("S3_0_C2_C0_0", 0u64); // TTBR0_EL1
        msr!("S3_0_C2_C0_1", 0u64); // TTBR1_EL1
        msr!("S3_0_C10_C2_0", 0u64); // MAIR_EL1
        msr!("S3_0_C10_C3_0", 0u64); // AMAIR_EL1
        msr!("S3_0_C13_C0_1", 0u64); // CONTEXTIDR_EL1
        msr!("S3_0_C5_C1_0", 0u64); // AFSR0_EL1
        msr!("S3_0_C5_C1_1", 0u64); // AFSR1_EL1
        msr!("S3_2_C0_C0_0", 0u64); // CSSELR_EL1
        msr!("S3_4_C12_C11_7", 0u64); // ICH_VMCR_EL2
        msr!("S3_4_C12_C8_0", 0u64); // ICH_AP0R0_EL2
        msr!("S3_4_C12_C9_0", 0u64); // ICH_AP1R0_EL2
        msr!("S3_4_C12_C1_1", 0u64); // VDISR_EL2
        msr!("S3_0_C12_C1_1", 0u64); // DISR_EL1
        msr!("S3_0_C1_C0_1", 0u64); // ACTLR_EL1
        msr!("S2_0_C1_C0_4", 0u64); // OSLAR_EL1
        msr!("S2_0_C1_C3_4", 0u64); // OSDLR_EL1
        if optional.trace_buffer {
            msr!("S3_0_C9_C11_0", 0u64); // TRBLIMITR_EL1
        }
        if optional.profiling {
            msr!("S3_0_C9_C10_0", 0u64); // PMBLIMITR_EL1
        }
        if optional.ordering_regions {
            msr!("S3_0_C10_C4_3", 0u64); // LORC_EL1
        }
        msr!("S3_4_C14_C0_3", 0u64); // CNTVOFF_EL2
        msr!("S3_4_C1_C0_1", 0u64); // ACTLR_EL2
        msr!("S3_4_C1_C1_3", 0u64); // HSTR_EL2
        msr!("S3_4_C1_C1_7", 0u64); // HACR_EL2
        msr!("S3_4_C5_C1_0", 0u64); // AFSR0_EL2
        msr!("S3_4_C5_C1_1", 0u64); // AFSR1_EL2
        msr!("S3_4_C5_C2_3", 0u64); // VSESR_EL2
        msr!("S3_4_C10_C3_0", 0u64); // AMAIR_EL2
        msr!("S3_4_C14_C2_1", 0u64); // CNTHP_CTL_EL2
        if optional.host_extensions {
            msr!("S3_4_C13_C0_1", 0u64); // CONTEXTIDR_EL2
            msr!("S3_4_C14_C3_1", 0u64); // CNTHV_CTL_EL2
        }
        if optional.counter_offset {
            msr!("S3_4_C14_C0_6", 0u64); // CNTPOFF_EL2
        }
        if optional.fine_grained_traps {
            msr!("S3_4_C1_C1_4", 0u64); // HFGRTR_EL2
            msr!("S3_4_C1_C1_5", 0u64); // HFGWTR_EL2
            msr!("S3_4_C1_C1_6", 0u64); // HFGITR_EL2
            msr!("S3_4_C3_C1_4", 0u64); // HDFGRTR_EL2
            msr!("S3_4_C3_C1_5", 0u64); // HDFGWTR_EL2
        }
        if optional.activity_monitor_traps {
            msr!("S3_4_C3_C1_6", 0u64); // HAFGRTR_EL2
        }
        if optional.more_fine_grained_traps {
            msr!("S3_4_C3_C1_0", 0u64); // HDFGRTR2_EL2
            msr!("S3_4_C3_C1_1", 0u64); // HDFGWTR2_EL2
            msr!("S3_4_C3_C1_2", 0u64); // HFGRTR2_EL2
            msr!("S3_4_C3_C1_3", 0u64); // HFGWTR2_EL2
            msr!("S3_4_C3_C1_7", 0u64); // HFGITR2_EL2
        }
        if optional.extended_configuration {
            msr!("S3_4_C1_C2_2", 1u64 << 6); // HCRX_EL2
        }
        if optional.memory_tagging {
            msr!("S3_4_C5_C6_0", 0u64); // TFSR_EL2
        }
        if optional.partitioning {
            msr!("S3_4_C10_C5_0", 3u64 << 48); // MPAM2_EL2
        }
        if optional.trace_filter {
            msr!("S3_4_C1_C2_1", 0u64); // TRFCR_EL2
        }
        if optional.profiling {
            msr!("S3_4_C9_C9_0", 0u64); // PMSCR_EL2
        }
    }
}

/// The hardware's value of the ID register op0=3, op1=0, CRn=0, `crm`, `op2`; 0 for those VMs never see.
#[must_use]
pub fn id_register(crm: u64, op2: u64) -> u64 {
    match (crm, op2) {
        (4, 0) => mrs!("ID_AA64PFR0_EL1"),
        (4, 1) => mrs!("ID_AA64PFR1_EL1"),
        (5, 0) => mrs!("ID_AA64DFR0_EL1"),
        (6, 0) => mrs!("ID_AA64ISAR0_EL1"),
        (6, 1) => mrs!("ID_AA64ISAR1_EL1"),
        (7, 0) => mrs!("ID_AA64MMFR0_EL1"),
        (7, 1) => mrs!("ID_AA64MMFR1_EL1"),
        (7, 2) => mrs!("ID_AA64MMFR2_EL1"),
        _ => 0,
    }
}
