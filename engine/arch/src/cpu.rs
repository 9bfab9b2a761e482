//! Every EL2 control register, written by the engine on each CPU; nothing is inherited. Trust label: TRUSTED.
//!
//! Source: Arm ARM DDI 0487, D19.2 (each register by name). Who may use what, and why, is `engine/arch/registers/*.toml`;
//! traps and constants derive from it (`registers.rs`), here is what they are combined with.
//! The registers of EL2's own translation (`SCTLR_EL2`, `TCR_EL2`, `MAIR_EL2`, `TTBR0_EL2`) are written by the image's
//! first instructions; then come [`init`] and [`enter_host`].

use core::sync::atomic::{Ordering, fence};

use crate::features::{Optional, physical_bits, physical_range};
use crate::percpu::{HostContext, context, context_address};
use crate::statics::CONFIG;
use crate::sysreg::{dsb_sy, isb};
use crate::{gic, registers, vectors};

/// `MAIR_EL2`: attribute 0 Normal Write-Back (RAM), attribute 1 Device-nGnRE.
pub const MAIR: u64 = 0xff | 0x04 << 8;
/// `SCTLR_EL2`: RES1 bits, M, C, SA, I, WXN.
pub const SCTLR: u64 = 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;

/// Inner shareable, write-back at both levels: SH0, ORGN0, IRGN0 of `VTCR_EL2`.
const WALK_ATTRIBUTES: u64 = 3 << 12 | 1 << 10 | 1 << 8;

/// Affinity fields of this CPU's `MPIDR_EL1`, as PSCI and the device tree write them.
#[must_use]
pub fn affinity() -> u64 {
    const AFF: u64 = 0xff_00ff_ffff;
    mrs!("MPIDR_EL1") & AFF
}

/// `VTCR_EL2` for the host and for VMs; None if the CPU has too few physical address bits for a level 0 start.
#[must_use]
pub fn translation_control() -> Option<(u64, u64)> {
    if physical_bits() < 44 { None } else { Some((host_vtcr(), vm_vtcr())) }
}

/// `VTCR_EL2` of the host: as many bits as there are physical ones, start at level 0, 8-bit VMIDs.
fn host_vtcr() -> u64 {
    const START_LEVEL_0: u64 = 2 << 6;
    1 << 31 | physical_range() << 16 | WALK_ATTRIBUTES | START_LEVEL_0 | (64 - physical_bits())
}

/// `VTCR_EL2` of VMs: 39 bits, start at level 1.
fn vm_vtcr() -> u64 {
    const START_LEVEL_1: u64 = 1 << 6;
    1 << 31 | physical_range() << 16 | WALK_ATTRIBUTES | START_LEVEL_1 | (64 - bulkhead_abi::IPA_BITS as u64)
}

/// Bits of `HCR_EL2`.
mod hcr {
    pub const VM: u64 = 1;
    pub const SWIO: u64 = 1 << 1;
    pub const PTW: u64 = 1 << 2;
    pub const FMO: u64 = 1 << 3;
    pub const IMO: u64 = 1 << 4;
    pub const AMO: u64 = 1 << 5;
    pub const FB: u64 = 1 << 9;
    pub const BSU_INNER: u64 = 1 << 10;
    pub const DC: u64 = 1 << 12;
    pub const TWI: u64 = 1 << 13;
    pub const TWE: u64 = 1 << 14;
    pub const TSC: u64 = 1 << 19;
    pub const RW: u64 = 1 << 31;

    /// Both: AArch64, stage 2, SMC traps.
    pub const COMMON: u64 = RW | VM | SWIO | TSC;
}

/// `HCR_EL2` while the host runs: no stage 1 (DC), whose registers trap; interrupts go to EL1.
pub const HOST_HCR: u64 = hcr::COMMON | hcr::DC | registers::HCR_HOST;
/// `HCR_EL2` while a VM runs: interrupts and SErrors exit, WFI and WFE exit, TLB and cache maintenance is broadcast.
pub const VM_HCR: u64 = hcr::COMMON
    | hcr::PTW
    | hcr::FMO
    | hcr::IMO
    | hcr::AMO
    | hcr::FB
    | hcr::BSU_INNER
    | hcr::TWI
    | hcr::TWE
    | registers::HCR_VM;

/// `CPTR_EL2.TFP`.
pub const CPTR_TFP: u64 = 1 << 10;
/// RES1 bits of `CPTR_EL2`: 7:0, 9, 13, and 12, which is TSM where it is none.
const CPTR_RES1: u64 = 0x32ff;
/// `CPTR_EL2` while the host runs.
const HOST_CPTR: u64 = CPTR_RES1 | registers::CPTR_HOST;
/// `CPTR_EL2` while a VM runs that has not used FP since its vCPU was loaded.
const VM_CPTR: u64 = CPTR_RES1 | registers::CPTR_VM | CPTR_TFP;
/// `SCTLR_EL1` while the host runs: RES1 bits, little-endian, MMU off, instruction cache on.
const HOST_SCTLR: u64 = 0x30d0_0800 | 1 << 12;
/// EL1h, DAIF masked.
const HOST_PSTATE: u64 = 0x3c5;

