//! What a VM reads from the ID registers: a sanitized table (DDI 0487, D19.2). Trust label: CHECKED, to be proved.
//!
//! A field is kept only if the engine lets the VM use the feature and keeps its state apart; everything else reads as
//! not implemented. A register that is not in the table reads as zero, AArch32 ones among them: VMs are AArch64 only.

use super::Processor;

/// Mask of one four-bit field.
const fn field(low: u32) -> u64 {
    0xf << low
}

/// Physical address range "36 bits": the largest that a 39-bit IPA space can hold.
const PARANGE_36: u64 = 1;
/// Debug architecture v8 with two breakpoints, two watchpoints and one context-aware breakpoint: the least there is.
const DEBUG_MINIMUM: u64 = 0x6 | 1 << 12 | 1 << 20;

/// The value of ID register op0=3, op1=0, CRn=0, `crm`, `op2` for a VM.
pub fn read<P: Processor>(p: P, crm: u64, op2: u64) -> u64 {
    let raw = p.id_register(crm, op2);
    match (crm, op2) {
        // ID_AA64PFR0_EL1: EL0, EL1 AArch64 only; FP, AdvSIMD, GIC, DIT, CSV2, CSV3 kept.
        (4, 0) => 0x11 | raw & (field(16) | field(20) | field(24) | field(48) | field(56) | field(60)),
        // ID_AA64PFR1_EL1: BT, SSBS.
        (4, 1) => raw & (field(0) | field(4)),
        // ID_AA64DFR0_EL1: no PMU, trace, SPE.
        (5, 0) => DEBUG_MINIMUM,
        // ID_AA64ISAR0_EL1: instructions without state of their own, but for TME.
        (6, 0) => raw & !field(24),
        // ID_AA64ISAR1_EL1: no pointer authentication (APA, API, GPA, GPI), no LS64.
        (6, 1) => raw & !(field(4) | field(8) | field(24) | field(28) | field(60)),
        // ID_AA64MMFR0_EL1: no ECV, FGT, EXS, stage 2 granules.
        (7, 0) => {
            let kept = field(4) | field(8) | field(12) | field(16) | field(20) | field(24) | field(28);
            let range = if raw & 0xf < PARANGE_36 { raw & 0xf } else { PARANGE_36 };
            range | raw & kept
        }
        // ID_AA64MMFR1_EL1: HAFDBS, HPDS, PAN.
        (7, 1) => raw & (field(0) | field(12) | field(20)),
        // ID_AA64MMFR2_EL1: UAO, IESB off, CnP, LSM, VARange, AT, IDS, TTL, BBM.
        (7, 2) => raw & (field(0) | field(4) | field(8) | field(16) | field(32) | field(36) | field(48) | field(52)),
        _ => 0,
    }
}
