//! Self-hosted debug of a VM (Arm ARM DDI 0487, D2.8 breakpoints, D2.10 watchpoints, D2.12 software step).
//! Trust label: CHECKED, to be proved.
//!
//! Every access to a debug register traps, always: values live in the context. The CPU holds the breakpoints and
//! watchpoints of the loaded vCPU while its MDSCR_EL1 is not zero, and without MDSCR_EL1 none of them acts; the world
//! switch makes it zero for the host. So no domain reads another's, and none is stopped by another's.

use super::Processor;
use super::context::VcpuContext;
use super::registers;

/// Breakpoints, and watchpoints, that the architecture allows (without FEAT_Debugv8p9).
pub const NUMBERS: usize = 16;
/// op2 of DBGBVR<n>_EL1; control, watchpoint value and watchpoint control follow.
const FIRST_KIND: u64 = 4;

/// Values for each n in the order of op2: DBGBVR<n>, DBGBCR<n>, DBGWVR<n>, DBGWCR<n>.
pub type DebugRegisters = [[u64; 4]; NUMBERS];

/// `MDSCR_EL1` SS, TDCC, KDE, MDE: what acts on the VM alone.
const CONTROL: u64 = 1 | 1 << 12 | 1 << 13 | 1 << 15;
/// DBGBCR: E, PMC, BAS, LBN, and BT for addresses and CONTEXTIDR_EL1. HMC and SSC stay zero: EL0 and EL1 only.
const BREAKPOINT: u64 = 1 | 3 << 1 | 0xf << 5 | 0xf << 16 | 3 << 20;
/// DBGWCR: E, PAC, LSC, BAS, LBN, WT, MASK. HMC and SSC stay zero.
const WATCHPOINT: u64 = 1 | 3 << 1 | 3 << 3 | 0xff << 5 | 0xf << 16 | 1 << 20 | 0x1f << 24;

/// CRm and op2 of a register with op0=2, op1=0, CRn=0.
const fn place(register: u64) -> (u64, u64) {
    (register >> 1 & 15, register >> 17 & 7)
}

const fn is_debug(register: u64) -> bool {
    register & registers::packed(3, 7, 15, 0, 0) == registers::packed(2, 0, 0, 0, 0)
}

/// A trapped access of the VM: what a read gets, None where there is no such register. `written`: what a write gives.
pub fn access<P: Processor>(p: P, vcpu: &mut VcpuContext, register: u64, written: Option<u64>) -> Option<u64> {
    if register == registers::MDSCR_EL1 {
        if let Some(value) = written {
            set_control(p, vcpu, value & CONTROL);
        }
        return Some(vcpu.el1.mdscr_el1);
    }
    let (number, op2) = place(register);
    let kind = op2.wrapping_sub(FIRST_KIND) as usize;
    if !is_debug(register) || kind > 3 || number >= count(p, kind) {
        return None;
    }
    let cell = &mut vcpu.debug[number as usize % NUMBERS][kind];
    if let Some(value) = written {
        *cell = value & kept(kind);
        if vcpu.el1.mdscr_el1 != 0 {
            p.set_debug_register(number, op2, *cell);
        }
    }
    Some(*cell)
}

/// Bits of a register of this kind that a VM may choose.
const fn kept(kind: usize) -> u64 {
    match kind {
        1 => BREAKPOINT,
        3 => WATCHPOINT,
        _ => u64::MAX,
    }
}

/// How many registers of this kind the CPU has: ID_AA64DFR0_EL1 BRPs or WRPs, plus 1.
fn count<P: Processor>(p: P, kind: usize) -> u64 {
    let shift = if kind < 2 { 12 } else { 20 };
    (p.id_register(5, 0) >> shift & 0xf) + 1
}

fn set_control<P: Processor>(p: P, vcpu: &mut VcpuContext, value: u64) {
    vcpu.el1.mdscr_el1 = value;
    load(p, vcpu);
    let (crm, op2) = place(registers::MDSCR_EL1);
    p.set_debug_register(crm, op2, value);
}

/// Gives the CPU the breakpoints and watchpoints of the vCPU, if they can act.
pub fn load<P: Processor>(p: P, vcpu: &VcpuContext) {
    if vcpu.el1.mdscr_el1 == 0 {
        return;
    }
    for kind in 0..4 {
        for number in 0..count(p, kind) {
            p.set_debug_register(number, FIRST_KIND + kind as u64, vcpu.debug[number as usize % NUMBERS][kind]);
        }
    }
}
