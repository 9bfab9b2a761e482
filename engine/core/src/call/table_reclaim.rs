//! `table_reclaim(table)`: an empty translation table of a VM goes back to the host. Trust label: PROVED.

use super::{return_to_host, split_frame};
use crate::addr::{FRAME_SHIFT, Ipa, TABLE_SHIFT};
use crate::owner::{Kind, Record};
use crate::{Hardware, Outcome};

/// Takes back the level 2 or 3 table at `address`.
#[inline(never)]
pub fn table_reclaim<H: Hardware>(hw: H, address: u64) -> Outcome {
    match checked_table_reclaim(hw, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_table_reclaim<H: Hardware>(hw: H, address: u64) -> Result<(), Outcome> {
    let (table, record) = split_frame(hw, 1, address)?;
    // The level 1 table leaves with vm_destroy only.
    if record.kind() != Kind::VM_TABLE || record.level() == 1 {
        return Err(Outcome::not_owned(1));
    }
    if !hw.table_is_empty(table) {
        return Err(Outcome::NOT_EMPTY);
    }

    let ipa = first_ipa(hw, record);
    hw.set_table_entry(record.parent(), record.slot(), 0);
    hw.invalidate_vm_page(record.vm(), ipa);
    return_to_host(hw, table);
    Ok(())
}

/// The lowest address that the table covers.
#[inline(always)]
fn first_ipa<H: Hardware>(hw: H, table: Record) -> Ipa {
    let level2_shift = FRAME_SHIFT + TABLE_SHIFT;
    let level1_shift = level2_shift + TABLE_SHIFT;
    if table.level() == 2 {
        return Ipa(table.slot() << level1_shift);
    }
    let parent = hw.frame_record(table.parent());
    Ipa(parent.slot() << level1_shift | table.slot() << level2_shift)
}
