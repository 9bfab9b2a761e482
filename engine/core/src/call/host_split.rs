//! `host_split(block, table)`: the frames of a host block can change hands one by one. Trust label: PROVED.

use super::{check_host_block, host_frame, withdraw_block_from_host, withdraw_from_host};
use crate::owner::{Kind, Record};
use crate::{Hardware, Outcome, stage2};

/// Replaces the host's level 2 block descriptor at `block` by the donated level 3 table at `table`.
#[inline(never)]
pub fn host_split<H: Hardware>(hw: H, block: u64, table: u64) -> Outcome {
    match checked_host_split(hw, block, table) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_host_split<H: Hardware>(hw: H, block: u64, table: u64) -> Result<(), Outcome> {
    let block = super::block(hw, 1, block)?;
    if hw.block_record(block).kind() == Kind::SPLIT {
        return Err(Outcome::ALREADY_MAPPED);
    }
    check_host_block(hw, 1, block)?;
    let table = host_frame(hw, 2, table)?;

    withdraw_from_host(hw, table);
    hw.set_frame_record(table, Record::host_table(block));
    hw.fill_table(table, block);
    hw.fill_frame_records(block);
    // Break before make: no CPU may hold the block and the table in its TLB at once (Arm ARM DDI 0487 D8.16.1).
    // A host access in between faults to the engine, which finds it permitted again and retries.
    withdraw_block_from_host(hw, block);
    hw.set_host_entry(block, stage2::table(hw, table));
    hw.set_block_record(block, Record::SPLIT);
    hw.publish();
    Ok(())
}
