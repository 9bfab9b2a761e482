//! vCPU state that stays in the CPU until another vCPU loads there. Trust label: TRUSTED.
//!
//! The host cannot reach it: stage 1 registers trap by `HCR_EL2.{TVM,TRVM}`, FP by `CPTR_EL2.TFP`, `CSSELR_EL1` by
//! `HCR_EL2.TID2`, debug registers by `MDCR_EL2.TDA`, the rest are EL2 registers.

use bulkhead_core::addr::{FRAME_SHIFT, Frame, VmId};
use bulkhead_core::hardware::Hardware;
use bulkhead_core::owner::RunState;
use bulkhead_core::vcpu::context::{ResidentRegisters, VcpuContext};
use bulkhead_core::vcpu::{debug, run};
use bulkhead_core::vm::Field;
use core::ptr::with_exposed_provenance_mut;

use crate::cpu::CPTR_TFP;
use crate::percpu::HostContext;
use crate::statics::CONFIG;
use crate::sysreg::isb;
use crate::{Machine, cache, gic, layout, registers, tlb};

unsafe extern "C" {
    fn bulkhead_fp_save(to: *mut ResidentRegisters);
    fn bulkhead_fp_load(from: *const ResidentRegisters);
}

/// The context frame as memory of the engine.
#[inline(always)]
#[must_use]
pub fn vcpu_pointer(frame: Frame) -> *mut VcpuContext {
    let address = CONFIG.ram_base().wrapping_add(frame.0 << FRAME_SHIFT);
    with_exposed_provenance_mut(layout::RAM.wrapping_add(address) as usize)
}

/// The vCPU that is loaded on this CPU.
#[inline(always)]
#[must_use]
pub fn loaded(host: &HostContext) -> Option<Frame> {
    host.loaded.get().checked_sub(1).map(Frame)
}

/// Unloads the vCPU that is loaded, if any, and gives its claim back in state `run`.
///
/// # Safety
/// The host is the domain that runs on this CPU, or is about to be entered without saving the vCPU's EL1 registers.
pub unsafe fn unload(host: &HostContext, run: RunState) {
    let Some(frame) = loaded(host) else { return };
    // SAFETY: this CPU holds the claim on the frame, so nobody else accesses it.
    unsafe { save(host, &mut *vcpu_pointer(frame)) };
    host.loaded.set(0);
    run::release(Machine, frame, run);
}

/// Loads the vCPU in `frame`, which this CPU has just claimed; nothing is loaded.
///
/// # Safety
/// This CPU holds the claim on the frame.
pub unsafe fn load(host: &HostContext, frame: Frame) {
    // SAFETY: the claim excludes every other access (caller).
    let vcpu = unsafe { &*vcpu_pointer(frame) };
    let resident = &vcpu.resident;
    // SAFETY: these registers are not used at EL2; the host, which runs when this CPU leaves EL2 without entering
    // the vCPU, has no access to them.
    unsafe {
        registers::load_resident(&resident.system);
        msr!("CNTVOFF_EL2", Machine.vm_word(VmId(vcpu.vm), Field::COUNTER_OFFSET));
    }
    debug::load(Machine, vcpu);
    gic::set_timer_list_register(resident.timer_lr);
    if resident.timer_active != 0 {
        gic::set_timer_active(host.cpu.get());
    }
    host.vm_cptr.set(host.vm_cptr.get() | CPTR_TFP);
    forget_sibling(host, vcpu);
    host.loaded.set(frame.0 + 1);
}

/// vCPUs of one VM share a VMID but may use other stage 1 tables under the same ASID: when another one of the VM ran
/// on this CPU, what it left in the TLB and the instruction cache goes.
fn forget_sibling(host: &HostContext, vcpu: &VcpuContext) {
    let Some(last) = host.last_vcpu.get(vcpu.vm as usize) else { return };
    if last.get() != vcpu.index + 1 {
        tlb::invalidate_vm_stage1_local(vcpu.vttbr);
        cache::invalidate_instructions_local();
        last.set(vcpu.index + 1);
    }
}

fn save(host: &HostContext, vcpu: &mut VcpuContext) {
    let resident = &mut vcpu.resident;
    registers::save_resident(&mut resident.system);
    resident.timer_lr = gic::timer_list_register();
    resident.timer_active = u64::from(gic::take_timer_active(host.cpu.get()));
    gic::set_timer_list_register(0);
    if host.vm_cptr.get() & CPTR_TFP == 0 {
        with_fp(host, || {
            // SAFETY: the FP registers are this vCPU's and FP access is open; only `resident` is written.
            unsafe { bulkhead_fp_save(resident) }
        });
        host.vm_cptr.set(host.vm_cptr.get() | CPTR_TFP);
    }
}

/// Gives the loaded vCPU, which has just trapped on its first FP instruction since it was loaded, its FP registers.
pub fn open_fp(host: &HostContext, vcpu: &VcpuContext) {
    with_fp(host, || {
        // SAFETY: FP access is open and nobody's registers are lost: the last owner's were saved when it was unloaded.
        unsafe { bulkhead_fp_load(&raw const vcpu.resident) }
    });
    let cptr = host.vm_cptr.get() & !CPTR_TFP;
    host.vm_cptr.set(cptr);
    // SAFETY: only the trap of FP instructions changes; the value is the one that `enter_vm` writes from now on.
    unsafe { msr!("CPTR_EL2", cptr) };
}

/// Runs `operation` with the FP trap off.
fn with_fp(host: &HostContext, operation: impl FnOnce()) {
    let before = mrs!("CPTR_EL2");
    // SAFETY: EL2 code is built without FP; only `operation` uses it.
    unsafe { msr!("CPTR_EL2", host.host_cptr.get() & !CPTR_TFP) };
    isb();
    operation();
    // SAFETY: restores the value.
    unsafe { msr!("CPTR_EL2", before) };
    isb();
}
