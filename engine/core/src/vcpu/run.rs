//! Checks before a vCPU is entered. Trust label: CHECKED, to be proved.
//!
//! `vcpu_run` takes no lock. A vCPU is claimed by one compare-and-swap of its ownership record, and stays claimed by
//! the CPU that it is loaded on, so that running it again costs no atomic access.

use bulkhead_abi::{CONTROL_NO_PENDING, CONTROL_PRIORITY_SHIFT, CONTROL_TIMER, CONTROL_UNDERFLOW};

use crate::addr::{FRAME_SHIFT, Frame};
use crate::owner::{Kind, Record, RunState};
use crate::vm::{self, State};
use crate::{Hardware, Outcome, stage2};

/// List registers that the host fills; the next one is the virtual timer's.
pub const HOST_LIST_REGISTERS: usize = 3;

/// Arguments of `vcpu_run`, x1 to x6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Physical address of the vCPU's frame.
    pub vcpu: u64,
    /// Answer to the last exit.
    pub reply: u64,
    /// List registers.
    pub lists: [u64; HOST_LIST_REGISTERS],
    /// `abi::CONTROL_*`.
    pub control: u64,
}

/// A vCPU that may be entered on this CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Its context frame.
    pub frame: Frame,
    /// It was not loaded here before: the one that was must be unloaded, this one loaded.
    pub is_new: bool,
}

const LIST_STATE: u64 = 3 << 62;
const LIST_GROUP1: u64 = 1 << 60;
const LIST_PRIORITY: u64 = 0xff << 48;
const LIST_EOI: u64 = 1 << 41;
const LIST_INTID: u64 = 0xffff_ffff;
const TIMER_INTID: u64 = 27;
const FIRST_SPECIAL_INTID: u64 = 1020;

/// Checks everything that the host says and claims the vCPU. `loaded` is the frame loaded on this CPU, if any.
pub fn claim<H: Hardware>(hw: H, run: &Run, loaded: Option<Frame>) -> Result<Claimed, Outcome> {
    check_lists(&run.lists)?;
    check_control(run.control)?;
    if let Some(frame) = loaded {
        if run.vcpu == stage2::address(hw, frame) {
            // The claim is this CPU's: the record cannot change under it.
            let record = hw.frame_record(frame);
            return if is_active(hw, record) { Ok(Claimed { frame, is_new: false }) } else { Err(Outcome::BAD_STATE) };
        }
    }
    let frame = crate::call::vcpu_frame(hw, 1, run.vcpu)?;
    let record = hw.frame_record(frame);
    if record.kind() != Kind::VCPU {
        return Err(Outcome::not_owned(1));
    }
    if !is_active(hw, record) || record.run_state() == RunState::OFF {
        return Err(Outcome::BAD_STATE);
    }
    let claimed = record.with_run_state(RunState::loaded(hw.cpu()));
    if record.run_state() != RunState::RUNNABLE || !hw.exchange_frame_record(frame, record, claimed) {
        return Err(Outcome::BUSY);
    }
    // Between the check and the claim the VM may have been killed: what was claimed dead is given back.
    if !is_active(hw, record) {
        release(hw, frame, RunState::RUNNABLE);
        return Err(Outcome::BAD_STATE);
    }
    Ok(Claimed { frame, is_new: true })
}

/// Gives back the claim on a vCPU that this CPU has unloaded.
pub fn release<H: Hardware>(hw: H, frame: Frame, run: RunState) {
    let record = hw.frame_record(frame);
    // The claim excludes every other writer of this record: the exchange cannot fail, it orders the stores before it.
    hw.exchange_frame_record(frame, record, record.with_run_state(run));
}

fn is_active<H: Hardware>(hw: H, record: Record) -> bool {
    vm::state(hw, record.vm()) == State::ACTIVE
}

/// List registers as the architecture defines them (IHI 0069, `ICH_LR<n>_EL2`), without a physical link, group 1,
/// no special INTID, not the timer's, no INTID twice. Unused ones are zero.
fn check_lists(lists: &[u64; HOST_LIST_REGISTERS]) -> Result<(), Outcome> {
    const FIRST_REGISTER: u64 = 3;
    let [first, second, third] = *lists;
    check_list(FIRST_REGISTER, first)?;
    check_list(FIRST_REGISTER + 1, second)?;
    check_list(FIRST_REGISTER + 2, third)?;
    if is_duplicate(first, second) {
        return Err(Outcome::bad_reply(FIRST_REGISTER + 1));
    }
    if is_duplicate(first, third) || is_duplicate(second, third) {
        return Err(Outcome::bad_reply(FIRST_REGISTER + 2));
    }
    Ok(())
}

fn check_list(register: u64, value: u64) -> Result<(), Outcome> {
    if value == 0 {
        return Ok(());
    }
    let allowed = LIST_STATE | LIST_GROUP1 | LIST_PRIORITY | LIST_EOI | LIST_INTID;
    let intid = value & LIST_INTID;
    let is_sound = value & !allowed == 0
        && value & LIST_STATE != 0
        && value & LIST_GROUP1 != 0
        && intid < FIRST_SPECIAL_INTID
        && intid != TIMER_INTID;
    if is_sound { Ok(()) } else { Err(Outcome::bad_reply(register)) }
}

fn is_duplicate(one: u64, other: u64) -> bool {
    one != 0 && other != 0 && one & LIST_INTID == other & LIST_INTID
}

fn check_control(control: u64) -> Result<(), Outcome> {
    const CONTROL_REGISTER: u64 = 6;
    let allowed = CONTROL_TIMER | CONTROL_UNDERFLOW | CONTROL_NO_PENDING | 0xff << CONTROL_PRIORITY_SHIFT;
    if control & !allowed == 0 { Ok(()) } else { Err(Outcome::bad_reply(CONTROL_REGISTER)) }
}

const _: () = assert!(FRAME_SHIFT == 12, "vCPU handles are page-aligned physical addresses");
