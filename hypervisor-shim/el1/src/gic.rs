//! The host's part of the GICv3: distributor, its own SGI_base frames, CPU interface (trust label: UNTRUSTED).
//!
//! Source: Arm IHI 0069H. The redistributors' RD_base frames belong to the engine, which has woken them and
//! enabled the PPIs 25 and 27 for itself. `ICC_CTLR_EL1.EOImode` is 1: ending an interrupt takes a priority
//! drop (ICC_EOIR1_EL1) and a deactivation (ICC_DIR_EL1).

use crate::cpu;
use bulkhead_abi::BootInfo;
use core::arch::asm;

/// The SGI with which CPUs wake each other.
pub const KICK: u32 = 0;

const GICD_CTLR: u64 = 0x0000;
const GICD_IROUTER: u64 = 0x6000;
const IGROUPR: u64 = 0x0080;
const ISENABLER: u64 = 0x0100;
const IPRIORITYR: u64 = 0x0400;
const SGI_BASE: u64 = 0x1_0000;
const REDISTRIBUTOR: u64 = 0x2_0000;
/// Priority of the host's interrupts, and the mask that lets them through.
const PRIORITY: u8 = 0xa0;
const PRIORITY_MASK: u64 = 0xf0;
/// First of the special interrupt ids; 1023 means that none is pending.
const SPECIAL: u32 = 1020;

fn read(address: u64) -> u32 {
    // SAFETY: callers pass registers of the GIC frames that the engine maps for the host.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address as usize).read_volatile() }
}

fn write(address: u64, value: u32) {
    // SAFETY: callers pass registers of the GIC frames that the engine maps for the host.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address as usize).write_volatile(value) }
}

fn write_byte(address: u64, value: u8) {
    // SAFETY: callers pass byte-accessible registers of the GIC frames that the engine maps for the host.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address as usize).write_volatile(value) }
}

fn set_bit(base: u64, bit: u32) {
    let address = base + u64::from(bit / 32) * 4;
    write(address, read(address) | 1 << (bit % 32));
}

/// Enables the distributor (affinity routing, group 1); by the boot CPU, once.
pub fn init_distributor(boot: &BootInfo) {
    const ENABLE_GROUP_1_AND_AFFINITY: u32 = 1 << 4 | 1 << 1 | 1 << 0;
    write(boot.gicd + GICD_CTLR, read(boot.gicd + GICD_CTLR) | ENABLE_GROUP_1_AND_AFFINITY);
}

/// Sets up this CPU's interface and enables its kick SGI and timer PPI.
pub fn init_cpu(boot: &BootInfo) {
    let sgi_base = boot.gicr + cpu::engine_index(cpu::index()) as u64 * REDISTRIBUTOR + SGI_BASE;
    for intid in [KICK, cpu::TIMER_INTID] {
        set_bit(sgi_base + IGROUPR, intid);
        write_byte(sgi_base + IPRIORITYR + u64::from(intid), PRIORITY);
        write(sgi_base + ISENABLER, 1 << intid);
    }
    const EOI_MODE: u64 = 1 << 1;
    // SAFETY: configures this CPU's own interrupt interface, which the engine gives to the host.
    unsafe {
        asm!(
            "msr icc_sre_el1, {sre}", "isb",
            "msr icc_pmr_el1, {mask}", "msr icc_bpr1_el1, xzr",
            "msr icc_ctlr_el1, {mode}", "msr icc_igrpen1_el1, {one}", "isb",
            sre = in(reg) 7_u64, mask = in(reg) PRIORITY_MASK, mode = in(reg) EOI_MODE, one = in(reg) 1_u64,
            options(nostack),
        );
    }
}

/// Enables the shared interrupt `intid` and routes it to CPU `cpu`.
pub fn enable_shared(boot: &BootInfo, intid: u32, cpu: usize) {
    let route = boot.gicd + GICD_IROUTER + u64::from(intid) * 8;
    let affinity = cpu::affinity_of(boot, cpu);
    set_bit(boot.gicd + IGROUPR, intid);
    write_byte(boot.gicd + IPRIORITYR + u64::from(intid), PRIORITY);
    write(route, affinity as u32);
    write(route + 4, (affinity >> 32) as u32);
    write(boot.gicd + ISENABLER + u64::from(intid / 32) * 4, 1 << (intid % 32));
}

/// Takes every pending interrupt; `handle` must quiet the source of a level-sensitive one.
pub fn service(mut handle: impl FnMut(u32)) {
    loop {
        let intid: u64;
        // SAFETY: acknowledges the highest pending interrupt of this CPU.
        unsafe { asm!("mrs {}, icc_iar1_el1", "dsb sy", out(reg) intid, options(nostack)) };
        let number = (intid & 0xff_ffff) as u32;
        if number >= SPECIAL {
            return;
        }
        if number == cpu::TIMER_INTID {
            cpu::set_timer(bulkhead_abi::NO_DEADLINE);
        } else {
            handle(number);
        }
        // SAFETY: ends the interrupt that was acknowledged above.
        unsafe {
            asm!("dsb sy", "msr icc_eoir1_el1, {0}", "isb", "msr icc_dir_el1, {0}", "isb", in(reg) intid, options(nostack));
        }
    }
}

/// Sends the kick SGI to CPU `cpu`.
pub fn kick(boot: &BootInfo, cpu: usize) {
    let affinity = cpu::affinity_of(boot, cpu);
    let field = |shift: u32| affinity >> shift & 0xff;
    let target = 1 << (field(0) % 16) | (field(0) / 16) << 44;
    let value = field(32) << 48 | field(16) << 32 | field(8) << 16 | u64::from(KICK) << 24 | target;
    // SAFETY: generates an interrupt that every CPU handles; the barrier publishes what it should see.
    unsafe { asm!("dsb sy", "msr icc_sgi1r_el1, {}", "isb", in(reg) value, options(nostack)) };
}
