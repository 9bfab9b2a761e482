//! GICv3: the CPU interface at EL2, list registers, PPI 25 and PPI 27. Trust label: TRUSTED.
//!
//! Source: Arm IHI 0069 (GIC architecture v3), chapters 9 (virtual interrupts) and 12 (registers). The host owns the
//! distributor and the physical CPU interface while it runs; the engine touches only the two PPIs that serve VMs:
//! 25 (maintenance) and 27 (virtual timer).

use core::ptr::with_exposed_provenance_mut;

use crate::layout;
use crate::percpu;
use crate::sysreg::{dsb_sy, isb};

/// Virtual timer.
const TIMER: u64 = 27;
const MAINTENANCE: u64 = 25;
const PRIORITY: u8 = 0xa0;
const FIRST_SPI: u64 = 32;
const FIRST_SPECIAL: u64 = 1020;

const GICR_WAKER: u64 = 0x14;
const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
/// SGI_base frame of a redistributor.
const SGI_BASE: u64 = 0x1_0000;
const IGROUPR0: u64 = SGI_BASE + 0x80;
const ISENABLER0: u64 = SGI_BASE + 0x100;
const ISPENDR0: u64 = SGI_BASE + 0x200;
const ISACTIVER0: u64 = SGI_BASE + 0x300;
const ICACTIVER0: u64 = SGI_BASE + 0x380;
const IPRIORITYR: u64 = SGI_BASE + 0x400;
const GICD_ISPENDR: u64 = 0x200;

/// `ICC_SRE_EL2`: SRE, DFB, DIB, Enable (EL1 may use the system registers).
const SRE_EL2: u64 = 0xf;
/// `ICC_SRE_EL1`: SRE, DFB, DIB.
const SRE_EL1: u64 = 7;
/// `ICC_CTLR_EL1.EOImode`: EOIR drops the priority, DIR deactivates.
const EOI_MODE: u64 = 1 << 1;
/// `ICH_HCR_EL2.En`.
const ICH_ENABLE: u64 = 1;
/// `ICH_HCR_EL2.UIE`.
const ICH_UNDERFLOW: u64 = 1 << 1;
/// `ICH_HCR_EL2.NPIE`.
const ICH_NO_PENDING: u64 = 1 << 3;

#[inline(always)]
fn redistributor(cpu: u64, offset: u64) -> usize {
    (layout::GICR + cpu * layout::GICR_STRIDE + offset) as usize
}

#[inline(always)]
fn read32(address: usize) -> u32 {
    // SAFETY: addresses come from the GIC windows that boot maps as device memory; GIC registers are 32-bit readable.
    unsafe { with_exposed_provenance_mut::<u32>(address).read_volatile() }
}

#[inline(always)]
fn write32(address: usize, value: u32) {
    // SAFETY: as in `read32`; the registers written here change interrupt state only, never memory.
    unsafe { with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}

/// Refuses a virtual CPU interface with fewer list registers than the engine uses, or with more active priority
/// registers than it keeps. Turns the system register interface of EL2 on.
///
/// # Errors
/// What is missing.
pub fn check() -> Result<(), &'static str> {
    // SAFETY: memory-mapped access to the CPU interface is not used by anybody.
    unsafe { msr!("ICC_SRE_EL2", SRE_EL2) };
    isb();
    let features = mrs!("ICH_VTR_EL2");
    let (last_list_register, preemption_bits) = (features & 0x1f, (features >> 26 & 7) + 1);
    if last_list_register < 3 {
        return Err("fewer than 4 list registers (ICH_VTR_EL2.ListRegs)");
    }
    if preemption_bits > 5 {
        return Err("more than 5 preemption bits (ICH_VTR_EL2.PREbits)");
    }
    Ok(())
}

