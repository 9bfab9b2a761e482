//! `vm_kill(vm)`: the VM is DYING; vCPUs that run are refused at their next entry. Trust label: PROVED.

use super::vm_slot;
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome};

/// Marks `vm` DYING.
#[inline(never)]
pub fn vm_kill<H: Hardware>(hw: H, vm: u64) -> Outcome {
    match checked_vm_kill(hw, vm) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_vm_kill<H: Hardware>(hw: H, vm: u64) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    let state = vm::state(hw, vm);
    if state != State::BUILDING && state != State::ACTIVE {
        return Err(Outcome::BAD_STATE);
    }
    hw.set_vm_word(vm, Field::STATE, State::DYING.0);
    Ok(())
}
