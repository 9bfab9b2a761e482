//! Taking a VM apart: every frame it got comes back, and is looked at (trust label: UNTRUSTED).

use crate::memory;
use crate::schedule;
use crate::vm::{SLOTS, State, Vm, existing};
use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE, status};
use bulkhead_el1::hvc::{self, CallError};
use bulkhead_el1::{cpu, probe};
use bulkhead_link::message::Refusal;
use bulkhead_logic::frames::List;
use core::sync::atomic::{AtomicU64, Ordering};

/// Frames taken back since boot.
pub static PAGES_RECLAIMED: AtomicU64 = AtomicU64::new(0);

/// Longest wait for the other CPUs to unload a VM, microseconds.
const PATIENCE: u64 = 2_000_000;

/// What came back.
#[derive(Clone, Copy)]
pub struct Returned {
    /// Number of frames.
    pub frames: u64,
    /// All of them held zeros only.
    pub scrubbed: bool,
}

impl Returned {
    fn take(&mut self, frame: u64) {
        self.frames += 1;
        self.scrubbed &= memory::is_zero(frame);
        memory::release(frame);
        PAGES_RECLAIMED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends a VM, if it has not ended by itself.
///
/// # Errors
/// There is no such VM.
pub fn stop(index: usize) -> Result<(), Refusal> {
    let slot = existing(index)?;
    let mut vm = slot.vm.lock();
    if slot.state() == State::Running {
        slot.set_state(State::Stopped);
        vm.console.flush(index);
        // BAD_STATE: the VM has just ended by itself.
        let _ = hvc::patiently(|| hvc::vm_kill(index as u64));
        schedule::kick_all();
    }
    Ok(())
}

/// Stops a VM and takes back all that it had.
///
/// # Errors
/// There is no such VM, a CPU does not let go of it, or the engine refused.
pub fn destroy(index: usize) -> Result<Returned, Refusal> {
    stop(index)?;
    schedule::unload(index);
    schedule::kick_all();
    let deadline = cpu::now().saturating_add(cpu::ticks(PATIENCE));
    while schedule::is_loaded(index) {
        if cpu::now() >= deadline {
            return Err(Refusal::state("a CPU does not let go of the VM"));
        }
        cpu::relax();
    }
    let slot = &SLOTS[index];
    let returned = take_apart(index, &mut slot.vm.lock())?;
    slot.set_state(State::Free);
    Ok(returned)
}

fn refusal(error: CallError) -> Refusal {
    Refusal::call(error.call, error.status, error.detail)
}

/// Reclaims vCPUs, pages and tables in the order that the engine demands, then frees the engine's slot.
///
/// # Errors
/// The engine refused; what is left can be taken apart later.
pub fn take_apart(index: usize, vm: &mut Vm) -> Result<Returned, Refusal> {
    let mut returned = Returned { frames: 0, scrubbed: true };
    vm.firmware.unplug();
    if let Some(disk) = vm.disk.take() {
        disk.release();
    }
    if vm.root == 0 {
        return Ok(returned);
    }
    // A VM that was never activated is still to be killed; one that is DYING may say BAD_STATE.
    let _ = hvc::patiently(|| hvc::vm_kill(index as u64));
    for vcpu in &mut vm.vcpus {
        if vcpu.frame != 0 {
            hvc::patiently(|| hvc::reclaim(vcpu.frame)).map_err(refusal)?;
            returned.take(core::mem::take(&mut vcpu.frame));
        }
    }
    take_list(&mut vm.pages, &mut returned, hvc::reclaim)?;
    take_blocks(&mut vm.blocks, &mut returned)?;
    take_list(&mut vm.tables_3, &mut returned, hvc::table_reclaim)?;
    take_list(&mut vm.tables_2, &mut returned, hvc::table_reclaim)?;
    hvc::patiently(|| hvc::vm_destroy(index as u64)).map_err(refusal)?;
    returned.take(core::mem::take(&mut vm.root));
    Ok(returned)
}

/// Takes back the blocks that are still whole.
fn take_blocks(list: &mut List, returned: &mut Returned) -> Result<(), Refusal> {
    while let Some(block) = memory::take(list) {
        if let Err(error) = hvc::patiently(|| hvc::reclaim_block(block)) {
            // Its number does not matter any more: nothing looks for a block of a VM that is being taken apart.
            memory::note_block(list, block, 0);
            return Err(refusal(error));
        }
        let mut frames = (block..block + BLOCK_SIZE).step_by(FRAME_SIZE as usize);
        returned.scrubbed &= frames.all(memory::is_zero);
        returned.frames += BLOCK_SIZE / FRAME_SIZE;
        PAGES_RECLAIMED.fetch_add(BLOCK_SIZE / FRAME_SIZE, Ordering::Relaxed);
        memory::release_block(block);
    }
    Ok(())
}

/// Frees those of a living VM's pages that it has relinquished: of all its pages, the host can touch these only, once
/// it has given up those that it had accepted.
pub fn take_relinquished(index: usize, vm: &mut Vm) {
    vm.shared.release_all(index);
    let mut kept = List::EMPTY;
    while let Some(frame) = memory::take(&mut vm.pages) {
        // SAFETY: a load from a frame that is the VM's, where it faults, or the host's.
        match unsafe { probe::read(frame, 8) } {
            Ok(_) => memory::release(frame),
            Err(_) => memory::note(&mut kept, frame),
        }
    }
    vm.pages = kept;
    vm.relinquished = 0;
}

/// Takes back every frame of `list` by `call`.
fn take_list(
    list: &mut List,
    returned: &mut Returned,
    call: fn(u64) -> Result<[u64; 0], CallError>,
) -> Result<(), Refusal> {
    while let Some(frame) = memory::take(list) {
        match hvc::patiently(|| call(frame)) {
            Ok([]) => returned.take(frame),
            // The VM has relinquished it.
            Err(CallError { status: status::NOT_OWNED, .. }) => memory::release(frame),
            Err(error) => {
                memory::note(list, frame);
                return Err(refusal(error));
            }
        }
    }
    Ok(())
}
