//! `table_donate(vm, ipa, level, table)`: a host frame becomes a VM's translation table. Trust label: PROVED.

use super::{host_frame, ipa, next_table, vm_slot, withdraw_from_host};
use crate::addr::Frame;
use crate::owner::Record;
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome, stage2};

/// Makes the frame at `address` the table of `level` (2 or 3) of `vm` that covers `ipa_`.
#[inline(never)]
pub fn table_donate<H: Hardware>(hw: H, vm: u64, ipa_: u64, level: u64, address: u64) -> Outcome {
    match checked_table_donate(hw, vm, ipa_, level, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_table_donate<H: Hardware>(hw: H, vm: u64, ipa_: u64, level: u64, address: u64) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    let state = vm::state(hw, vm);
    if state != State::BUILDING && state != State::ACTIVE {
        return Err(Outcome::BAD_STATE);
    }
    let ipa = ipa(2, ipa_)?;
    if level != 2 && level != 3 {
        return Err(Outcome::invalid(3));
    }
    let frame = host_frame(hw, 4, address)?;
    let root = Frame(hw.vm_word(vm, Field::ROOT));
    let (parent, slot) = if level == 2 { (root, ipa.index(1)) } else { (next_table(hw, root, ipa, 1)?, ipa.index(2)) };
    if hw.table_entry(parent, slot) & stage2::VALID != 0 {
        return Err(Outcome::ALREADY_MAPPED);
    }

    withdraw_from_host(hw, frame);
    hw.zero_frame(frame);
    hw.set_frame_record(frame, Record::vm_table(vm, level, parent, slot));
    hw.set_table_entry(parent, slot, stage2::table(hw, frame));
    hw.publish();
    Ok(())
}
