//! `vm_destroy(vm)`: the slot of a dying VM that has nothing left becomes free. Trust label: PROVED.

use super::{return_to_host, vm_slot};
use crate::addr::Frame;
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome};

/// Returns the root table of `vm` and frees its slot and VMID.
#[inline(never)]
pub fn vm_destroy<H: Hardware>(hw: H, vm: u64) -> Outcome {
    match checked_vm_destroy(hw, vm) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_vm_destroy<H: Hardware>(hw: H, vm: u64) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    if vm::state(hw, vm) != State::DYING {
        return Err(Outcome::BAD_STATE);
    }
    let root = Frame(hw.vm_word(vm, Field::ROOT));
    if !vm::has_no_vcpu(hw, vm) || !hw.table_is_empty(root) {
        return Err(Outcome::NOT_EMPTY);
    }

    hw.invalidate_vm(vm);
    return_to_host(hw, root);
    hw.clear_vm(vm);
    Ok(())
}
