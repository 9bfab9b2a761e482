//! Registers of a vCPU, and what its trapped accesses get (DDI 0487, D19).
//! Trust label: CHECKED, to be proved.
//!
//! Generated from engine/arch/registers/*.toml by `python -m bulkhead.registers`; do not edit.

/// EL1 state that is loaded at every entry of a VM, in this order.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "fields are the architecture's register names")]
pub struct SwitchedRegisters {
    pub sctlr_el1: u64,
    pub cpacr_el1: u64,
    pub tcr_el1: u64,
    pub vbar_el1: u64,
    pub sp_el1: u64,
    pub tpidr_el1: u64,
    pub sp_el0: u64,
    pub elr_el1: u64,
    pub spsr_el1: u64,
    pub esr_el1: u64,
    pub far_el1: u64,
    pub tpidr_el0: u64,
    pub tpidrro_el0: u64,
    pub par_el1: u64,
    pub cntkctl_el1: u64,
    pub cntv_cval_el0: u64,
    pub cntv_ctl_el0: u64,
    pub mdscr_el1: u64,
}

/// Registers that stay in the CPU until another vCPU loads there.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "fields are the architecture's register names")]
pub struct ResidentSystem {
    pub ttbr0_el1: u64,
    pub ttbr1_el1: u64,
    pub mair_el1: u64,
    pub amair_el1: u64,
    pub contextidr_el1: u64,
    pub afsr0_el1: u64,
    pub afsr1_el1: u64,
    pub csselr_el1: u64,
    pub ich_vmcr_el2: u64,
    pub ich_ap0r0_el2: u64,
    pub ich_ap1r0_el2: u64,
    pub vdisr_el2: u64,
}

/// op0, op1, CRn, CRm, op2 as in the syndrome of a trapped access (ISS bits 21:10 and 4:1).
pub const fn packed(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1
}

/// `ESR_EL1`.
pub const ESR_EL1: u64 = packed(3, 0, 5, 2, 0);
/// `FAR_EL1`.
pub const FAR_EL1: u64 = packed(3, 0, 6, 0, 0);
/// `MDSCR_EL1`.
pub const MDSCR_EL1: u64 = packed(2, 0, 0, 2, 2);
/// `ICC_SGI1R_EL1`.
pub const ICC_SGI1R_EL1: u64 = packed(3, 0, 12, 11, 5);
/// `CTR_EL0`.
pub const CTR_EL0: u64 = packed(3, 3, 0, 0, 1);
/// `CNTPCT_EL0`.
pub const CNTPCT_EL0: u64 = packed(3, 3, 14, 0, 1);
/// `OSLSR_EL1`.
pub const OSLSR_EL1: u64 = packed(2, 0, 1, 1, 4);

/// Whether a trapped access of a VM to this register or cache operation reads zero or is ignored.
pub const fn is_ignored(register: u64) -> bool {
    let (op0, op1) = (register >> 20 & 3, register >> 14 & 7);
    let (crn, crm, op2) = (register >> 10 & 15, register >> 1 & 15, register >> 17 & 7);
    matches!(
        (op0, op1, crn, crm, op2),
        (3, 0, 12, 11, 6) // ICC_ASGI1R_EL1
        | (3, 0, 12, 11, 7) // ICC_SGI0R_EL1
        | (3, 0, 1, 0, 1) // ACTLR_EL1
        | (3, 0, 0, 0, 6) // REVIDR_EL1
        | (3, 1, 0, 0, 7) // AIDR_EL1
        | (2, 0, 1, 4, 4) // DBGPRCR_EL1
        | (2, 0, 7, 14, 6) // DBGAUTHSTATUS_EL1
        | (2, 3, 0, 4, 0) // DBGDTR_EL0
        | (2, 0, 1, 0, 4) // OSLAR_EL1
        | (2, 0, 1, 3, 4) // OSDLR_EL1
        | (2, 0, 0, 0, 2) // OSDTRRX_EL1
        | (2, 0, 0, 2, 0) // MDCCINT_EL1
        | (2, 0, 0, 3, 2) // OSDTRTX_EL1
        | (2, 0, 0, 6, 2) // OSECCR_EL1
        | (2, 0, 1, 0, 0) // MDRAR_EL1
        | (2, 0, 7, 8, 6) // DBGCLAIMSET_EL1
        | (2, 0, 7, 9, 6) // DBGCLAIMCLR_EL1
        | (2, 3, 0, 1, 0) // MDCCSR_EL0
        | (2, 3, 0, 5, 0) // DBGDTRRX_EL0
        | (3, 1, 0, 0, 6) // SMIDR_EL1
        | (1, 0, 7, 6, 2) // DC ISW
        | (1, 0, 7, 10, 2) // DC CSW
        | (1, 0, 7, 14, 2) // DC CISW
        | (3, 0, 0, 1..=7, 0..=7) // ID registers, all others
    )
}

/// What a VM reads from the ID register op0=3, op1=0, CRn=0, `crm`, `op2`, where the hardware has `raw`.
pub const fn sanitized(crm: u64, op2: u64, raw: u64) -> u64 {
    match (crm, op2) {
        // ID_AA64PFR0_EL1: FP, AdvSIMD, DIT, CSV3, GIC (at most 1), CSV2 (at most 1).
        (4, 0) => raw & 0xf00f_0000_00ff_0000 | 0x11 | at_most(raw, 24, 1) | at_most(raw, 56, 1),
        // ID_AA64PFR1_EL1: BT, SSBS.
        (4, 1) => raw & 0xff,
        // ID_AA64DFR0_EL1: BRPs, WRPs, CTX_CMPs.
        (5, 0) => raw & 0xf0f0_f000 | 0xf0_0000_0006,
        // ID_AA64ISAR0_EL1: AES, SHA1, SHA2, CRC32, Atomic, RDM, SHA3, SM3, SM4, DP, FHM, TS, TLB, RNDR.
        (6, 0) => raw & 0xffff_ffff_f0ff_fff0,
        // ID_AA64ISAR1_EL1: DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, DGH, I8MM, XS.
        (6, 1) => raw & 0xfff_ffff_00ff_f00f,
        // ID_AA64MMFR0_EL1: ASIDBits, BigEnd, SNSMem, BigEndEL0, TGran16, TGran64, TGran4, PARange (at most 1).
        (7, 0) => raw & 0xffff_fff0 | at_most(raw, 0, 1),
        // ID_AA64MMFR1_EL1: HPDS, PAN, HAFDBS (at most 2).
        (7, 1) => raw & 0xf0_f000 | at_most(raw, 0, 2),
        // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VARange, CCIDX, AT, IDS, TTL, BBM.
        (7, 2) => raw & 0xff_00ff_00ff_0fff,
        _ => 0,
    }
}

/// The field of four bits at `low`, but no more than `limit`.
const fn at_most(raw: u64, low: u32, limit: u64) -> u64 {
    let value = raw >> low & 0xf;
    (if value < limit { value } else { limit }) << low
}
