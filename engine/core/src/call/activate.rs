//! `activate(vm)`: the measurement is sealed and the VM may run. Trust label: PROVED.

use bulkhead_abi::VCPUS_MAX;

use super::vm_slot;
use crate::addr::{Frame, VmId};
use crate::owner::RunState;
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome};

/// Makes `vm` ACTIVE; all declared vCPUs must exist and vCPU 0 must have its entry.
#[inline(never)]
pub fn activate<H: Hardware>(hw: H, vm: u64) -> Outcome {
    match checked_activate(hw, vm) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_activate<H: Hardware>(hw: H, vm: u64) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    if vm::state(hw, vm) != State::BUILDING || !is_complete(hw, vm) {
        return Err(Outcome::BAD_STATE);
    }
    // The VM's virtual counter starts near zero: it learns nothing about the machine's uptime.
    hw.set_vm_word(vm, Field::COUNTER_OFFSET, hw.counter());
    hw.set_vm_word(vm, Field::STATE, State::ACTIVE.0);
    Ok(())
}

#[inline(always)]
fn is_complete<H: Hardware>(hw: H, vm: VmId) -> bool {
    let count = hw.vm_word(vm, Field::VCPU_COUNT);
    let mut index = 0;
    let mut missing = false;
    while index < VCPUS_MAX as u64 {
        missing |= index < count && hw.vm_word(vm, Field::vcpu(index)) == 0;
        index += 1;
    }
    if missing {
        return false;
    }
    let first = Frame(hw.vm_word(vm, Field::vcpu(0)).wrapping_sub(1));
    hw.frame_record(first).run_state() == RunState::RUNNABLE
}
