//! `dma_revoke(block)`: the host's devices lose a block. Trust label: PROVED.

use super::block;
use crate::owner::{Kind, Record};
use crate::{Hardware, Outcome};

/// Closes the block at `address`: only after the SMMU has forgotten it can it change hands.
#[inline(never)]
pub fn dma_revoke<H: Hardware>(hw: H, address: u64) -> Outcome {
    match checked_dma_revoke(hw, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_dma_revoke<H: Hardware>(hw: H, address: u64) -> Result<(), Outcome> {
    if !hw.has_dma() {
        return Err(Outcome::NOT_SUPPORTED);
    }
    let block = block(hw, 1, address)?;
    if hw.block_record(block).kind() != Kind::DMA {
        return Err(Outcome::not_owned(1));
    }

    hw.set_dma_entry(block, 0);
    hw.invalidate_dma(block);
    hw.set_block_record(block, Record::HOST);
    Ok(())
}
