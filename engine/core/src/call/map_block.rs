//! `map_block(vm, ipa, block)`: a whole block of the host becomes the VM's. Trust label: PROVED.

use super::{block, check_alive, ipa, next_table, vm_slot, withdraw_block_from_host};
use crate::addr::Frame;
use crate::owner::{Kind, Record};
use crate::vm::{self, Field};
use crate::{Hardware, Outcome, stage2};

/// Moves the 2 MiB block at `address`, zeroed, into `vm` at `ipa_`. The host need not have touched it since boot.
#[inline(never)]
pub fn map_block<H: Hardware>(hw: H, vm: u64, ipa_: u64, address: u64) -> Outcome {
    match checked_map_block(hw, vm, ipa_, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_map_block<H: Hardware>(hw: H, vm: u64, ipa_: u64, address: u64) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    check_alive(hw, vm)?;
    let ipa = ipa(2, ipa_)?;
    if !ipa.is_block_aligned() || !vm::block_in_ram(hw, vm, ipa) {
        return Err(Outcome::invalid(2));
    }
    let block = block(hw, 3, address)?;
    let kind = hw.block_record(block).kind();
    if kind != Kind::HOST && kind != Kind::UNCLEARED {
        return Err(Outcome::not_owned(3));
    }
    let level2 = next_table(hw, Frame(hw.vm_word(vm, Field::ROOT)), ipa, 1)?;
    let slot = ipa.index(2);
    if hw.table_entry(level2, slot) & stage2::VALID != 0 {
        return Err(Outcome::ALREADY_MAPPED);
    }

    withdraw_block_from_host(hw, block);
    hw.zero_block(block);
    hw.invalidate_instructions();
    hw.set_block_record(block, Record::vm_page(vm, level2, slot));
    hw.set_table_entry(level2, slot, stage2::block(hw, block));
    hw.publish();
    Ok(())
}
