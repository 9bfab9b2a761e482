//! Leaves nothing of any VM in RAM when the machine ends. Trust label: TRUSTED.

use bulkhead_arch::statics::CONFIG;
use bulkhead_arch::{Machine, cache, gic, layout};
use bulkhead_core::addr::{Block, Frame, TABLE_ENTRIES};
use bulkhead_core::hardware::Hardware;
use bulkhead_core::owner::Kind;

use crate::{stop, time};

/// Seconds that CPUs get to park. Those that are at EL2 or in a VM come there within milliseconds; one that has not by
/// then sleeps at EL1 with its interrupts off, and parks when it wakes, without touching a VM's frame or its stack.
const PATIENCE: u64 = 2;

/// Stops all other CPUs and zeroes every frame that is a VM's, cleaned to the point of coherency. The ownership lock
/// is held, and stays so: no frame changes hands.
pub fn all_vms() {
    stop::everybody();
    gic::wake_others();
    let limit = time::now() + PATIENCE * time::frequency();
    while !stop::all_parked() && time::now() < limit {
        core::hint::spin_loop();
    }
    (0..CONFIG.cpus()).for_each(scrub_stack);
    for block in (0..CONFIG.frames() / TABLE_ENTRIES).map(Block) {
        match Machine.block_record(block).kind() {
            Kind::SPLIT => scrub_frames(block.first()),
            Kind::VM_PAGE => Machine.zero_block(block),
            _ => (),
        }
    }
}

/// Zeroes the stack of a CPU that has parked, sleeps at EL1 or is off, or the unused part of this one's: at an exit callee-saved registers still
/// hold the VM's values, and the engine's code keeps them there.
fn scrub_stack(cpu: u64) {
    /// Bytes below the stack pointer that clearing the rest may use.
    const RED_ZONE: u64 = 1024;
    let base = layout::PERCPU + cpu * layout::PERCPU_STRIDE + layout::PERCPU_STACK;
    let end = if cpu == Machine.cpu() { stack_pointer() - RED_ZONE } else { base + layout::STACK_SIZE };
    // SAFETY: boot has mapped the stack; no CPU uses that part of it.
    unsafe {
        core::ptr::write_bytes(base as *mut u8, 0, (end - base) as usize);
        cache::clean_invalidate(base, layout::STACK_SIZE);
    }
}

fn stack_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

fn scrub_frames(first: Frame) {
    for frame in (first.0..first.0 + TABLE_ENTRIES).map(Frame) {
        if matches!(Machine.frame_record(frame).kind(), Kind::VM_PAGE | Kind::VM_TABLE | Kind::VCPU) {
            Machine.zero_frame(frame);
        }
    }
}
