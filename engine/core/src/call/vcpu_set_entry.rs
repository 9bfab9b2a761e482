//! `vcpu_set_entry(vcpu, entry, context)`: where vCPU 0 starts. Trust label: PROVED.

use bulkhead_abi::IPA_BITS;

use super::split_frame;
use crate::owner::{Kind, RunState};
use crate::vm::{self, State};
use crate::{Hardware, Outcome, measure, vcpu};

/// Gives vCPU 0, whose context is at `address`, its entry point and the value of x0.
#[inline(never)]
pub fn vcpu_set_entry<H: Hardware>(hw: H, address: u64, entry: u64, context: u64) -> Outcome {
    match checked_vcpu_set_entry(hw, address, entry, context) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_vcpu_set_entry<H: Hardware>(hw: H, address: u64, entry: u64, context: u64) -> Result<(), Outcome> {
    let (frame, record) = split_frame(hw, 1, address)?;
    if record.kind() != Kind::VCPU {
        return Err(Outcome::not_owned(1));
    }
    if record.slot() != 0 {
        return Err(Outcome::invalid(1));
    }
    if entry & 3 != 0 || entry >> IPA_BITS != 0 {
        return Err(Outcome::invalid(2));
    }
    if vm::state(hw, record.vm()) != State::BUILDING || record.run_state() != RunState::OFF {
        return Err(Outcome::BAD_STATE);
    }

    vcpu::context::reset(hw, frame, record, entry, context);
    measure::entry(hw, record.vm(), entry, context);
    hw.set_frame_record(frame, record.with_run_state(RunState::RUNNABLE));
    Ok(())
}
