//! `share_release(vm, ipa)`: the host unmaps a page that the VM shares. Trust label: PROVED.

use super::share_accept::page;
use super::withdraw_from_host;
use crate::owner::Sharing;
use crate::{Hardware, Outcome};

/// Takes the accepted page of `vm` at `ipa_` out of the host's stage 2; the VM still offers it.
#[inline(never)]
pub fn share_release<H: Hardware>(hw: H, vm: u64, ipa_: u64) -> Outcome {
    match checked_share_release(hw, vm, ipa_) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_share_release<H: Hardware>(hw: H, vm: u64, ipa_: u64) -> Result<(), Outcome> {
    let (frame, record) = page(hw, vm, ipa_, Sharing::ACCEPTED)?;

    withdraw_from_host(hw, frame);
    // No line that the host has written may reach memory later, over what the VM then wrote around its caches.
    hw.clean_frame(frame);
    hw.set_frame_record(frame, record.with_sharing(Sharing::OFFERED));
    Ok(())
}
