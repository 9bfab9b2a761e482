//! `share_accept(vm, ipa)`: the host maps a page that the VM offers. Trust label: PROVED.

use super::{check_alive, host_table, ipa, level3_table, vm_slot};
use crate::addr::Frame;
use crate::owner::{Record, Sharing};
use crate::{Hardware, Outcome, stage2};

/// Maps the page of `vm` at `ipa_` into the host's stage 2, at its physical address, which is the result.
#[inline(never)]
pub fn share_accept<H: Hardware>(hw: H, vm: u64, ipa_: u64) -> Outcome {
    match checked_share_accept(hw, vm, ipa_) {
        Ok(frame) => Outcome::with_result(stage2::address(hw, frame)),
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_share_accept<H: Hardware>(hw: H, vm: u64, ipa_: u64) -> Result<Frame, Outcome> {
    let (frame, record) = page(hw, vm, ipa_, Sharing::OFFERED)?;

    hw.set_frame_record(frame, record.with_sharing(Sharing::ACCEPTED));
    hw.set_table_entry(host_table(hw, frame), frame.slot(), stage2::page(hw, frame));
    hw.publish();
    Ok(frame)
}

/// The page of a living VM at `ipa_`, which must be shared to this extent, and its record.
#[inline(always)]
pub(super) fn page<H: Hardware>(hw: H, vm: u64, ipa_: u64, sharing: Sharing) -> Result<(Frame, Record), Outcome> {
    let vm = vm_slot(1, vm)?;
    check_alive(hw, vm)?;
    let ipa = ipa(2, ipa_)?;
    let level3 = level3_table(hw, vm, ipa)?;
    let leaf = hw.table_entry(level3, ipa.index(3));
    if leaf & stage2::VALID == 0 {
        return Err(Outcome::BAD_STATE);
    }
    let frame = stage2::target(hw, leaf);
    let record = hw.frame_record(frame);
    if record.sharing() != sharing {
        return Err(Outcome::BAD_STATE);
    }
    Ok((frame, record))
}
