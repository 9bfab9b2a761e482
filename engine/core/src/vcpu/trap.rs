//! System register and cache instructions of a VM that trap, exception class 0x18. Trust label: CHECKED, to be proved.
//!
//! Which register is what: `engine/arch/registers/*.toml`, from which `registers` derives.

use bulkhead_abi::exit;

use super::context::VcpuContext;
use super::exit::{Decision, Exit, advance};
use super::inject::{self, Resumption};
use super::{Processor, debug, registers};
use crate::addr::VmId;
use crate::vm::Field;

/// `OSLSR_EL1` reads "OS lock implemented, unlocked" (OSLM = 0b10).
const OSLSR_UNLOCKED: u64 = 1 << 3;

/// Decides a trapped access. The program counter still points at the instruction.
#[inline(always)]
pub fn system<P: Processor>(p: P, vcpu: &mut VcpuContext, iss: u64) -> Decision {
    const SGI_WRITE: u64 = registers::ICC_SGI1R_EL1;
    if iss & (REGISTER | READ) == SGI_WRITE {
        let value = vcpu_register(vcpu, transfer(iss));
        advance(vcpu);
        return Decision::Exit(Exit { class: exit::SGI, data: [value, 0, 0] });
    }
    answer(p, vcpu, iss);
    Decision::Resume
}

/// Syndrome bits that name the register, and the one that tells a read.
const REGISTER: u64 = registers::packed(3, 7, 15, 15, 7);
const READ: u64 = 1;

/// The general register that is read or written.
const fn transfer(iss: u64) -> usize {
    (iss >> 5 & 31) as usize
}

/// Gives the access what it reads and goes on behind it, or makes it UNDEFINED.
#[inline(never)]
fn answer<P: Processor>(p: P, vcpu: &mut VcpuContext, iss: u64) {
    let is_read = iss & READ != 0;
    let written = if is_read { None } else { Some(vcpu_register(vcpu, transfer(iss))) };
    let Some(value) = emulated(p, vcpu, iss & REGISTER, written) else {
        let at = Resumption { pc: vcpu.pc, pstate: vcpu.pstate };
        let to = inject::undefined(p, at);
        vcpu.pc = to.pc;
        vcpu.pstate = to.pstate;
        return;
    };
    if is_read && transfer(iss) < 31 {
        vcpu.x[transfer(iss)] = value;
    }
    advance(vcpu);
}

/// Value of general register `index` of the VM; 31 is zero.
#[inline(always)]
pub fn vcpu_register(vcpu: &VcpuContext, index: usize) -> u64 {
    if index < 31 { vcpu.x[index] } else { 0 }
}

/// What an emulated register reads, or None if the access is UNDEFINED. `written`: the value of a write.
fn emulated<P: Processor>(p: P, vcpu: &mut VcpuContext, register: u64, written: Option<u64>) -> Option<u64> {
    if is_id_register(register) {
        let (crm, op2) = (register >> 1 & 15, register >> 17 & 7);
        return if written.is_none() { Some(registers::sanitized(crm, op2, p.id_register(crm, op2))) } else { None };
    }
    if register == registers::CNTPCT_EL0 && written.is_none() {
        return Some(p.counter().wrapping_sub(p.vm_word(VmId(vcpu.vm), Field::COUNTER_OFFSET)));
    }
    if register == registers::OSLSR_EL1 && written.is_none() {
        return Some(OSLSR_UNLOCKED);
    }
    if registers::is_ignored(register) { Some(0) } else { debug::access(p, vcpu, register, written) }
}

/// op0=3, op1=0, CRn=0, CRm 1 to 7: the group that `HCR_EL2.TID3` traps.
const fn is_id_register(register: u64) -> bool {
    let crm = register >> 1 & 15;
    register & registers::packed(3, 7, 15, 0, 0) == registers::packed(3, 0, 0, 0, 0) && crm >= 1 && crm <= 7
}
