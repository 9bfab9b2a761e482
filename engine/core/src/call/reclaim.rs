//! `reclaim(frame)`: a page or vCPU frame of a dying VM goes back to the host, zeroed. Trust label: PROVED.

use super::{return_to_host, split_frame, withdraw_from_host};
use crate::addr::{FRAME_SHIFT, Frame, Ipa, TABLE_SHIFT};
use crate::owner::{Kind, Record, RunState, Sharing};
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome};

/// Takes back the frame at `address`.
#[inline(never)]
pub fn reclaim<H: Hardware>(hw: H, address: u64) -> Outcome {
    match checked_reclaim(hw, address) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_reclaim<H: Hardware>(hw: H, address: u64) -> Result<(), Outcome> {
    let (frame, record) = split_frame(hw, 1, address)?;
    let kind = record.kind();
    if kind != Kind::VM_PAGE && kind != Kind::VCPU {
        return Err(Outcome::not_owned(1));
    }
    if vm::state(hw, record.vm()) != State::DYING {
        return Err(Outcome::BAD_STATE);
    }
    if kind == Kind::VM_PAGE {
        let ipa = ipa_of(hw, record);
        hw.set_table_entry(record.parent(), record.slot(), 0);
        hw.invalidate_vm_page(record.vm(), ipa);
        if record.sharing() == Sharing::ACCEPTED {
            withdraw_from_host(hw, frame);
        }
    } else {
        claim_idle_vcpu(hw, frame, record)?;
        hw.set_vm_word(record.vm(), Field::vcpu(record.slot()), 0);
    }
    return_to_host(hw, frame);
    Ok(())
}

/// Where the VM saw the page: the slots of its table, its table's table and so on are the index fields.
#[inline(always)]
pub(super) fn ipa_of<H: Hardware>(hw: H, page: Record) -> Ipa {
    let level3 = hw.frame_record(page.parent());
    let level2 = hw.frame_record(level3.parent());
    let index = (level2.slot() << TABLE_SHIFT | level3.slot()) << TABLE_SHIFT | page.slot();
    Ipa(index << FRAME_SHIFT)
}

/// Turns an idle vCPU's record into the engine's own, so that no CPU can load it any more. `vcpu_run` takes no lock:
/// the exchange is what excludes it.
#[inline(always)]
fn claim_idle_vcpu<H: Hardware>(hw: H, frame: Frame, record: Record) -> Result<(), Outcome> {
    let run = record.run_state();
    if run != RunState::OFF && run != RunState::RUNNABLE {
        return Err(Outcome::BUSY);
    }
    if !hw.exchange_frame_record(frame, record, Record(Kind::ENGINE.0)) {
        return Err(Outcome::BUSY);
    }
    Ok(())
}
