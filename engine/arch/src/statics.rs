//! The engine's shared state outside the record windows: VM records, configuration, ownership lock.
//!
//! Trust label: TRUSTED. The symbols `VMS`, `CONFIG` and `LOCK` are what proofs name. All words are atomics with
//! relaxed order (plain loads and stores) but for the exchanges in `machine.rs`.

use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_abi::VM_SLOTS;
use bulkhead_core::vm::RECORD_WORDS;

/// VM records, 64 words each; written with the ownership lock held, STATE also by exchange.
#[unsafe(no_mangle)]
pub static VMS: [[AtomicU64; RECORD_WORDS]; VM_SLOTS] =
    [const { [const { AtomicU64::new(0) }; RECORD_WORDS] }; VM_SLOTS];

/// The ownership lock: 0 free, 1 held.
#[unsafe(no_mangle)]
pub static LOCK: AtomicU64 = AtomicU64::new(0);

/// What boot finds out, before the first call; constant afterwards.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config([const { AtomicU64::new(0) }; 7]);

/// The words of [`CONFIG`]: RAM base, frames, CPUs, host `VTTBR_EL2`, host `VTCR_EL2`, VM `VTCR_EL2`, DMA windows.
#[repr(transparent)]
pub struct Config([AtomicU64; 7]);

/// What boot decides.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    /// Lowest RAM address rounded down to 1 GiB.
    pub ram_base: u64,
    /// Number of frame indices, a multiple of 512.
    pub frames: u64,
    /// Number of CPUs.
    pub cpus: u64,
    /// Physical address of the host's level 0 table (VMID 0).
    pub host_root: u64,
    /// `VTCR_EL2` for the host.
    pub host_vtcr: u64,
    /// `VTCR_EL2` for VMs.
    pub vm_vtcr: u64,
    /// Whether the SMMU translates for the host's devices.
    pub has_dma: bool,
}

impl Config {
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }

    /// Stores boot's decisions; called once, by the boot CPU, before any other CPU or call.
    pub fn decide(&self, decided: &Decided) {
        let words = [
            decided.ram_base,
            decided.frames,
            decided.cpus,
            decided.host_root,
            decided.host_vtcr,
            decided.vm_vtcr,
            u64::from(decided.has_dma),
        ];
        for (slot, value) in self.0.iter().zip(words) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    /// Lowest RAM address rounded down to 1 GiB.
    #[inline(always)]
    pub fn ram_base(&self) -> u64 {
        self.word(0)
    }

    /// Number of frame indices.
    #[inline(always)]
    pub fn frames(&self) -> u64 {
        self.word(1)
    }

    /// Number of CPUs.
    #[inline(always)]
    pub fn cpus(&self) -> u64 {
        self.word(2)
    }

    /// `VTTBR_EL2` while the host runs.
    #[inline(always)]
    pub fn host_vttbr(&self) -> u64 {
        self.word(3)
    }

    /// `VTCR_EL2` while the host runs.
    #[inline(always)]
    pub fn host_vtcr(&self) -> u64 {
        self.word(4)
    }

    /// `VTCR_EL2` while a VM runs.
    #[inline(always)]
    pub fn vm_vtcr(&self) -> u64 {
        self.word(5)
    }

    /// Whether the SMMU translates for the host's devices.
    #[inline(always)]
    pub fn has_dma(&self) -> bool {
        self.word(6) != 0
    }
}
