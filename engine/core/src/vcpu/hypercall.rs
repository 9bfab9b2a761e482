//! Calls of a VM, HVC #0. Trust label: CHECKED, to be proved.
//!
//! Beside Bulkhead's own they are those of KVM that a guest kernel looks for once it has read KVM's UID: the number of
//! a call is also the number of its bit in `VENDOR_HYP_FEATURES` (Linux `include/linux/arm-smccc.h`).

use bulkhead_abi::{FRAME_SIZE, VM_UID, exit, id, standard, status};

use super::context::{Pending, VcpuContext};
use super::exit::{Decision, Exit};
use super::{Processor, sharing};
use crate::addr::VmId;
use crate::call::dispatch::{SMCCC_VERSION_1_2, arch_features};
use crate::vm::Field;
use crate::{measure, psci, trng};

/// The functions of KVM that a VM has.
const KVM_FEATURES: u64 = bit(standard::VENDOR_HYP_FEATURES) | bit(id::MEMINFO) | bit(id::SHARE) | bit(id::UNSHARE);

const fn bit(function: u64) -> u64 {
    1 << (function & 31)
}

/// Executes the call in x0 of the context; the program counter stands behind the instruction.
#[inline(never)]
pub fn call<P: Processor>(p: P, vcpu: &mut VcpuContext) -> Decision {
    match vcpu.x[0] {
        standard::SMCCC_VERSION => vcpu.x[0] = SMCCC_VERSION_1_2,
        standard::SMCCC_ARCH_FEATURES => vcpu.x[0] = arch_features(vcpu.x[1]),
        standard::VENDOR_HYP_UID => vcpu.x[..4].copy_from_slice(&VM_UID.map(u64::from)),
        standard::VENDOR_HYP_FEATURES => vcpu.x[..4].copy_from_slice(&[KVM_FEATURES, 0, 0, 0]),
        id::MEMINFO => vcpu.x[0] = FRAME_SIZE,
        id::SHARE | id::UNSHARE | id::RELINQUISH => return sharing::call(p, vcpu),
        id::MEASUREMENT => digest(p, vcpu, Field::measurement(0)),
        id::EXTEND => return extend(p, vcpu),
        id::HOST_CALL => {
            vcpu.pending = Pending::HOST_CALL.0;
            let [_, a1, a2, a3, ..] = vcpu.x;
            return Decision::Exit(Exit { class: exit::HOST_CALL, data: [a1, a2, a3] });
        }
        function => {
            if !trng::call(p, &mut vcpu.x) {
                return psci::vm_call(p, vcpu, function);
            }
        }
    }
    Decision::Resume
}

/// Under the ownership lock, so that of two vCPUs that extend at once neither takes back what the other has appended.
/// Where the lock is taken, nothing happens and the VM executes its HVC again.
fn extend<P: Processor>(p: P, vcpu: &mut VcpuContext) -> Decision {
    if !p.try_lock() {
        return sharing::repeat(vcpu, Decision::Resume);
    }
    let [_, a1, a2, a3, a4, ..] = vcpu.x;
    measure::extend(p, VmId(vcpu.vm), [a1, a2, a3, a4]);
    digest(p, vcpu, Field::runtime(0));
    p.unlock();
    Decision::Resume
}

fn digest<P: Processor>(p: P, vcpu: &mut VcpuContext, first: Field) {
    let Field(word) = first;
    let vm = VmId(vcpu.vm);
    vcpu.x[0] = status::SUCCESS;
    vcpu.x[1] = p.vm_word(vm, first);
    vcpu.x[2] = p.vm_word(vm, Field(word + 1));
    vcpu.x[3] = p.vm_word(vm, Field(word + 2));
    vcpu.x[4] = p.vm_word(vm, Field(word + 3));
}
