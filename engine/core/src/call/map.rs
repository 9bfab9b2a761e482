//! `map(vm, ipa, frame, mode)`: a host frame becomes a page of the VM. Trust label: PROVED.

use bulkhead_abi::{MAP_MEASURED, MAP_ZEROED};

use super::{host_frame, ipa, level3_table, vm_slot, withdraw_from_host};
use crate::owner::Record;
use crate::vm::{self, State};
use crate::{Hardware, Outcome, measure, stage2};

/// Moves host frame `address` into `vm` at `ipa_`: zeroed, or while BUILDING with its content, which is measured.
#[inline(never)]
pub fn map<H: Hardware>(hw: H, vm: u64, ipa_: u64, address: u64, mode: u64) -> Outcome {
    match checked_map(hw, vm, ipa_, address, mode) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_map<H: Hardware>(hw: H, vm: u64, ipa_: u64, address: u64, mode: u64) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    let state = vm::state(hw, vm);
    if state != State::BUILDING && state != State::ACTIVE {
        return Err(Outcome::BAD_STATE);
    }
    let ipa = ipa(2, ipa_)?;
    if !vm::in_ram(hw, vm, ipa) {
        return Err(Outcome::invalid(2));
    }
    if mode != MAP_ZEROED && mode != MAP_MEASURED {
        return Err(Outcome::invalid(4));
    }
    if mode == MAP_MEASURED && state != State::BUILDING {
        return Err(Outcome::BAD_STATE);
    }
    let frame = host_frame(hw, 3, address)?;
    let level3 = level3_table(hw, vm, ipa)?;
    let slot = ipa.index(3);
    if hw.table_entry(level3, slot) & stage2::VALID != 0 {
        return Err(Outcome::ALREADY_MAPPED);
    }

    withdraw_from_host(hw, frame);
    if mode == MAP_ZEROED {
        hw.zero_frame(frame);
    } else {
        hw.clean_frame(frame);
        measure::page(hw, vm, ipa, frame);
    }
    hw.invalidate_instructions();
    hw.set_frame_record(frame, Record::vm_page(vm, level3, slot));
    hw.set_table_entry(level3, slot, stage2::page(hw, frame));
    hw.publish();
    Ok(())
}
