//! `vm_split(block, table, host_table)`: a VM's block becomes 512 pages. Trust label: PROVED.

use super::{check_alive, host_frame, reclaim_block::ipa_of_block, vm_block, withdraw_from_host};
use crate::owner::Record;
use crate::{Hardware, Outcome, stage2};

/// Cuts the VM's block at `block`: `table` becomes the VM's level 3 table in its place, `host_table` the host's, empty.
#[inline(never)]
pub fn vm_split<H: Hardware>(hw: H, block: u64, table: u64, host_table: u64) -> Outcome {
    match checked_vm_split(hw, block, table, host_table) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_vm_split<H: Hardware>(hw: H, block: u64, table: u64, host_table: u64) -> Result<(), Outcome> {
    let (block, record) = vm_block(hw, 1, block)?;
    let vm = record.vm();
    check_alive(hw, vm)?;
    // Host frames lie in split blocks: neither table can be part of the block.
    let table = host_frame(hw, 2, table)?;
    let host_table = host_frame(hw, 3, host_table)?;
    if table == host_table {
        return Err(Outcome::invalid(3));
    }

    let (level2, slot) = (record.parent(), record.slot());
    withdraw_from_host(hw, table);
    withdraw_from_host(hw, host_table);
    hw.fill_table(table, block);
    hw.set_frame_record(table, Record::vm_table(vm, 3, level2, slot));
    hw.zero_frame(host_table);
    hw.set_frame_record(host_table, Record::host_table(block));
    hw.fill_vm_records(block, Record::vm_page(vm, table, 0));
    // Break before make: no CPU may hold the block and the table in its TLB at once (Arm ARM DDI 0487 D8.16.1).
    // An access of the VM in between faults to the engine, which finds it permitted again and retries.
    hw.set_table_entry(level2, slot, 0);
    hw.invalidate_vm_page(vm, ipa_of_block(hw, record));
    hw.set_table_entry(level2, slot, stage2::table(hw, table));
    hw.set_host_entry(block, stage2::table(hw, host_table));
    hw.set_block_record(block, Record::SPLIT);
    hw.publish();
    Ok(())
}
