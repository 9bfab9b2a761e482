//! `reclaim_block(block)`: a whole block of a dying VM goes back, zeroed. Trust label: PROVED.

use super::{return_block_to_host, vm_block};
use crate::addr::{FRAME_SHIFT, Ipa, TABLE_SHIFT};
use crate::owner::Record;
use crate::vm::{self, State};
use crate::{Hardware, Outcome};

/// Takes back the block at `address`.
#[inline(never)]
pub fn reclaim_block<H: Hardware>(hw: H, address: u64) -> Outcome {
    match checked_reclaim_block(hw, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_reclaim_block<H: Hardware>(hw: H, address: u64) -> Result<(), Outcome> {
    let (block, record) = vm_block(hw, 1, address)?;
    if vm::state(hw, record.vm()) != State::DYING {
        return Err(Outcome::BAD_STATE);
    }

    hw.set_table_entry(record.parent(), record.slot(), 0);
    hw.invalidate_vm_page(record.vm(), ipa_of_block(hw, record));
    return_block_to_host(hw, block);
    Ok(())
}

/// Where the VM sees the block: its slot and that of its level 2 table are the index fields.
#[inline(always)]
pub(super) fn ipa_of_block<H: Hardware>(hw: H, block: Record) -> Ipa {
    let level2 = hw.frame_record(block.parent());
    Ipa((level2.slot() << TABLE_SHIFT | block.slot()) << (FRAME_SHIFT + TABLE_SHIFT))
}
