//! `first_touch(block)`: the host's first access to RAM that nobody has touched since boot. Trust label: PROVED.
//! No call: its stage 2 fault brings the host here.

use super::return_block_to_host;
use crate::addr::Block;
use crate::owner::Kind;
use crate::{Hardware, Outcome};

/// Zeroes an UNCLEARED block and maps it to the host. NOT_OWNED: another CPU was faster. `block` is below
/// `frames() / 512`.
#[inline(never)]
pub fn first_touch<H: Hardware>(hw: H, block: Block) -> Outcome {
    if hw.block_record(block).kind() != Kind::UNCLEARED {
        return Outcome::not_owned(1);
    }
    return_block_to_host(hw, block);
    Outcome::SUCCESS
}