/// Initialises this CPU, which has index `cpu`, after the MMU was turned on and SP was set to
/// the CPU's context address; `statics::CONFIG` holds boot's decisions and the redistributor is awake.
///
/// # Safety
/// The per-CPU area, the record windows and the device window are mapped; no other CPU uses index `cpu`.
pub unsafe fn init(cpu: u64) {
    // SAFETY: the address is this CPU's context, which boot has mapped (caller).
    unsafe { msr!("TPIDR_EL2", context_address(cpu)) };
    vectors::install();
    let host = context(cpu);
    init_context(host, cpu);
    let optional = Optional::detect();
    // SAFETY: EL1 does not run on this CPU yet; each function writes control registers that exist (feature checks).
    unsafe {
        registers::write_constants(&optional);
        init_traps(host, optional.performance_monitors);
        init_identity(host);
        init_timers();
        if optional.performance_monitors {
            stop_counters();
        }
    }
    gic::init_cpu_interface();
    gic::enable_private_interrupts(cpu);
    isb();
    dsb_sy();
}

fn init_context(host: &HostContext, cpu: u64) {
    host.cpu.set(cpu);
    host.mpidr.set(mrs!("MPIDR_EL1"));
    host.loaded.set(0);
    host.host_hcr.set(HOST_HCR);
    host.host_vtcr.set(CONFIG.host_vtcr());
    host.host_cptr.set(HOST_CPTR);
    host.host_cnthctl.set(registers::CNTHCTL_HOST);
    host.host_vttbr.set(CONFIG.host_vttbr());
    host.host_sctlr.set(HOST_SCTLR);
    host.vm_hcr.set(VM_HCR);
    host.vm_vtcr.set(CONFIG.vm_vtcr());
    host.vm_cptr.set(VM_CPTR);
    host.vm_cnthctl.set(registers::CNTHCTL_VM);
}

/// Trap controls and stage 2.
///
/// # Safety
/// EL1 does not run on this CPU yet.
unsafe fn init_traps(host: &HostContext, has_counters: bool) {
    // SAFETY: as above.
    unsafe {
        msr!("HCR_EL2", host.host_hcr.get());
        msr!("VTCR_EL2", host.host_vtcr.get());
        msr!("VTTBR_EL2", host.host_vttbr.get());
        msr!("CPTR_EL2", host.host_cptr.get());
        msr!("MDCR_EL2", mdcr(has_counters));
    }
}

/// `MDCR_EL2`: its traps; no counting at EL2 (HPMD, HCCD). HPMN covers all counters, its reset value.
fn mdcr(has_counters: bool) -> u64 {
    let counters = if has_counters { mrs!("PMCR_EL0") >> 11 & 0x1f } else { 0 };
    counters | registers::MDCR | 1 << 17 | 1 << 23
}

/// Identity of the virtual CPU: a VM sees this CPU's MIDR; its MPIDR is switched.
///
/// # Safety
/// EL1 does not run on this CPU yet.
unsafe fn init_identity(host: &HostContext) {
    let identity = mrs!("MIDR_EL1");
    // SAFETY: as above.
    unsafe {
        msr!("VPIDR_EL2", identity);
        msr!("VMPIDR_EL2", host.mpidr.get());
    }
}

/// Timers off.
///
/// # Safety
/// EL1 does not run on this CPU yet.
unsafe fn init_timers() {
    // SAFETY: as above.
    unsafe {
        msr!("CNTHCTL_EL2", registers::CNTHCTL_HOST);
        msr!("CNTP_CTL_EL0", 0u64);
        msr!("CNTV_CTL_EL0", 0u64);
    }
}

/// No counter counts and none interrupts.
///
/// # Safety
/// The CPU has the performance monitors extension, version 3.
unsafe fn stop_counters() {
    // SAFETY: as above.
    unsafe {
        msr!("PMCR_EL0", 0u64);
        msr!("PMUSERENR_EL0", 0u64);
        msr!("PMCNTENCLR_EL0", 0xffff_ffffu64);
        msr!("PMINTENCLR_EL1", 0xffff_ffffu64);
        msr!("PMOVSCLR_EL0", 0xffff_ffffu64);
    }
}

/// Starts the host on this CPU at physical address `entry`, EL1h, all interrupts masked, x0 = `argument`, every other
/// register zero.
///
/// # Safety
/// [`init`] has run on this CPU; nothing on this CPU's stack is needed any more.
pub unsafe fn enter_host(entry: u64, argument: u64) -> ! {
    let host = crate::percpu::current();
    // SAFETY: the host does not run on this CPU: nobody else uses its saved registers.
    unsafe {
        *host.x.get() = [0; 31];
        (*host.x.get())[0] = argument;
    }
    host.elr.set(entry);
    host.spsr.set(HOST_PSTATE);
    host.sp_el1.set(0);
    host.vbar_el1.set(0);
    host.tpidr_el1.set(0);
    fence(Ordering::SeqCst);
    // SAFETY: the context is complete.
    unsafe { vectors::enter_host(host) }
}
