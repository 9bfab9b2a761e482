//! The assembly of exceptions and the world switch, with its offsets. Trust label: TRUSTED.

use core::mem::offset_of;

use bulkhead_abi::id;
use bulkhead_core::vcpu::context::{ResidentRegisters, VcpuContext};

use crate::exits;
use crate::hooks::{EngineFault, bulkhead_engine_exception};
use crate::layout;
use crate::percpu::HostContext;

unsafe extern "C" {
    /// `VBAR_EL2` while the host runs, and from boot on: the engine's own exceptions are handled there too.
    static bulkhead_host_vectors: u8;
    /// Enters the host with the values in its context.
    fn bulkhead_enter_host(host: *const HostContext) -> !;
}

/// Iterations of the sequence that overwrites the branch history at each entry from EL1; 0: none. 32 cover Neoverse N1
/// (24), N2 and V1 ("Spectre-BHB", Arm, March 2022). QEMU has no such history: the feature is for real cores.
const BHB_LOOPS: u64 = if cfg!(feature = "spectre-bhb") { 32 } else { 0 };

const BOOT_STACK_SIZE: usize = 4096;

/// Emergency stack of the boot CPU before `TPIDR_EL2` is set.
#[repr(C, align(16))]
struct BootStack(core::cell::UnsafeCell<[u8; BOOT_STACK_SIZE]>);

// SAFETY: only the assembly of `bulkhead_engine_fault` uses it, on the boot CPU, before the others are started.
unsafe impl Sync for BootStack {}

static BOOT_STACK: BootStack = BootStack(core::cell::UnsafeCell::new([0; BOOT_STACK_SIZE]));

/// From a CPU's host context down to the end of its emergency stack.
const EMERGENCY_DOWN: u64 = layout::PERCPU_CONTEXT - layout::PERCPU_EMERGENCY_STACK - layout::EMERGENCY_STACK_SIZE;

/// Makes exceptions at EL2 go to the panic dump.
pub fn install() {
    // SAFETY: the vectors are aligned to 2 KiB and mapped executable.
    unsafe { msr!("VBAR_EL2", &raw const bulkhead_host_vectors as u64) };
    crate::sysreg::isb();
}

/// Enters the host on this CPU.
///
/// # Safety
/// `host` is this CPU's context, initialised by `cpu::init`, with entry point and registers in place.
pub unsafe fn enter_host(host: &HostContext) -> ! {
    // SAFETY: as above.
    unsafe { bulkhead_enter_host(host) }
}

core::arch::global_asm!(
    include_str!("switch.S"),
    include_str!("vectors.S"),
    BHB_LOOPS = const BHB_LOOPS,
    VCPU_RUN_HIGH = const id::VCPU_RUN >> 16,
    VCPU_RUN_LOW = const id::VCPU_RUN & 0xffff,
    H_ELR = const offset_of!(HostContext, elr),
    H_SP_EL1 = const offset_of!(HostContext, sp_el1),
    H_TPIDR_EL1 = const offset_of!(HostContext, tpidr_el1),
    H_HCR = const offset_of!(HostContext, host_hcr),
    H_CPTR = const offset_of!(HostContext, host_cptr),
    H_VTTBR = const offset_of!(HostContext, host_vttbr),
    H_VM_HCR = const offset_of!(HostContext, vm_hcr),
    H_VM_CPTR = const offset_of!(HostContext, vm_cptr),
    V_VTTBR = const offset_of!(VcpuContext, vttbr),
    V_PC = const offset_of!(VcpuContext, pc),
    V_SWITCHED = const offset_of!(VcpuContext, el1),
    EMERGENCY_DOWN = const EMERGENCY_DOWN,
    BOOT_STACK_SIZE = const BOOT_STACK_SIZE,
    F_SIZE = const size_of::<EngineFault>(),
    F_MARK = const offset_of!(EngineFault, mark),
    boot_stack = sym BOOT_STACK,
    host_call = sym exits::host_call,
    host_exception = sym exits::host_exception,
    vcpu_run = sym exits::vcpu_run,
    vm_synchronous = sym exits::vm_synchronous,
    vm_interrupt = sym exits::vm_interrupt,
    vm_fast_interrupt = sym exits::vm_fast_interrupt,
    vm_error = sym exits::vm_error,
    engine_exception = sym bulkhead_engine_exception,
);

core::arch::global_asm!(
    include_str!("fp.S"),
    FPCR = const offset_of!(ResidentRegisters, fpcr),
    VECTORS = const offset_of!(ResidentRegisters, v),
);

/// The assembly loads and stores these in pairs.
const _: () = {
    macro_rules! follows {
        ($type:ty: $($first:ident).+, $($second:ident).+) => {
            assert!(offset_of!($type, $($second).+) == offset_of!($type, $($first).+) + 8);
        };
    }
    follows!(VcpuContext: pc, pstate);
    follows!(VcpuContext: vttbr, vmpidr);
    follows!(HostContext: elr, spsr);
    follows!(HostContext: sp_el1, vbar_el1);
    follows!(HostContext: tpidr_el1, mpidr);
    follows!(HostContext: host_hcr, host_vtcr);
    follows!(HostContext: host_cptr, host_cnthctl);
    follows!(HostContext: host_vttbr, host_sctlr);
    follows!(HostContext: vm_hcr, vm_vtcr);
    follows!(HostContext: vm_cptr, vm_cnthctl);
    assert!(offset_of!(EngineFault, sp) == 0xf8 && offset_of!(EngineFault, esr) == 0x100);
    assert!(size_of::<EngineFault>() == 0x130 && offset_of!(EngineFault, mark) == 0x128);
    assert!(id::VCPU_RUN >> 32 == 0);
};
