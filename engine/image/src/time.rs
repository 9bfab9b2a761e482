//! The system counter and the marks that boot leaves. Trust label: TRUSTED. Source: Arm ARM DDI 0487, D12.1.

use core::sync::atomic::{AtomicU64, Ordering};

/// Stages of a boot, in order; `stats` kind 2 answers the tick at which each was reached.
#[derive(Clone, Copy)]
pub enum Stage {
    /// First instruction.
    Entry,
    /// Running at the virtual address, with the MMU on.
    MmuOn,
    /// Device tree understood, SMMU closed.
    MachineKnown,
    /// Memory reserved and zeroed.
    MemoryReserved,
    /// Records and host stage 2 complete.
    TablesBuilt,
    /// Host program copied.
    HostLoaded,
    /// About to enter the host for the first time.
    HostEntered,
}

/// Number of stages.
const STAGES: usize = Stage::HostEntered as usize + 1;
static REACHED: [AtomicU64; STAGES] = [const { AtomicU64::new(0) }; STAGES];

/// Ticks of the system counter.
pub fn now() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter; the barrier keeps the read in program order.
    unsafe { core::arch::asm!("isb", "mrs {}, CNTPCT_EL0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// Ticks per second, as firmware says.
pub fn frequency() -> u64 {
    let hertz: u64;
    // SAFETY: reads a register that firmware set.
    unsafe { core::arch::asm!("mrs {}, CNTFRQ_EL0", out(reg) hertz, options(nomem, nostack, preserves_flags)) };
    hertz
}

/// Waits until `done` answers true, at most a second; false if it never did.
pub fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    let deadline = now().wrapping_add(frequency());
    while !done() {
        if now() > deadline {
            return done();
        }
        core::hint::spin_loop();
    }
    true
}

/// Notes that a stage was reached at `ticks`.
pub fn mark(stage: Stage, ticks: u64) {
    REACHED[stage as usize].store(ticks, Ordering::Relaxed);
}

/// The tick at which stage number `index` was reached; None if there is none of that number.
pub fn reached(index: u64) -> Option<u64> {
    let stage = usize::try_from(index).ok().and_then(|index| REACHED.get(index))?;
    Some(stage.load(Ordering::Relaxed))
}
