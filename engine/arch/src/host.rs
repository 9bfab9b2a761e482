//! Synchronous exceptions of the host that are no calls: reflected to it, never fatal. Trust label: TRUSTED.
//!
//! Source: Arm ARM DDI 0487, D24.2.40 (`ESR_ELx`), D8.2 (stage 2 walk).

use bulkhead_core::addr::{Block, FRAME_SHIFT, Frame};
use bulkhead_core::call::first_touch::first_touch;
use bulkhead_core::hardware::Hardware;
use bulkhead_core::owner::Kind;
use bulkhead_core::vcpu::inject::{self, Abort, Resumption};
use bulkhead_core::vcpu::processor::Processor;
use bulkhead_core::vcpu::registers;
use core::sync::atomic::{Ordering, fence};

use crate::Machine;
use crate::hooks;
use crate::percpu::HostContext;

const EC_SYSTEM: u64 = 0x18;
const EC_INSTRUCTION_ABORT: u64 = 0x20;
const EC_DATA_ABORT: u64 = 0x24;

/// Fault status without its level bits, and the value of a translation fault.
const FAULT_KIND: u64 = 0x3c;
const TRANSLATION_FAULT: u64 = 0x04;

/// Syndrome bits that name a register, and the one that tells a read.
const REGISTER: u64 = registers::packed(3, 7, 15, 15, 7);
const READ: u64 = 1;
/// `HCR_EL2.TRVM` traps these with the stage 1 registers; a host needs them to understand its own exceptions.
const ESR_EL1: u64 = registers::ESR_EL1 | READ;
const FAR_EL1: u64 = registers::FAR_EL1 | READ;
/// `HCR_EL2.TID2` traps it with the cache geometry registers.
const CTR_EL0: u64 = registers::CTR_EL0 | READ;

/// Handles the exception in `ESR_EL2`; the host's registers are in `host`.
pub fn exception(host: &HostContext) {
    let syndrome = Machine.syndrome();
    match syndrome.esr >> 26 & 0x3f {
        EC_SYSTEM => system(host, syndrome.esr),
        EC_DATA_ABORT => abort(syndrome.esr, syndrome.far, syndrome.hpfar, Abort::Data),
        EC_INSTRUCTION_ABORT => abort(syndrome.esr, syndrome.far, syndrome.hpfar, Abort::Instruction),
        _ => go_on(inject::undefined(Machine, at())),
    }
}

/// Where the exception was taken.
fn at() -> Resumption {
    Resumption { pc: mrs!("ELR_EL2"), pstate: mrs!("SPSR_EL2") }
}

fn go_on(to: Resumption) {
    // SAFETY: the exception return goes to the host at the EL that `inject` computes or that it came from.
    unsafe {
        msr!("ELR_EL2", to.pc);
        msr!("SPSR_EL2", to.pstate);
    }
}

fn system(host: &HostContext, esr: u64) {
    let value = match esr & (REGISTER | READ) {
        ESR_EL1 => mrs!("ESR_EL1"),
        FAR_EL1 => mrs!("FAR_EL1"),
        CTR_EL0 => mrs!("CTR_EL0"),
        _ => return go_on(inject::undefined(Machine, at())),
    };
    let transfer = (esr >> 5 & 31) as usize;
    // SAFETY: only the engine accesses the host's saved registers while it handles the exception.
    let registers = unsafe { &mut *host.x.get() };
    if let Some(register) = registers.get_mut(transfer) {
        *register = value;
    }
    let from = at();
    go_on(Resumption { pc: from.pc.wrapping_add(4), pstate: from.pstate });
}

/// A stage 2 abort. Where the records say that the RAM is the host's, it is there by now, or another CPU is about to
/// put it there (a block is being split, a frame comes back): the host retries. Otherwise it takes an external abort.
fn abort(esr: u64, far: u64, hpfar: u64, kind: Abort) {
    // Stopping the machine empties the host's tables, so that every CPU comes here.
    hooks::park_if_stopped();
    let page = (hpfar & 0x0fff_ffff_fff0) << 8;
    if esr & FAULT_KIND == TRANSLATION_FAULT && is_hosts(page) {
        return;
    }
    go_on(inject::external_abort(Machine, at(), kind, far));
}

/// Whether the page of RAM at `address` is the host's. A block that nobody has touched since boot is made so, unless
/// another CPU holds the ownership lock: then the host comes again.
fn is_hosts(address: u64) -> bool {
    let frame = Frame(address.wrapping_sub(Machine.ram_base()) >> FRAME_SHIFT);
    if frame.0 >= Machine.frames() {
        return false;
    }
    let kind = Machine.block_record(frame.block()).kind();
    // Frame records are complete before their block is SPLIT.
    fence(Ordering::Acquire);
    match kind {
        Kind::UNCLEARED => touch(frame.block()),
        Kind::HOST | Kind::DMA => true,
        Kind::SPLIT => Machine.frame_record(frame).kind() == Kind::HOST,
        _ => false,
    }
}

#[cold]
fn touch(block: Block) -> bool {
    if Machine.try_lock() {
        // Whatever the answer: the record decides when the host comes again.
        let _ = first_touch(Machine, block);
        Machine.unlock();
    }
    true
}
