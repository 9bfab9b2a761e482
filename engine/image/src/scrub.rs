//! Leaves nothing of any VM in RAM when the machine ends. Trust label: TRUSTED.

use bulkhead_arch::statics::CONFIG;
use bulkhead_arch::{Machine, gic};
use bulkhead_core::addr::{Block, Frame, TABLE_ENTRIES};
use bulkhead_core::hardware::Hardware;
use bulkhead_core::owner::Kind;

use crate::{stop, time};

/// Seconds that CPUs get to park. Those that are at EL2 or in a VM come there within microseconds; one that has not by
/// then sleeps at EL1 with its interrupts off, and parks when it wakes, without touching a VM's frame.
const PATIENCE: u64 = 2;

/// Stops all other CPUs and zeroes every frame that is a VM's, cleaned to the point of coherency. The ownership lock
/// is held, and stays so: no frame changes hands.
pub fn all_vms() {
    stop::everybody();
    gic::wake_others();
    let limit = time::now() + PATIENCE * time::frequency();
    while !stop::vcpus_are_idle() && time::now() < limit {
        core::hint::spin_loop();
    }
    for block in (0..CONFIG.frames() / TABLE_ENTRIES).map(Block) {
        match Machine.block_record(block).kind() {
            Kind::SPLIT => scrub_frames(block.first()),
            Kind::VM_PAGE => Machine.zero_block(block),
            _ => (),
        }
    }
}

fn scrub_frames(first: Frame) {
    for frame in (first.0..first.0 + TABLE_ENTRIES).map(Frame) {
        if matches!(Machine.frame_record(frame).kind(), Kind::VM_PAGE | Kind::VM_TABLE | Kind::VCPU) {
            Machine.zero_frame(frame);
        }
    }
}
