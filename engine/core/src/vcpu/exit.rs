//! Decisions at a VM's exit: go on, or what to tell the host. Trust label: CHECKED, to be proved.
//!
//! The syndrome, the transfer register and the program counter never leave the engine: the host gets an exit class
//! and its declared data, and answers with a value. Syndromes: Arm ARM DDI 0487, D24.2.40 (`ESR_EL2`).

use bulkhead_abi::{CONTROL_PRIORITY_SHIFT, CONTROL_TIMER, NO_DEADLINE, death, exit, status};

use super::context::{Pending, VcpuContext};
use super::inject::{self, Abort, Resumption};
use super::processor::Syndrome;
use super::trap;
use super::{Processor, hypercall};
use crate::addr::{Ipa, VmId};
use crate::stage2::{self, Mapping};
use crate::vm::{self, Field, State};

/// What the host learns of an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// One of `abi::exit`.
    pub class: u64,
    /// x2, x3, x4 as the class declares them.
    pub data: [u64; 3],
}

impl Exit {
    /// An exit without data.
    #[must_use]
    pub const fn of(class: u64) -> Self {
        Self { class, data: [0; 3] }
    }
}

/// What happens after an exception of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Back into the VM.
    Resume,
    /// To the host.
    Exit(Exit),
    /// To the host; the vCPU is off: it is unloaded and its record says OFF.
    Off(Exit),
}

const EC_WFX: u64 = 0x01;
const EC_HVC: u64 = 0x16;
const EC_SMC: u64 = 0x17;
const EC_SYSTEM: u64 = 0x18;
const EC_INSTRUCTION_ABORT: u64 = 0x20;
const EC_DATA_ABORT: u64 = 0x24;

const ISS_MASK: u64 = 0x1ff_ffff;
/// WFx: the instruction waits for an event (WFE, WFET), not for an interrupt.
const WFE: u64 = 1;
/// Data abort: bits 23:14 describe the access.
const ISV: u64 = 1 << 24;
/// Data abort: store.
const WNR: u64 = 1 << 6;
/// Abort on a stage 2 walk for a stage 1 walk.
const S1PTW: u64 = 1 << 7;
/// Fault status without its level bits.
const FAULT_KIND: u64 = 0x3c;
const TRANSLATION_FAULT: u64 = 0x04;

const TIMER_INTID: u64 = 27;
const MAINTENANCE_INTID: u64 = 25;
/// First of the special INTIDs (1020 to 1023): nothing is pending.
const SPECIAL_INTID: u64 = 1020;

/// A synchronous exception of the VM.
pub fn synchronous<P: Processor>(p: P, vcpu: &mut VcpuContext) -> Decision {
    let syndrome = p.syndrome();
    let iss = syndrome.esr & ISS_MASK;
    match syndrome.esr >> 26 & 0x3f {
        EC_HVC => hypercall::call(p, vcpu),
        EC_SMC => {
            // PSCI's conduit is HVC here; a trapped SMC has not moved the program counter (D1.3).
            vcpu.x[0] = status::NOT_SUPPORTED;
            advance(vcpu);
            Decision::Resume
        }
        EC_WFX => {
            advance(vcpu);
            Decision::Exit(Exit { class: exit::WFI, data: [iss & WFE, 0, 0] })
        }
        EC_SYSTEM => trap::system(p, vcpu, iss),
        class @ (EC_DATA_ABORT | EC_INSTRUCTION_ABORT) => {
            let kind = if class == EC_DATA_ABORT { Abort::Data } else { Abort::Instruction };
            abort(p, vcpu, syndrome, kind)
        }
        _ => {
            // A trapped feature (FP is handled before, SVE, pointer authentication ...) does not exist for the VM.
            undefined(p, vcpu);
            Decision::Resume
        }
    }
}

/// A physical interrupt while the VM ran.
pub fn interrupt<P: Processor>(p: P, vcpu: &mut VcpuContext) -> Decision {
    match p.pending_interrupt() {
        TIMER_INTID => {
            p.acknowledge_interrupt();
            vcpu.timer_pending = 1;
            deliver_timer(p, vcpu);
            Decision::Resume
        }
        MAINTENANCE_INTID => Decision::Exit(Exit::of(exit::VGIC)),
        SPECIAL_INTID.. => Decision::Resume,
        _ => Decision::Exit(Exit::of(exit::IRQ)),
    }
}

/// An SError interrupt: attributed to the VM that ran, which dies of it.
pub fn system_error<P: Processor>(p: P, vcpu: &mut VcpuContext) -> Decision {
    die(p, vcpu, death::SERROR)
}

/// Puts a taken timer interrupt into its list register once the VM has it enabled. Hardware-linked: the VM's own
/// deactivation deactivates PPI 27 (IHI 0069, 9.4.12 `ICH_LR<n>_EL2`).
pub fn deliver_timer<P: Processor>(p: P, vcpu: &mut VcpuContext) {
    const PENDING: u64 = 1 << 62;
    const HARDWARE: u64 = 1 << 61;
    const GROUP1: u64 = 1 << 60;
    if vcpu.timer_pending != 0 && vcpu.control & CONTROL_TIMER != 0 {
        let priority = vcpu.control >> CONTROL_PRIORITY_SHIFT & 0xff;
        let link = TIMER_INTID << 32 | TIMER_INTID;
        p.set_timer_list_register(PENDING | HARDWARE | GROUP1 | priority << 48 | link);
        vcpu.timer_pending = 0;
    }
}

