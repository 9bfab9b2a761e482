//! From the assembly to the decisions of [`bulkhead_core`] and back. Trust label: TRUSTED.
//!
//! Called by `vectors.S` on this CPU's stack, registers saved in the context of the domain that came.

use bulkhead_abi::{CONTROL_NO_PENDING, CONTROL_UNDERFLOW, exit as class, status};
use bulkhead_core::addr::Frame;
use bulkhead_core::call::dispatch;
use bulkhead_core::owner::RunState;
use bulkhead_core::vcpu::context::VcpuContext;
use bulkhead_core::vcpu::exit::{self, Decision, Exit};
use bulkhead_core::vcpu::run::{self, Claimed, Run};

use crate::percpu::HostContext;
use crate::{Machine, gic, host, resident};

/// What the assembly does after an exception of the VM: go on with it.
const RESUME: u64 = 0;
/// Save the VM's EL1 registers and enter the host.
const LEAVE: u64 = 1;
/// Enter the host without saving: the context is no longer this CPU's.
const ABANDON: u64 = 2;

/// Exception class of a trapped FP or SIMD instruction.
const EC_FP: u64 = 0x07;

/// Registers x0 to x17 of the host: the first 18 of its saved registers. While the engine handles an exception of this
/// CPU only the handler accesses them, so it may make one reference of the pointer.
#[inline(always)]
fn registers(host: &HostContext) -> *mut dispatch::Registers {
    host.x.get().cast()
}

/// A call of the host other than `vcpu_run`.
pub(crate) extern "C" fn host_call(host: &HostContext) {
    // SAFETY: the only reference, for the duration of the call.
    let registers = unsafe { &mut *registers(host) };
    count_call(host, registers[0]);
    dispatch::host_call(Machine, registers);
}

#[inline(always)]
fn count_call(host: &HostContext, function: u64) {
    const FIRST: u64 = bulkhead_abi::id::VERSION;
    if let Some(counter) = host.calls.get(function.wrapping_sub(FIRST) as usize) {
        counter.count();
    }
}

/// Any other synchronous exception of the host: a trap or a stage 2 abort.
pub(crate) extern "C" fn host_exception(host: &HostContext) {
    host::exception(host);
}

/// `vcpu_run`: the context to enter, or null with the answer in the host's registers.
pub(crate) extern "C" fn vcpu_run(host: &HostContext) -> *mut VcpuContext {
    // SAFETY: the only reference, for the duration of the call.
    let registers = unsafe { &mut *registers(host) };
    count_call(host, bulkhead_abi::id::VCPU_RUN);
    let [_, vcpu, reply, lr0, lr1, lr2, control, ..] = *registers;
    let run = Run { vcpu, reply, lists: [lr0, lr1, lr2], control };
    match run::claim(Machine, &run, resident::loaded(host)) {
        Ok(claimed) => enter(host, &run, claimed),
        Err(outcome) => {
            registers[0] = outcome.status;
            registers[1] = outcome.detail;
            core::ptr::null_mut()
        }
    }
}

#[inline(always)]
fn enter(host: &HostContext, run: &Run, claimed: Claimed) -> *mut VcpuContext {
    if claimed.is_new {
        replace(host, claimed.frame);
    }
    let pointer = resident::vcpu_pointer(claimed.frame);
    // SAFETY: this CPU holds the claim; the reference ends before the assembly uses the frame.
    let vcpu = unsafe { &mut *pointer };
    vcpu.control = run.control;
    exit::complete(vcpu, run.reply);
    exit::deliver_timer(Machine, vcpu);
    gic::set_list_registers(run.lists);
    gic::enable_virtual(run.control & CONTROL_UNDERFLOW != 0, run.control & CONTROL_NO_PENDING != 0);
    pointer
}

#[cold]
fn replace(host: &HostContext, frame: Frame) {
    // SAFETY: the host is running, and `claim` has just given this CPU the frame.
    unsafe {
        resident::unload(host, RunState::RUNNABLE);
        resident::load(host, frame);
    }
}

/// A synchronous exception of the VM; what the assembly does next.
pub(crate) extern "C" fn vm_synchronous(vcpu: &mut VcpuContext, host: &HostContext) -> u64 {
    if is_error_deferred() {
        return vm_error(vcpu, host);
    }
    if mrs!("ESR_EL2") >> 26 & 0x3f == EC_FP {
        resident::open_fp(host, vcpu);
        return RESUME;
    }
    let decision = exit::synchronous(Machine, vcpu);
    act(vcpu, host, decision)
}

/// A physical interrupt of group 1 while the VM ran.
pub(crate) extern "C" fn vm_interrupt(vcpu: &mut VcpuContext, host: &HostContext) -> u64 {
    if is_error_deferred() {
        return vm_error(vcpu, host);
    }
    let decision = exit::interrupt(Machine, vcpu);
    act(vcpu, host, decision)
}

/// A physical interrupt of group 0: the host's own, too.
pub(crate) extern "C" fn vm_fast_interrupt(vcpu: &mut VcpuContext, host: &HostContext) -> u64 {
    if is_error_deferred() {
        return vm_error(vcpu, host);
    }
    act(vcpu, host, Decision::Exit(Exit::of(class::IRQ)))
}

/// An SError interrupt, or one that the ESB of another exit found pending.
#[cold]
pub(crate) extern "C" fn vm_error(vcpu: &mut VcpuContext, host: &HostContext) -> u64 {
    // SAFETY: what DISR_EL1 has recorded is dealt with here.
    unsafe { msr!("S3_0_C12_C1_1", 0u64) };
    let decision = exit::system_error(Machine, vcpu);
    act(vcpu, host, decision)
}

/// Whether the ESB at the exit has deferred an SError (`DISR_EL1`).
#[inline(always)]
fn is_error_deferred() -> bool {
    mrs!("S3_0_C12_C1_1") != 0
}

#[inline(always)]
fn act(vcpu: &mut VcpuContext, host: &HostContext, decision: Decision) -> u64 {
    match decision {
        Decision::Resume => RESUME,
        Decision::Exit(exit) => {
            report(vcpu, host, exit);
            LEAVE
        }
        Decision::Off(exit) => turn_off(vcpu, host, exit),
    }
}

#[cold]
fn turn_off(vcpu: &VcpuContext, host: &HostContext, exit: Exit) -> u64 {
    report(vcpu, host, exit);
    // SAFETY: the assembly enters the host without saving into the context (ABANDON).
    unsafe { resident::unload(host, RunState::OFF) };
    ABANDON
}

/// Puts the exit into the host's x0 to x9 and turns the virtual CPU interface off.
#[inline(always)]
fn report(vcpu: &VcpuContext, host: &HostContext, exit: Exit) {
    if let Some(counter) = host.exits.get(exit.class as usize) {
        counter.count();
    }
    // SAFETY: the only reference: the host waits for the exit.
    let registers = unsafe { &mut *registers(host) };
    registers[0] = status::SUCCESS;
    registers[1] = exit.class;
    registers[2..5].copy_from_slice(&exit.data);
    registers[5..8].copy_from_slice(&gic::list_registers());
    registers[8] = gic::maintenance() & 0xff;
    registers[9] = exit::deadline(Machine, vcpu);
    gic::disable_virtual();
}
