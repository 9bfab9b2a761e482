//! System register and cache instructions of a VM that trap, exception class 0x18. Trust label: CHECKED, to be proved.

use bulkhead_abi::exit;

use super::context::VcpuContext;
use super::exit::{Decision, Exit, advance};
use super::inject::{self, Resumption};
use super::{Processor, id_registers};
use crate::addr::VmId;
use crate::vm::Field;

/// op0, op1, CRn, CRm, op2 of an access, packed as in the instruction's syndrome (ISS bits 21:10 and 4:1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Register(u64);

impl Register {
    const fn new(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> Self {
        Self(op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1)
    }

    const fn op0(self) -> u64 {
        self.0 >> 20 & 3
    }

    const fn op1(self) -> u64 {
        self.0 >> 14 & 7
    }

    const fn crn(self) -> u64 {
        self.0 >> 10 & 15
    }

    const fn crm(self) -> u64 {
        self.0 >> 1 & 15
    }

    const fn op2(self) -> u64 {
        self.0 >> 17 & 7
    }
}

const ICC_SGI1R: Register = Register::new(3, 0, 12, 11, 5);
const ICC_ASGI1R: Register = Register::new(3, 0, 12, 11, 6);
const ICC_SGI0R: Register = Register::new(3, 0, 12, 11, 7);
/// `HCR_EL2.TID1` traps these two; a VM learns of no revision but that in `MIDR_EL1`.
const REVIDR: Register = Register::new(3, 0, 0, 0, 6);
const AIDR: Register = Register::new(3, 1, 0, 0, 7);
/// The physical count, of which a VM may know only its own share: it reads as the virtual count.
const CNTPCT: Register = Register::new(3, 3, 14, 0, 1);
const ACTLR: Register = Register::new(3, 0, 1, 0, 1);
/// `OSLSR_EL1` reads "OS lock implemented, unlocked" (OSLM = 0b10).
const OSLSR: Register = Register::new(2, 0, 1, 1, 4);
const OSLSR_UNLOCKED: u64 = 1 << 3;

/// Decides a trapped access. The program counter still points at the instruction.
#[inline(never)]
pub fn system<P: Processor>(p: P, vcpu: &mut VcpuContext, iss: u64) -> Decision {
    let register = Register(iss & Register::new(3, 7, 15, 15, 7).0);
    let is_read = iss & 1 != 0;
    let transfer = (iss >> 5 & 31) as usize;
    if register == ICC_SGI1R && !is_read {
        let value = vcpu_register(vcpu, transfer);
        advance(vcpu);
        return Decision::Exit(Exit { class: exit::SGI, data: [value, 0, 0] });
    }
    let Some(value) = emulated(p, VmId(vcpu.vm), register, is_read) else {
        let at = Resumption { pc: vcpu.pc, pstate: vcpu.pstate };
        let to = inject::undefined(p, at);
        vcpu.pc = to.pc;
        vcpu.pstate = to.pstate;
        return Decision::Resume;
    };
    if is_read && transfer < 31 {
        vcpu.x[transfer] = value;
    }
    advance(vcpu);
    Decision::Resume
}

/// Value of general register `index` of the VM; 31 is zero.
#[inline(always)]
pub fn vcpu_register(vcpu: &VcpuContext, index: usize) -> u64 {
    if index < 31 { vcpu.x[index] } else { 0 }
}

/// What an emulated register reads, or None if the access is UNDEFINED. Writes to emulated registers are ignored.
fn emulated<P: Processor>(p: P, vm: VmId, register: Register, is_read: bool) -> Option<u64> {
    if is_id_register(register) {
        return if is_read { Some(id_registers::read(p, register.crm(), register.op2())) } else { None };
    }
    if register == REVIDR || register == AIDR {
        return if is_read { Some(0) } else { None };
    }
    if register == CNTPCT && is_read {
        return Some(p.counter().wrapping_sub(p.vm_word(vm, Field::COUNTER_OFFSET)));
    }
    if register == OSLSR {
        return Some(OSLSR_UNLOCKED);
    }
    // Debug registers (op0 = 2), ACTLR_EL1, the SGI registers of group 0 and of the other security state,
    // and cache maintenance by set and way, which stage 2 write-back memory does not need.
    let is_debug = register.op0() == 2 && register.op1() == 0;
    let is_set_way = register.op0() == 1 && register.crn() == 7;
    let is_ignored = register == ACTLR || register == ICC_SGI0R || register == ICC_ASGI1R;
    if is_debug || is_set_way || is_ignored { Some(0) } else { None }
}

/// op0=3, op1=0, CRn=0, CRm 1 to 7: the group that `HCR_EL2.TID3` traps.
fn is_id_register(register: Register) -> bool {
    register.op0() == 3 && register.op1() == 0 && register.crn() == 0 && register.crm() >= 1 && register.crm() <= 7
}
