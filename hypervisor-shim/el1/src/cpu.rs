//! The CPU: index, sleep, counter, timer, starting others (trust label: UNTRUSTED).
//!
//! Sources: Arm ARM DDI 0487 D11 (generic timer), PSCI Arm DEN 0022 5.6 (CPU_ON).

use crate::{boot, hvc};
use bulkhead_abi::{BootInfo, CPUS_MAX, standard};
use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The affinity fields of `MPIDR_EL1`.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Interrupt id of the EL1 physical timer, a PPI.
pub const TIMER_INTID: u32 = 30;

/// Index of this CPU: 0 on the boot CPU.
#[must_use]
pub fn index() -> usize {
    let index: usize;
    // SAFETY: reads a register that the runtime sets on entry.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) index, options(nomem, nostack)) };
    index.min(CPUS_MAX - 1)
}

/// Affinity fields of this CPU's `MPIDR_EL1`.
#[must_use]
pub fn affinity() -> u64 {
    let mpidr: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack)) };
    mpidr & AFFINITY
}

/// Affinity of CPU `cpu`. CPUs are numbered as the engine lists them, with the boot CPU swapped to index 0.
#[must_use]
pub fn affinity_of(boot: &BootInfo, cpu: usize) -> u64 {
    boot.mpidr[engine_index(cpu)]
}

/// Number of CPU `cpu` in the engine's list, which is also the order of the redistributors.
#[must_use]
pub fn engine_index(cpu: usize) -> usize {
    let boot_index = BOOT_INDEX.load(Ordering::Relaxed);
    match cpu {
        0 => boot_index,
        _ if cpu == boot_index => 0,
        _ => cpu,
    }
}

/// The boot CPU's number in the engine's list, found out by the boot CPU itself.
static BOOT_INDEX: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn init(boot: &BootInfo) {
    let own = affinity();
    let found = boot.mpidr.iter().take(boot.cpus as usize).position(|mpidr| mpidr & AFFINITY == own);
    BOOT_INDEX.store(found.expect("this CPU is in the list"), Ordering::Relaxed);
}

/// Sleeps until an interrupt is pending; returns at once if one is (interrupts stay masked).
pub fn wait_for_interrupt() {
    // SAFETY: changes no state; the barrier makes earlier stores visible to the CPU that will wake us.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

/// Lets another CPU go on while this one waits for it.
pub fn relax() {
    // SAFETY: a hint without effect on state.
    unsafe { asm!("yield", options(nomem, nostack)) };
}

/// The physical counter.
#[must_use]
pub fn now() -> u64 {
    let ticks: u64;
    // SAFETY: reads the counter; the barrier keeps it in program order (Arm ARM D11.2.2).
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks, options(nostack)) };
    ticks
}

/// Frequency of the counter, Hz.
#[must_use]
pub fn frequency() -> u64 {
    boot::info().map_or(1, |boot| boot.counter_frequency.max(1))
}

/// Ticks in `microseconds`.
#[must_use]
pub fn ticks(microseconds: u64) -> u64 {
    frequency().saturating_mul(microseconds) / 1_000_000
}

/// Arms this CPU's timer for the counter value `deadline`; [`bulkhead_abi::NO_DEADLINE`] turns it off.
pub fn set_timer(deadline: u64) {
    let control = u64::from(deadline != bulkhead_abi::NO_DEADLINE);
    // SAFETY: writes this CPU's own timer, which nothing else uses.
    unsafe {
        asm!("msr cntp_cval_el0, {}", "msr cntp_ctl_el0, {}", "isb", in(reg) deadline, in(reg) control, options(nostack));
    }
}

/// Starts CPU `cpu` by PSCI CPU_ON. It enters the program's `secondary`.
///
/// # Errors
/// The PSCI error code (a negative number, as x0 holds it).
pub fn start(boot: &BootInfo, cpu: usize) -> Result<(), u64> {
    let mut registers = [0; 18];
    registers[0] = standard::PSCI_CPU_ON;
    registers[1] = affinity_of(boot, cpu);
    registers[2] = boot::secondary_entry();
    registers[3] = cpu as u64;
    hvc::raw(&mut registers);
    if registers[0] == 0 { Ok(()) } else { Err(registers[0]) }
}

/// Turns this CPU off by PSCI CPU_OFF. Returns the status if the engine refuses.
pub fn off() -> u64 {
    let mut registers = [0; 18];
    registers[0] = standard::PSCI_CPU_OFF;
    hvc::raw(&mut registers);
    registers[0]
}

/// Whether CPU `cpu` is off, by PSCI AFFINITY_INFO.
#[must_use]
pub fn is_off(boot: &BootInfo, cpu: usize) -> bool {
    const OFF: u64 = 1;
    let mut registers = [0; 18];
    registers[0] = standard::PSCI_AFFINITY_INFO;
    registers[1] = affinity_of(boot, cpu);
    hvc::raw(&mut registers);
    registers[0] == OFF
}

/// Turns the machine off by PSCI SYSTEM_OFF. Returns the status if the engine refuses.
pub fn system_off() -> u64 {
    let mut registers = [0; 18];
    registers[0] = standard::PSCI_SYSTEM_OFF;
    hvc::raw(&mut registers);
    registers[0]
}