/// Wakes the redistributor of this CPU (IHI 0069, 11.1). False if it does not wake.
#[must_use]
pub fn wake_redistributor(cpu: u64) -> bool {
    const TRIES: u32 = 1_000_000;
    let waker = redistributor(cpu, GICR_WAKER);
    write32(waker, read32(waker) & !WAKER_PROCESSOR_SLEEP);
    for _ in 0..TRIES {
        if read32(waker) & WAKER_CHILDREN_ASLEEP == 0 {
            return true;
        }
    }
    false
}

/// Puts PPI 25 and PPI 27 of this CPU into group 1 with the engine's priority and enables them.
pub fn enable_private_interrupts(cpu: u64) {
    let both = 1 << MAINTENANCE | 1 << TIMER;
    for intid in [MAINTENANCE, TIMER] {
        let address = redistributor(cpu, IPRIORITYR + intid);
        // SAFETY: GICR_IPRIORITYR is byte-accessible (IHI 0069, 12.11); mapped as in `read32`.
        unsafe { with_exposed_provenance_mut::<u8>(address).write_volatile(PRIORITY) };
    }
    let group = redistributor(cpu, IGROUPR0);
    write32(group, read32(group) | both);
    write32(redistributor(cpu, ICACTIVER0), both);
    write32(redistributor(cpu, ISENABLER0), both);
    dsb_sy();
}

/// Writes every GIC system register of this CPU that EL1 cannot or must not find as firmware left it.
pub fn init_cpu_interface() {
    // SAFETY: EL2 owns the CPU interface; no interrupt is taken at EL2 (DAIF is masked throughout).
    unsafe {
        msr!("ICC_SRE_EL2", SRE_EL2);
        core::arch::asm!("isb", options(nostack, preserves_flags));
        msr!("ICC_SRE_EL1", SRE_EL1);
        core::arch::asm!("isb", options(nostack, preserves_flags));
        msr!("ICC_CTLR_EL1", EOI_MODE);
        msr!("ICC_PMR_EL1", 0u64);
        msr!("ICC_BPR0_EL1", 0u64);
        msr!("ICC_BPR1_EL1", 0u64);
        msr!("ICC_IGRPEN0_EL1", 0u64);
        msr!("ICC_IGRPEN1_EL1", 0u64);
        msr!("ICC_AP0R0_EL1", 0u64);
        msr!("ICC_AP1R0_EL1", 0u64);
        msr!("ICH_HCR_EL2", 0u64);
        msr!("ICH_VMCR_EL2", 0u64);
        msr!("ICH_AP0R0_EL2", 0u64);
        msr!("ICH_AP1R0_EL2", 0u64);
    }
    set_list_registers([0; 3]);
    set_timer_list_register(0);
    isb();
}

/// Sends every SGI to all other CPUs: one that sleeps at EL1 wakes if it has any of them enabled.
pub fn wake_others() {
    const ALL_BUT_SELF: u64 = 1 << 40;
    for intid in 0..16 {
        // SAFETY: ICC_SGI1R_EL1 makes interrupts pending elsewhere, which changes nothing of this CPU.
        unsafe { msr!("S3_0_C12_C11_5", ALL_BUT_SELF | intid << 24) };
    }
    isb();
}

/// INTID of the highest-priority pending group 1 interrupt; 1020 and up: none.
#[inline(always)]
#[must_use]
pub fn pending() -> u64 {
    mrs!("ICC_HPPIR1_EL1") & 0xff_ffff
}

/// Takes the virtual timer's interrupt: acknowledge, drop its priority, leave it active for the VM to deactivate.
/// When another interrupt has overtaken it, that one is made pending again for its owner.
#[inline(always)]
pub fn acknowledge_timer() {
    let control = mrs!("ICC_CTLR_EL1") | EOI_MODE;
    // SAFETY: EOImode 1 (the host may have cleared it) makes the write of EOIR a mere priority drop.
    unsafe { msr!("ICC_CTLR_EL1", control) };
    isb();
    let intid = mrs!("ICC_IAR1_EL1") & 0xff_ffff;
    if intid >= FIRST_SPECIAL {
        return;
    }
    // SAFETY: the INTID has just been acknowledged on this CPU.
    unsafe { msr!("ICC_EOIR1_EL1", intid) };
    if intid != TIMER {
        return_interrupt(intid);
    }
}

