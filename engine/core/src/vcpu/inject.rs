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
const PAN: u64 = 1 << 22;
const DIT: u64 = 1 << 24;
/// `SCTLR_EL1.SPAN`: leave PAN unchanged on an exception to EL1.
const SPAN: u64 = 1 << 23;

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
    let pan = if p.system_control() & SPAN == 0 { PAN } else { from.pstate & PAN };
    Resumption { pc: p.vector_base().wrapping_add(offset), pstate: MODE_EL1H | DAIF | pan | from.pstate & DIT }
}
