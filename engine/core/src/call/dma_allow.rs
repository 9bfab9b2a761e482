//! `dma_allow(block)`: the host's devices may access a host block. Trust label: PROVED.

use super::{block, check_host_block};
use crate::owner::Record;
use crate::{Hardware, Outcome, stage2};

/// Opens the block at `address`, which the host keeps. No frame of it can change hands until `dma_revoke`.
#[inline(never)]
pub fn dma_allow<H: Hardware>(hw: H, address: u64) -> Outcome {
    match checked_dma_allow(hw, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_dma_allow<H: Hardware>(hw: H, address: u64) -> Result<(), Outcome> {
    if !hw.has_dma() {
        return Err(Outcome::NOT_SUPPORTED);
    }
    let block = block(hw, 1, address)?;
    check_host_block(hw, 1, block)?;

    hw.set_block_record(block, Record::DMA);
    hw.set_dma_entry(block, stage2::block(hw, block));
    hw.publish();
    Ok(())
}
