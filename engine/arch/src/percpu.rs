//! The per-CPU context: the host's registers and what this CPU has loaded. Trust label: TRUSTED.
//!
//! One page for each CPU at a fixed virtual address (`layout::PERCPU`), named by `TPIDR_EL2`; the Rust stack ends
//! where it begins. Words are atomics with relaxed order, which compile to plain loads and stores: only the owning
//! CPU writes them, others read counters. The assembly of `vectors.S` uses the first part by offset.

use core::cell::UnsafeCell;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_abi::{CALLS, VM_SLOTS, id};

use crate::layout;

/// Ids of host calls that are counted, from that of `version`.
pub const COUNTED_CALLS: usize = 64;
/// Exit classes that are counted.
pub const COUNTED_EXITS: usize = 16;

/// A word of the context.
#[derive(Debug)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// The value.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes the value; by the owning CPU only.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds one; by the owning CPU only.
    #[inline(always)]
    pub fn count(&self) {
        self.set(self.get().wrapping_add(1));
    }
}

/// The host's context on one CPU.
#[repr(C, align(16))]
pub struct HostContext {
    /// x0 to x30 of the host while the engine or a VM runs.
    pub x: UnsafeCell<[u64; 31]>,
    /// Keeps the registers below in pairs.
    pub reserved: u64,
    /// Where the host goes on after a VM: `ELR_EL2`.
    pub elr: Word,
    /// `SPSR_EL2`.
    pub spsr: Word,
    /// `SP_EL1` of the host.
    pub sp_el1: Word,
    /// `VBAR_EL1` of the host.
    pub vbar_el1: Word,
    /// `TPIDR_EL1` of the host.
    pub tpidr_el1: Word,
    /// `MPIDR_EL1` of this CPU; constant.
    pub mpidr: Word,
    /// `HCR_EL2` while the host runs; constant, as all that follow up to `vm_cnthctl` but for `vm_cptr`.
    pub host_hcr: Word,
    /// `VTCR_EL2` while the host runs.
    pub host_vtcr: Word,
    /// `CPTR_EL2` while the host runs.
    pub host_cptr: Word,
    /// `CNTHCTL_EL2` while the host runs.
    pub host_cnthctl: Word,
    /// `VTTBR_EL2` while the host runs.
    pub host_vttbr: Word,
    /// `SCTLR_EL1` while the host runs.
    pub host_sctlr: Word,
    /// `HCR_EL2` while a VM runs.
    pub vm_hcr: Word,
    /// `VTCR_EL2` while a VM runs.
    pub vm_vtcr: Word,
    /// `CPTR_EL2` while a VM runs; TFP is clear when the FP registers are the loaded vCPU's.
    pub vm_cptr: Word,
    /// `CNTHCTL_EL2` while a VM runs.
    pub vm_cnthctl: Word,
    /// Index of this CPU.
    pub cpu: Word,
    /// Frame index + 1 of the vCPU that is loaded on this CPU; 0: none.
    pub loaded: Word,
    /// For each VM slot, index + 1 of the vCPU that ran here last; 0: none.
    pub last_vcpu: [Word; VM_SLOTS],
    /// Host calls by their id, from that of `version`.
    pub calls: [Word; COUNTED_CALLS],
    /// Exits by class.
    pub exits: [Word; COUNTED_EXITS],
}

const _: () = assert!(size_of::<HostContext>() <= layout::CONTEXT_SIZE as usize);
const _: () = {
    let mut line = 0;
    while line < CALLS.len() {
        let counter = CALLS[line].id - id::VERSION;
        assert!(!CALLS[line].by_host || counter < COUNTED_CALLS as u64, "each call of the host has a counter");
        line += 1;
    }
};

/// Address of the context of a CPU.
#[inline(always)]
#[must_use]
pub const fn context_address(cpu: u64) -> u64 {
    layout::PERCPU + cpu * layout::PERCPU_STRIDE + layout::PERCPU_CONTEXT
}

/// The context of a CPU whose per-CPU area is mapped (`cpu` below `CONFIG.cpus()`).
#[inline(always)]
#[must_use]
pub fn context(cpu: u64) -> &'static HostContext {
    let pointer: *const HostContext = with_exposed_provenance(context_address(cpu) as usize);
    // SAFETY: boot maps a zeroed context page for every CPU before any CPU runs Rust code at this address space;
    // all-zero is a valid HostContext, and shared access is to atomics or, for `x`, by raw pointer.
    unsafe { &*pointer }
}

/// The context of this CPU.
#[inline(always)]
#[must_use]
pub fn current() -> &'static HostContext {
    let pointer: *const HostContext = with_exposed_provenance(mrs!("TPIDR_EL2") as usize);
    // SAFETY: `cpu::init` writes the address of this CPU's context, as in `context`, before anything calls this.
    unsafe { &*pointer }
}
