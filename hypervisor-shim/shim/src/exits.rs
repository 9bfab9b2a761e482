//! What to do at each exit of a vCPU (trust label: UNTRUSTED).

use crate::vm::{Activity, SLOTS, Vm};
use crate::{build, devices, log, schedule};
use bulkhead_abi::{NO_DEADLINE, exit, id, standard, status};
use bulkhead_el1::cpu;
use bulkhead_el1::hvc::CallError;
use bulkhead_link::message::Refusal;

/// `event` of an exit WFI that is about WFE.
const EVENT: u64 = 1;

/// What the CPU does after an exit.
pub enum Next {
    /// Enter again.
    Again,
    /// Take the pending interrupts, then enter again.
    Interrupt,
    /// Enter again once others had their turn.
    Yield,
    /// Something else; the vCPU's activity says what becomes of it.
    Leave,
}

/// Handles an exit, given as the results of `vcpu_run`: class, three words of data, three list registers,
/// maintenance status, deadline.
pub fn handle(index: usize, vm: &mut Vm, vcpu: usize, results: &[u64; 9]) -> Next {
    let [class, data0, data1, data2, .., deadline] = *results;
    match class {
        exit::IRQ => Next::Interrupt,
        exit::WFI if data0 == EVENT => Next::Yield,
        exit::WFI => wait(index, vm, vcpu, deadline),
        exit::MMIO_READ => {
            vm.vcpus[vcpu].reply = devices::read(index, vm, data0, data1);
            Next::Again
        }
        exit::MMIO_WRITE => {
            devices::write(index, vm, data0, data1, data2);
            Next::Again
        }
        exit::MEM_FAULT => {
            let mapped = build::map_zeroed(index, vm, data0);
            again_if(mapped, index, vm, data0)
        }
        exit::NEEDS_SPLIT => {
            let split = build::split(vm, data0);
            again_if(split, index, vm, data0)
        }
        exit::SHARE => {
            shared(index, vm, data0, data1);
            Next::Again
        }
        exit::SGI => {
            vm.gic.send_sgi(vcpu, data0);
            Next::Again
        }
        exit::VGIC => Next::Again,
        exit::PSCI => psci(index, vm, vcpu, data0, data1),
        exit::HOST_CALL => {
            vm.vcpus[vcpu].reply = 0;
            Next::Again
        }
        exit::DIED => end(index, vm, "died", data0, false),
        _ => {
            log!("VM {index}: unknown exit class {class}");
            end(index, vm, "error", class, true)
        }
    }
}

/// Enters again if the VM got the memory that it needs at `ipa`.
fn again_if(got: Result<(), Refusal>, index: usize, vm: &mut Vm, ipa: u64) -> Next {
    match got {
        Ok(()) => Next::Again,
        Err(refusal) => {
            log!("VM {index}: no memory for {ipa:#x}: {} {:?}", refusal.text, refusal.values);
            end(index, vm, "error", ipa, true)
        }
    }
}

/// The VM has shared, unshared or relinquished the page at `ipa`. What it shares is accepted when it is used.
fn shared(index: usize, vm: &mut Vm, function: u64, ipa: u64) {
    if function != id::SHARE {
        vm.shared.taken_back(index, ipa);
    }
    if function == id::RELINQUISH {
        vm.relinquished += 1;
    }
}

/// Handles a refused `vcpu_run`.
pub fn refused(index: usize, vm: &mut Vm, vcpu: usize, error: CallError) -> Next {
    match error.status {
        // Its CPU_OFF or a change of ownership is under way elsewhere.
        status::BUSY => vm.vcpus[vcpu].activity = Activity::Ready,
        // The VM is over, and the CPU that saw its last exit is about to say so.
        status::BAD_STATE => vm.vcpus[vcpu].activity = Activity::Off,
        _ => {
            log!("VM {index}: vcpu_run of vCPU {vcpu}: {:#x} {}", error.status, error.detail);
            return end(index, vm, "error", error.status, true);
        }
    }
    Next::Leave
}

fn end(index: usize, vm: &mut Vm, reason: &str, detail: u64, kill: bool) -> Next {
    SLOTS[index].end(index, vm, reason, detail, kill);
    schedule::kick_all();
    Next::Leave
}

/// The vCPU executed WFI: it sleeps unless something is there for it.
fn wait(index: usize, vm: &mut Vm, vcpu: usize, deadline: u64) -> Next {
    let deadline = if vm.gic.timer_enabled(vcpu) { deadline } else { NO_DEADLINE };
    if vm.gic.has_deliverable(vcpu) || deadline <= cpu::now() {
        return Next::Again;
    }
    vm.console.flush(index);
    vm.vcpus[vcpu].activity = Activity::Waiting { deadline };
    Next::Leave
}

/// The engine has executed a PSCI function (Arm DEN 0022); here its effect on scheduling.
fn psci(index: usize, vm: &mut Vm, vcpu: usize, function: u64, target: u64) -> Next {
    match function {
        standard::PSCI_CPU_ON => {
            turn_on(index, vm, target as usize);
            Next::Again
        }
        standard::PSCI_CPU_OFF => {
            let restart = vm.vcpus[vcpu].activity == Activity::Running { restart: true };
            vm.vcpus[vcpu].activity = if restart { Activity::Ready } else { Activity::Off };
            Next::Leave
        }
        standard::PSCI_SYSTEM_OFF => end(index, vm, "off", 0, false),
        standard::PSCI_SYSTEM_RESET => end(index, vm, "reset", 0, false),
        _ => {
            log!("VM {index}: unknown PSCI exit {function:#x}");
            Next::Again
        }
    }
}

fn turn_on(index: usize, vm: &mut Vm, target: usize) {
    if target >= vm.vcpu_count {
        return;
    }
    let vcpu = &mut vm.vcpus[target];
    match &mut vcpu.activity {
        Activity::Running { restart } => *restart = true,
        activity => *activity = Activity::Ready,
    }
    vcpu.reply = 0;
    schedule::kick_vcpu(index, target);
}