/// When the vCPU's virtual timer fires, as a value of the physical counter.
pub fn deadline<P: Processor>(p: P, vcpu: &VcpuContext) -> u64 {
    const ENABLE_IMASK: u64 = 3;
    let (control, compare) = p.virtual_timer();
    if control & ENABLE_IMASK != 1 {
        return NO_DEADLINE;
    }
    compare.wrapping_add(p.vm_word(VmId(vcpu.vm), Field::COUNTER_OFFSET))
}

/// Moves the program counter behind the instruction, which the engine has executed in the VM's place: a software step
/// is complete with it (PSTATE.SS), and it was no landing pad of an indirect branch for what follows (PSTATE.BTYPE).
#[inline(always)]
pub(super) fn advance(vcpu: &mut VcpuContext) {
    const STEP_AND_BRANCH: u64 = 1 << 21 | 3 << 10;
    vcpu.pc = vcpu.pc.wrapping_add(4);
    vcpu.pstate &= !STEP_AND_BRANCH;
}

fn undefined<P: Processor>(p: P, vcpu: &mut VcpuContext) {
    let to = inject::undefined(p, Resumption { pc: vcpu.pc, pstate: vcpu.pstate });
    vcpu.pc = to.pc;
    vcpu.pstate = to.pstate;
}

fn die<P: Processor>(p: P, vcpu: &VcpuContext, reason: u64) -> Decision {
    p.exchange_vm_state(VmId(vcpu.vm), State::ACTIVE, State::DYING);
    Decision::Exit(Exit { class: exit::DIED, data: [reason, 0, 0] })
}

#[inline(always)]
fn abort<P: Processor>(p: P, vcpu: &mut VcpuContext, syndrome: Syndrome, kind: Abort) -> Decision {
    let page = (syndrome.hpfar & 0x0fff_ffff_fff0) << 8;
    let is_translation = syndrome.esr & FAULT_KIND == TRANSLATION_FAULT;
    if is_translation {
        if let Some(ipa) = Ipa::checked(page).filter(|&ipa| vm::in_ram(p, VmId(vcpu.vm), ipa)) {
            return memory_fault(p, VmId(vcpu.vm), ipa);
        }
    }
    let describes_access = syndrome.esr & (ISV | S1PTW) == ISV;
    if kind == Abort::Data && is_translation && describes_access {
        return mmio(vcpu, syndrome.esr, page | syndrome.far & 0xfff);
    }
    let from = Resumption { pc: vcpu.pc, pstate: vcpu.pstate };
    let to = inject::external_abort(p, from, kind, syndrome.far);
    vcpu.pc = to.pc;
    vcpu.pstate = to.pstate;
    Decision::Resume
}

/// A translation fault in RAM. Another CPU may have mapped the page meanwhile, or be cutting its block: under the lock
/// the leaf is read again, and if it permits the access the VM retries. If the lock is taken, too: each try is a step of
/// its own, between which interrupts are taken.
#[inline(always)]
fn memory_fault<P: Processor>(p: P, vm: VmId, ipa: Ipa) -> Decision {
    if !p.try_lock() {
        return Decision::Resume;
    }
    let mapping = stage2::walk(p, vm, ipa);
    p.unlock();
    if mapping != Mapping::Nothing {
        return Decision::Resume;
    }
    Decision::Exit(Exit { class: exit::MEM_FAULT, data: [ipa.0, 0, 0] })
}

#[inline(always)]
fn mmio(vcpu: &mut VcpuContext, esr: u64, ipa: u64) -> Decision {
    let size = 1 << (esr >> 22 & 3);
    if esr & WNR == 0 {
        vcpu.pending = Pending::load(esr & ISS_MASK).0;
        advance(vcpu);
        return Decision::Exit(Exit { class: exit::MMIO_READ, data: [ipa, size, 0] });
    }
    let value = trap::vcpu_register(vcpu, (esr >> 16 & 31) as usize) & low_bits(size);
    advance(vcpu);
    Decision::Exit(Exit { class: exit::MMIO_WRITE, data: [ipa, size, value] })
}

/// Mask of the low `size` bytes, `size` being 1, 2, 4 or 8.
#[inline(always)]
fn low_bits(size: u64) -> u64 {
    u64::MAX >> (64 - 8 * size)
}

/// Completes what the last exit left open with the host's `reply`, which is cut to the size of the access.
#[inline(always)]
pub fn complete(vcpu: &mut VcpuContext, reply: u64) {
    let pending = Pending(vcpu.pending);
    vcpu.pending = Pending::NOTHING.0;
    if pending == Pending::HOST_CALL {
        vcpu.x[0] = status::SUCCESS;
        vcpu.x[1] = reply;
    } else if let Some(iss) = pending.load_syndrome() {
        let transfer = (iss >> 16 & 31) as usize;
        if transfer < 31 {
            vcpu.x[transfer] = loaded_value(iss, reply);
        }
    }
}

/// The value of a load: zero- or sign-extended (SSE) to 32 or 64 bits (SF).
fn loaded_value(iss: u64, reply: u64) -> u64 {
    const SSE: u64 = 1 << 21;
    const SF: u64 = 1 << 15;
    let size: u64 = 1 << (iss >> 22 & 3);
    let value = reply & low_bits(size);
    let sign = 1 << (8 * size - 1);
    if iss & SSE == 0 || value & sign == 0 {
        return value;
    }
    let extended = value | !low_bits(size);
    if iss & SF != 0 { extended } else { extended & low_bits(4) }
}
