//! The GIC as the host finds it. Trust label: TRUSTED. Source: Arm GICv3, IHI 0069, 12.9 (GICD), 12.10-12.11 (GICR),
//! 12.19 (GITS).
//!
//! No LPIs: EnableLPIs is checked on every redistributor at boot and again when its CPU starts, PROPBASER and PENDBASER
//! are never written, the ITS is off, and the host cannot reach any of them. All interrupts start in group 1, disabled,
//! at the priority 0xa0.

use bulkhead_abi::CPUS_MAX;
use bulkhead_arch::layout;

use crate::mmio::Registers;
use crate::platform;
use crate::time;

const GICD_CTLR: u64 = 0;
const GICD_TYPER: u64 = 4;
const RWP: u32 = 1 << 31;
/// ARE and group 1, with one security state.
const DISTRIBUTOR_ON: u32 = 0x12;
const IGROUPR: u64 = 0x80;
const ICENABLER: u64 = 0x180;
const IPRIORITYR: u64 = 0x400;
const PRIORITIES: u32 = 0xa0a0_a0a0;

const GICR_CTLR: u64 = 0;
const ENABLE_LPIS: u32 = 1;
const GICR_TYPER: u64 = 8;
const VIRTUAL_LPIS: u32 = 1 << 1;
const LAST: u32 = 1 << 4;
const LPIS_ENABLED: &str = "firmware has enabled LPIs: their tables would be written behind the engine's back";
const SGI_FRAME: u64 = 0x1_0000;

// SAFETY: boot maps the distributor's frame and the redistributors of all CPUs first.
const GICD: Registers = unsafe { Registers::new(layout::GICD) };

fn redistributor(cpu: u64) -> Registers {
    // SAFETY: as for the distributor; `cpu` is the index of a CPU of this machine.
    unsafe { Registers::new(layout::GICR + cpu * layout::GICR_STRIDE) }
}

/// Affinities of the CPUs in the order of their redistributors; each must be one of `known`.
pub fn affinities(cpus: usize, known: &[u64; CPUS_MAX]) -> Result<[u64; CPUS_MAX], &'static str> {
    let mut found = [0; CPUS_MAX];
    for (cpu, place) in (0..).zip(&mut found[..cpus]) {
        if redistributor(cpu).read(GICR_TYPER) & VIRTUAL_LPIS != 0 {
            return Err("the GIC has virtual LPIs (GICv4), whose redistributors are larger: use a GICv3");
        }
        if redistributor(cpu).read(GICR_CTLR) & ENABLE_LPIS != 0 {
            return Err(LPIS_ENABLED);
        }
        if redistributor(cpu).read(GICR_TYPER) & LAST != 0 && cpu + 1 < cpus as u64 {
            return Err("the GIC has fewer redistributors than there are CPUs");
        }
        let packed = u64::from(redistributor(cpu).read(GICR_TYPER + 4));
        let affinity = (packed & 0xff00_0000) << 8 | packed & 0x00ff_ffff;
        if !known[..cpus].contains(&affinity) {
            return Err("a GIC redistributor belongs to no CPU of the device tree");
        }
        *place = affinity;
    }
    Ok(found)
}

/// Puts the distributor into the state that the host expects: affinity routing, group 1 on, nothing enabled.
pub fn start_distributor() -> Result<(), &'static str> {
    let settled = || time::wait_for(|| GICD.read(GICD_CTLR) & RWP == 0);
    GICD.write(GICD_CTLR, 0);
    if !settled() {
        return Err("the GIC distributor does not settle");
    }
    let words = u64::from(GICD.read(GICD_TYPER) & 0x1f) + 1;
    for word in 1..words {
        GICD.write(ICENABLER + 4 * word, u32::MAX);
        GICD.write(IGROUPR + 4 * word, u32::MAX);
        for quarter in 0..8 {
            GICD.write(IPRIORITYR + 32 * word + 4 * quarter, PRIORITIES);
        }
    }
    GICD.write(GICD_CTLR, DISTRIBUTOR_ON);
    if settled() { Ok(()) } else { Err("the GIC distributor does not settle") }
}

/// Turns the interrupt translation service off: it reads no command and writes no table any more.
pub fn close_its() -> Result<(), &'static str> {
    const GITS_CTLR: u64 = 0;
    const QUIESCENT: u32 = 1 << 31;
    // SAFETY: boot maps the page first.
    let its = unsafe { Registers::new(layout::GIC_ITS) };
    its.write(GITS_CTLR, 0);
    if time::wait_for(|| its.read(GITS_CTLR) & QUIESCENT != 0) {
        Ok(())
    } else {
        Err("the GIC's ITS does not turn off")
    }
}

/// Wakes the redistributor of the executing CPU, number `cpu`.
pub fn start_redistributor(cpu: u64) -> Result<(), &'static str> {
    let frame = redistributor(cpu);
    if frame.read(GICR_CTLR) & ENABLE_LPIS != 0 {
        return Err(LPIS_ENABLED);
    }
    if !bulkhead_arch::gic::wake_redistributor(cpu) {
        return Err("a GIC redistributor does not wake");
    }
    let sgi = frame.at(SGI_FRAME);
    sgi.write(ICENABLER, u32::MAX);
    sgi.write(IGROUPR, u32::MAX);
    for quarter in 0..8 {
        sgi.write(IPRIORITYR + 4 * quarter, PRIORITIES);
    }
    Ok(())
}

const _: () = assert!(platform::GICR_SGI.base - platform::GICR_RD.base == SGI_FRAME);
