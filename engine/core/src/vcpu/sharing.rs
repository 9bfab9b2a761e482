//! What a VM does with its own pages: `share`, `unshare`, `relinquish`. Trust label: PROVED.
//!
//! Each is one step under the ownership lock. Where the lock is taken, or the host has to map or cut something first,
//! nothing happens and the VM executes its HVC again; the engine does not wait. The host hears of every success, and
//! has no say: when `unshare` or `relinquish` returns, the host reaches the page no more, on any CPU.

use bulkhead_abi::{exit, id, status};

use super::Processor;
use super::context::VcpuContext;
use super::exit::{Decision, Exit};
use crate::Outcome;
use crate::addr::{Frame, Ipa, VmId};
use crate::call::{host_table, return_to_host};
use crate::owner::{Record, Sharing};
use crate::stage2::{self, Mapping};
use crate::vm;

/// Size of an HVC instruction.
const INSTRUCTION: u64 = 4;

/// Why a call has had no effect.
enum Refusal {
    /// The VM is told.
    Answer(Outcome),
    /// The host is told, and the VM repeats the call.
    Remedy(u64),
}

/// One of the three calls, in x0; its address in x1, zero in x2 and x3.
#[inline(never)]
pub fn call<P: Processor>(p: P, vcpu: &mut VcpuContext) -> Decision {
    let [function, address, ..] = vcpu.x;
    let vm = VmId(vcpu.vm);
    let ipa = match argument(p, vm, vcpu) {
        Ok(ipa) => ipa,
        Err(outcome) => return answer(vcpu, outcome),
    };
    if !p.try_lock() {
        return repeat(vcpu, Decision::Resume);
    }
    let changed = change(p, vm, ipa, function);
    p.unlock();
    match changed {
        Ok(()) => {
            vcpu.x[0] = status::SUCCESS;
            Decision::Exit(Exit { class: exit::SHARE, data: [function, address, 0] })
        }
        Err(Refusal::Answer(outcome)) => answer(vcpu, outcome),
        Err(Refusal::Remedy(class)) => repeat(vcpu, Decision::Exit(Exit { class, data: [address, 0, 0] })),
    }
}

fn answer(vcpu: &mut VcpuContext, outcome: Outcome) -> Decision {
    vcpu.x[0] = outcome.status;
    vcpu.x[1] = outcome.detail;
    Decision::Resume
}

/// The program counter goes back to the HVC.
pub(super) fn repeat(vcpu: &mut VcpuContext, decision: Decision) -> Decision {
    vcpu.pc = vcpu.pc.wrapping_sub(INSTRUCTION);
    decision
}

/// An address in the VM's RAM; KVM keeps the other two arguments for later.
#[inline(always)]
fn argument<P: Processor>(p: P, vm: VmId, vcpu: &VcpuContext) -> Result<Ipa, Outcome> {
    let [_, address, x2, x3, ..] = vcpu.x;
    let Some(ipa) = Ipa::checked(address) else { return Err(Outcome::invalid(1)) };
    if !vm::in_ram(p, vm, ipa) {
        return Err(Outcome::invalid(1));
    }
    if x2 != 0 {
        return Err(Outcome::invalid(2));
    }
    if x3 != 0 {
        return Err(Outcome::invalid(3));
    }
    Ok(ipa)
}

#[inline(always)]
fn change<P: Processor>(p: P, vm: VmId, ipa: Ipa, function: u64) -> Result<(), Refusal> {
    let frame = match stage2::walk(p, vm, ipa) {
        Mapping::Nothing => return Err(Refusal::Remedy(exit::MEM_FAULT)),
        Mapping::Block => return Err(Refusal::Remedy(exit::NEEDS_SPLIT)),
        Mapping::Page(frame) => frame,
    };
    let record = p.frame_record(frame);
    let is_private = record.sharing() == Sharing::PRIVATE;
    match function {
        id::SHARE if is_private => p.set_frame_record(frame, record.with_sharing(Sharing::OFFERED)),
        id::UNSHARE if !is_private => unshare(p, frame, record),
        id::RELINQUISH => relinquish(p, vm, ipa, frame, record),
        _ => return Err(Refusal::Answer(Outcome::BAD_STATE)),
    }
    Ok(())
}

#[inline(always)]
fn unshare<P: Processor>(p: P, frame: Frame, record: Record) {
    if record.sharing() == Sharing::ACCEPTED {
        withdraw_from_host(p, frame);
        // As in `share_release`: nothing that the host has written may reach memory later.
        p.clean_frame(frame);
    }
    p.set_frame_record(frame, record.with_sharing(Sharing::PRIVATE));
}

#[inline(always)]
fn relinquish<P: Processor>(p: P, vm: VmId, ipa: Ipa, frame: Frame, record: Record) {
    p.set_table_entry(record.parent(), record.slot(), 0);
    p.invalidate_vm_page(vm, ipa);
    if record.sharing() == Sharing::ACCEPTED {
        withdraw_from_host(p, frame);
    }
    return_to_host(p, frame);
}

/// Takes an accepted page out of the host's stage 2, on all CPUs.
#[inline(always)]
fn withdraw_from_host<P: Processor>(p: P, frame: Frame) {
    p.set_table_entry(host_table(p, frame), frame.slot(), 0);
    p.invalidate_host_page_from_vm(frame);
}