#[cold]
fn return_interrupt(intid: u64) {
    // SAFETY: the INTID is active on this CPU, acknowledged a moment ago.
    unsafe { msr!("ICC_DIR_EL1", intid) };
    isb();
    let (register, bit) = (intid / 32 * 4, 1u32 << (intid % 32));
    if intid < FIRST_SPI {
        write32(redistributor(percpu::current().cpu.get(), ISPENDR0), bit);
    } else {
        write32((layout::GICD + GICD_ISPENDR + register) as usize, bit);
    }
    dsb_sy();
}

/// Turns the virtual CPU interface on for a VM, with the maintenance conditions that the host asks for.
#[inline(always)]
pub fn enable_virtual(underflow: bool, no_pending: bool) {
    let underflow = if underflow { ICH_UNDERFLOW } else { 0 };
    let no_pending = if no_pending { ICH_NO_PENDING } else { 0 };
    // SAFETY: affects the virtual CPU interface and PPI 25 only.
    unsafe { msr!("ICH_HCR_EL2", ICH_ENABLE | underflow | no_pending) };
}

/// Turns the virtual CPU interface off: no maintenance interrupt reaches the host.
#[inline(always)]
pub fn disable_virtual() {
    // SAFETY: as in `enable_virtual`.
    unsafe { msr!("ICH_HCR_EL2", 0u64) };
}

/// Maintenance conditions that hold (`ICH_MISR_EL2`).
#[inline(always)]
#[must_use]
pub fn maintenance() -> u64 {
    mrs!("ICH_MISR_EL2")
}

/// Writes the three list registers that the host fills.
#[inline(always)]
pub fn set_list_registers(lists: [u64; 3]) {
    // SAFETY: core has checked the values; list registers affect the virtual CPU interface only.
    unsafe {
        msr!("ICH_LR0_EL2", lists[0]);
        msr!("ICH_LR1_EL2", lists[1]);
        msr!("ICH_LR2_EL2", lists[2]);
    }
}

/// Reads the three list registers that the host fills.
#[inline(always)]
#[must_use]
pub fn list_registers() -> [u64; 3] {
    [mrs!("ICH_LR0_EL2"), mrs!("ICH_LR1_EL2"), mrs!("ICH_LR2_EL2")]
}

/// Writes the list register kept for the virtual timer.
#[inline(always)]
pub fn set_timer_list_register(value: u64) {
    // SAFETY: as in `set_list_registers`; the only hardware link is to PPI 27, which is the loaded vCPU's.
    unsafe { msr!("ICH_LR3_EL2", value) };
}

/// Reads the list register kept for the virtual timer.
#[inline(always)]
#[must_use]
pub fn timer_list_register() -> u64 {
    mrs!("ICH_LR3_EL2")
}

/// Takes the active state of PPI 27 away from this CPU and returns whether it was set.
pub fn take_timer_active(cpu: u64) -> bool {
    let bit = 1 << TIMER;
    let active = read32(redistributor(cpu, ISACTIVER0)) & bit != 0;
    if active {
        write32(redistributor(cpu, ICACTIVER0), bit);
        settle(cpu);
    }
    active
}

/// Makes PPI 27 active on this CPU, as it was where the vCPU ran before.
pub fn set_timer_active(cpu: u64) {
    write32(redistributor(cpu, ISACTIVER0), 1 << TIMER);
    settle(cpu);
}

/// The write has reached the redistributor once a read of the same frame has returned.
fn settle(cpu: u64) {
    let _ = read32(redistributor(cpu, ISACTIVER0));
    dsb_sy();
}
