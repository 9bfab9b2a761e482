//! TLB maintenance for stage 2. Trust label: TRUSTED.
//!
//! Source: Arm ARM DDI 0487, D8.13 (TLB maintenance), D8.14.1 (break-before-make). The order after a leaf was
//! cleared: the store is made visible to the walkers, stage 2 entries of the address go, that is completed, then the
//! combined stage 1 and 2 entries of the VMID go (they are not found by IPA), that is completed, then a context
//! synchronisation. Only after that may the frame's content or owner change.
//!
//! The maintenance instructions act on the VMID in `VTTBR_EL2`. Calls run with the host's (VMID 0), exits of a VM with
//! the VM's; another one is put in place around the instruction together with its `VTCR_EL2`.

use bulkhead_core::addr::VmId;

use crate::statics::CONFIG;
use crate::sysreg::{dsb_ish, dsb_ishst, isb};

/// VMID field of `VTTBR_EL2`; the host's VMID is 0, a VM's is its slot + 1.
pub const VMID_SHIFT: u32 = 48;

/// `VTTBR_EL2` of a VM whose level 1 table is at physical address `root`.
#[inline(always)]
#[must_use]
pub const fn vm_vttbr(vm: VmId, root: u64) -> u64 {
    (vm.0 + 1) << VMID_SHIFT | root
}

/// Runs `operation` with a VM's translation registers in place of those of the domain that came to EL2.
#[inline(always)]
fn with_vm<R>(vttbr: u64, operation: impl FnOnce() -> R) -> R {
    with_translation(CONFIG.vm_vtcr(), vttbr, operation)
}

#[inline(always)]
fn with_translation<R>(vtcr: u64, vttbr: u64, operation: impl FnOnce() -> R) -> R {
    let before = (mrs!("VTCR_EL2"), mrs!("VTTBR_EL2"));
    // SAFETY: nothing runs at EL1 before the old values are back; EL2's own translation does not use these.
    unsafe {
        msr!("VTCR_EL2", vtcr);
        msr!("VTTBR_EL2", vttbr);
    }
    isb();
    let result = operation();
    // SAFETY: as above; these are the values that the domain runs with.
    unsafe {
        msr!("VTCR_EL2", before.0);
        msr!("VTTBR_EL2", before.1);
    }
    isb();
    result
}

/// Invalidates the page at `ipa` for the current VMID on all CPUs.
#[inline(always)]
fn invalidate_current_page(ipa: u64) {
    // SAFETY: TLB maintenance only makes later accesses walk the tables again.
    unsafe { core::arch::asm!("tlbi ipas2e1is, {}", in(reg) ipa >> 12, options(nostack, preserves_flags)) }
    dsb_ish();
    // SAFETY: as above.
    unsafe { core::arch::asm!("tlbi vmalle1is", options(nostack, preserves_flags)) }
    dsb_ish();
    isb();
}

/// After an entry for `ipa` was cleared in a table of the VM with this `VTTBR_EL2`.
#[inline(always)]
pub fn invalidate_vm_page(vttbr: u64, ipa: u64) {
    dsb_ishst();
    with_vm(vttbr, || invalidate_current_page(ipa));
}

/// After an entry for physical address `address` was cleared in the host's tables.
#[inline(always)]
pub fn invalidate_host_page(address: u64) {
    dsb_ishst();
    invalidate_current_page(address);
}

/// The same at a VM's exit, when the VM's registers are in place.
#[inline(always)]
pub fn invalidate_host_page_from_vm(address: u64) {
    dsb_ishst();
    with_translation(CONFIG.host_vtcr(), CONFIG.host_vttbr(), || invalidate_current_page(address));
}

/// Everything cached for a VM's VMID, at both stages, on all CPUs.
#[inline(always)]
pub fn invalidate_vm(vttbr: u64) {
    dsb_ishst();
    with_vm(vttbr, || {
        // SAFETY: TLB maintenance only makes later accesses walk the tables again.
        unsafe { core::arch::asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) }
        dsb_ish();
        isb();
    });
}

/// Stage 1 entries of a VM's VMID on this CPU: another vCPU of the same VM, with its own stage 1 tables, ran here.
#[inline(always)]
pub fn invalidate_vm_stage1_local(vttbr: u64) {
    with_vm(vttbr, || {
        // SAFETY: TLB maintenance only makes later accesses walk the tables again.
        unsafe { core::arch::asm!("tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) }
    });
}
