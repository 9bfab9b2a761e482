//! `vcpu_create(vm, index, frame)`: a host frame becomes the context of a vCPU. Trust label: PROVED.

use super::{host_frame, vm_slot, withdraw_from_host};
use crate::owner::{Record, RunState};
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome, measure};

/// Makes the frame at `address` the context of vCPU `index` of `vm`, which is off.
#[inline(never)]
pub fn vcpu_create<H: Hardware>(hw: H, vm: u64, index: u64, address: u64) -> Outcome {
    match checked_vcpu_create(hw, vm, index, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_vcpu_create<H: Hardware>(hw: H, vm: u64, index: u64, address: u64) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    if vm::state(hw, vm) != State::BUILDING {
        return Err(Outcome::BAD_STATE);
    }
    if index >= hw.vm_word(vm, Field::VCPU_COUNT) {
        return Err(Outcome::invalid(2));
    }
    if hw.vm_word(vm, Field::vcpu(index)) != 0 {
        return Err(Outcome::ALREADY_MAPPED);
    }
    let frame = host_frame(hw, 3, address)?;

    withdraw_from_host(hw, frame);
    hw.zero_frame(frame);
    measure::vcpu(hw, vm, index);
    hw.set_frame_record(frame, Record::vcpu(vm, index, RunState::OFF));
    hw.set_vm_word(vm, Field::vcpu(index), frame.0 + 1);
    Ok(())
}
