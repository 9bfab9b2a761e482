//! PSCI 1.1 for VMs (Arm DEN 0022): the engine executes it, the host schedules. Trust label: CHECKED, to be proved.

use bulkhead_abi::{IPA_BITS, VCPUS_MAX, exit, standard, status};

use crate::Hardware;
use crate::addr::{Frame, VmId};
use crate::call::dispatch::low;
use crate::owner::{Record, RunState};
use crate::vcpu::context::{self, VcpuContext};
use crate::vcpu::exit::{Decision, Exit};
use crate::vm::{Field, State};

/// PSCI 1.1.
pub const VERSION: u64 = 0x1_0001;
const SUCCESS: u64 = 0;
const INVALID_PARAMETERS: u64 = -2i64 as u64;
const ALREADY_ON: u64 = -4i64 as u64;
const ON_PENDING: u64 = -5i64 as u64;
const INVALID_ADDRESS: u64 = -9i64 as u64;
const AFFINITY_ON: u64 = 0;
const AFFINITY_OFF: u64 = 1;
const AFFINITY_ON_PENDING: u64 = 2;
/// Trusted OS is not present or needs no migration (DEN 0022, 5.1.9).
const MIGRATE_NOT_REQUIRED: u64 = 2;

/// A PSCI function of the VM; `function` is x0, arguments stand in x1..x3 of the context.
pub fn vm_call<H: Hardware>(hw: H, vcpu: &mut VcpuContext, function: u64) -> Decision {
    let [_, a1, a2, a3, ..] = vcpu.x;
    let value = match function {
        standard::PSCI_VERSION => VERSION,
        standard::PSCI_MIGRATE_INFO_TYPE => MIGRATE_NOT_REQUIRED,
        standard::PSCI_FEATURES => features(low(a1)),
        standard::PSCI_AFFINITY_INFO => affinity_info(hw, VmId(vcpu.vm), a1, a2),
        standard::PSCI_CPU_SUSPEND => {
            vcpu.x[0] = SUCCESS;
            return Decision::Exit(Exit::of(exit::WFI));
        }
        standard::PSCI_CPU_ON => return cpu_on(hw, vcpu, a1, a2, a3),
        standard::PSCI_CPU_OFF => return Decision::Off(scheduled(function, vcpu.index)),
        standard::PSCI_SYSTEM_OFF | standard::PSCI_SYSTEM_RESET => {
            // The VM's own decision: nothing of it runs again, whatever the host does.
            hw.exchange_vm_state(VmId(vcpu.vm), State::ACTIVE, State::DYING);
            return Decision::Exit(scheduled(function, vcpu.index));
        }
        _ => status::NOT_SUPPORTED,
    };
    vcpu.x[0] = value;
    Decision::Resume
}

fn scheduled(function: u64, vcpu: u64) -> Exit {
    Exit { class: exit::PSCI, data: [function, vcpu, 0] }
}

fn features(function: u64) -> u64 {
    match function {
        standard::SMCCC_VERSION
        | standard::PSCI_VERSION
        | standard::PSCI_CPU_SUSPEND
        | standard::PSCI_CPU_OFF
        | standard::PSCI_CPU_ON
        | standard::PSCI_AFFINITY_INFO
        | standard::PSCI_MIGRATE_INFO_TYPE
        | standard::PSCI_SYSTEM_OFF
        | standard::PSCI_SYSTEM_RESET
        | standard::PSCI_FEATURES => SUCCESS,
        _ => status::NOT_SUPPORTED,
    }
}

/// The vCPU that an MPIDR affinity value names: its index is Aff0, the higher fields are zero.
fn target<H: Hardware>(hw: H, vm: VmId, affinity: u64) -> Option<(u64, Frame)> {
    if affinity >= VCPUS_MAX as u64 || affinity >= hw.vm_word(vm, Field::VCPU_COUNT) {
        return None;
    }
    let frame = hw.vm_word(vm, Field::vcpu(affinity)).checked_sub(1)?;
    Some((affinity, Frame(frame)))
}

fn cpu_on<H: Hardware>(hw: H, caller: &mut VcpuContext, affinity: u64, entry: u64, argument: u64) -> Decision {
    let vm = VmId(caller.vm);
    let Some((index, frame)) = target(hw, vm, affinity) else {
        caller.x[0] = INVALID_PARAMETERS;
        return Decision::Resume;
    };
    if entry & 3 != 0 || entry >> IPA_BITS != 0 {
        caller.x[0] = INVALID_ADDRESS;
        return Decision::Resume;
    }
    // The exchange names VM and index: a frame that has changed hands since it was looked up is not touched.
    let off = Record::vcpu(vm, index, RunState::OFF);
    let transit = off.with_run_state(RunState::TRANSIT);
    if !hw.exchange_frame_record(frame, off, transit) {
        let pending = hw.frame_record(frame) == transit;
        caller.x[0] = if pending { ON_PENDING } else { ALREADY_ON };
        return Decision::Resume;
    }
    hw.zero_frame(frame);
    context::reset(hw, frame, off, entry, argument);
    hw.exchange_frame_record(frame, transit, off.with_run_state(RunState::RUNNABLE));
    caller.x[0] = SUCCESS;
    Decision::Exit(scheduled(standard::PSCI_CPU_ON, index))
}

fn affinity_info<H: Hardware>(hw: H, vm: VmId, affinity: u64, lowest_level: u64) -> u64 {
    let Some((_, frame)) = target(hw, vm, affinity) else {
        return INVALID_PARAMETERS;
    };
    if lowest_level != 0 {
        return INVALID_PARAMETERS;
    }
    match hw.frame_record(frame).run_state() {
        RunState::OFF => AFFINITY_OFF,
        RunState::TRANSIT => AFFINITY_ON_PENDING,
        _ => AFFINITY_ON,
    }
}
