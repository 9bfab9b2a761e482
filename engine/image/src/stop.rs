//! Stops every CPU for good: an engine bug, or the machine's end. Trust label: TRUSTED.
//!
//! The stage 2 roots of the host and of all VMs are emptied and every TLB invalidated, so whatever runs at EL1 faults
//! into EL2 and parks: the host at its next instruction, a VM by an exit to the host or where its fault would not make
//! it leave. A CPU that sleeps at EL1 parks when it wakes.

use core::sync::atomic::{AtomicBool, Ordering};

use bulkhead_abi::{CPUS_MAX, VM_SLOTS};
use bulkhead_arch::statics::{CONFIG, VMS};
use bulkhead_arch::{layout, percpu};
use bulkhead_core::vm::{Field, State};

use crate::host_stage2::HOST_ROOT;
use crate::psci;
use crate::tables::PAGE;

static STOPPED: AtomicBool = AtomicBool::new(false);
static PARKED: [AtomicBool; CPUS_MAX] = [const { AtomicBool::new(false) }; CPUS_MAX];

/// Stops the executing CPU.
#[inline(never)]
pub fn park() -> ! {
    loop {
        // SAFETY: waits; wakes up only to wait again.
        unsafe { core::arch::asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}

/// Stops the executing CPU, which is the host's, if all shall stop. Called where the host faults, and where a VM
/// could fault for ever.
pub fn park_if_stopped() {
    if STOPPED.load(Ordering::Acquire) {
        PARKED[percpu::current().cpu.get() as usize].store(true, Ordering::Release);
        park();
    }
}

/// Makes sure that nothing runs below EL2 any more.
pub fn everybody() {
    STOPPED.store(true, Ordering::Release);
    empty(HOST_ROOT.address());
    for record in &VMS {
        let word = |field: Field| record[field.0 as usize].load(Ordering::Relaxed);
        let root = word(Field::ROOT);
        if word(Field::STATE) != State::FREE.0 && root < CONFIG.frames() {
            empty(layout::RAM + CONFIG.ram_base() + root * PAGE);
        }
    }
    const { assert!(VMS.len() == VM_SLOTS) };
    // SAFETY: only makes CPUs walk tables again.
    unsafe { core::arch::asm!("dsb ishst", "tlbi alle1is", "dsb ish", options(nostack, preserves_flags)) };
}

fn empty(table: u64) {
    for index in 0..512 {
        // SAFETY: a stage 2 root table, mapped; after this nothing runs below EL2.
        unsafe { ((table + index * 8) as *mut u64).write_volatile(0) };
    }
}

/// Whether every CPU that is on, but for the executing one, has parked; after [`everybody`].
pub fn all_parked() -> bool {
    let here = percpu::current().cpu.get();
    let mut others = (0..CONFIG.cpus()).filter(|cpu| *cpu != here && psci::is_on(*cpu));
    others.all(|cpu| PARKED[cpu as usize].load(Ordering::Acquire))
}
