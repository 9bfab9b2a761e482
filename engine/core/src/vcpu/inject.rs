//! Exceptions that the engine makes a domain take at EL1 (Arm ARM DDI 0487, D1.3). Trust label: CHECKED, to be proved.

use super::processor::{El1Exception, Processor};

const EC_SHIFT: u32 = 26;
const EC_UNKNOWN: u64 = 0x00;
const EC_INSTRUCTION_ABORT: u64 = 0x20;
const EC_DATA_ABORT: u64 = 0x24;
/// 32-bit instruction length.
const IL: u64 = 1 << 25;
/// Fault status: synchronous external abort, not on a table walk.
const EXTERNAL_ABORT: u64 = 0x10;
/// Taken from the same exception level: adds 1 to the abort classes.
const SAME_EL: u64 = 1;

const MODE_MASK: u64 = 0xf;
const MODE_EL0: u64 = 0x0;
const MODE_EL1H: u64 = 0x5;
const DAIF: u64 = 0x3c0;
const SSBS: u64 = 1 << 12;
const PAN: u64 = 1 << 22;
const DIT: u64 = 1 << 24;
const NZCV: u64 = 0xf << 28;
/// `SCTLR_EL1.SPAN`: leave PAN unchanged on an exception to EL1.
const SPAN: u64 = 1 << 23;
/// `SCTLR_EL1.DSSBS`, bit 44, is SSBS after an exception to EL1. Without `FEAT_SSBS` an exception return ignores SSBS.
const DSSBS_TO_SSBS: u32 = 32;

/// Kind of abort to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// Of a data access.
    Data,
    /// Of an instruction fetch.
    Instruction,
}

/// Where the domain goes on: program counter and processor state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumption {
    /// Program counter.
    pub pc: u64,
    /// Processor state.
    pub pstate: u64,
}

/// The instruction at `from.pc` is UNDEFINED for the domain.
pub fn undefined<P: Processor>(p: P, from: Resumption) -> Resumption {
    deliver(p, from, EC_UNKNOWN << EC_SHIFT | IL, 0)
}

/// The access at `address` by the instruction at `from.pc` is answered by a synchronous external abort.
pub fn external_abort<P: Processor>(p: P, from: Resumption, kind: Abort, address: u64) -> Resumption {
    let class = match kind {
        Abort::Data => EC_DATA_ABORT,
        Abort::Instruction => EC_INSTRUCTION_ABORT,
    };
    let class = if from.pstate & MODE_MASK == MODE_EL0 { class } else { class + SAME_EL };
    deliver(p, from, class << EC_SHIFT | IL | EXTERNAL_ABORT, address)
}

fn deliver<P: Processor>(p: P, from: Resumption, esr: u64, far: u64) -> Resumption {
    p.set_exception(El1Exception { elr: from.pc, spsr: from.pstate, esr, far });
    let offset = match from.pstate & 0x1f {
        0x10..=0x1f => 0x600,
        MODE_EL0 => 0x400,
        MODE_EL1H => 0x200,
        _ => 0x000,
    };
    let pc = p.vector_base().wrapping_add(offset);
    Resumption { pc, pstate: entry_state(p.system_control(), from.pstate) }
}

/// PSTATE on entry to EL1 (`AArch64.TakeException`). TCO and ALLINT, of features that no domain sees, are zero.
const fn entry_state(system_control: u64, from: u64) -> u64 {
    let pan = if system_control & SPAN == 0 { PAN } else { from & PAN };
    let ssbs = system_control >> DSSBS_TO_SSBS & SSBS;
    MODE_EL1H | DAIF | pan | ssbs | from & (NZCV | DIT)
}
