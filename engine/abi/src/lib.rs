//! The one table of Bulkhead's calls, statuses, exit classes and shared layouts.
//!
//! Trust label: STATEMENT. `generated.rs` derives from `abi.toml`; the rest is layout that both sides of a
//! call must agree on. Calling convention: SMC Calling Convention 1.2 (Arm DEN 0028).
#![no_std]
#![forbid(unsafe_code)]

#[rustfmt::skip]
mod generated;

pub use generated::*;

/// One line of the call table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Name as in the table.
    pub name: &'static str,
    /// Function id in x0.
    pub id: u64,
    /// Called by the host (else by a VM).
    pub by_host: bool,
    /// The id is reserved and answers `NOT_SUPPORTED`.
    pub reserved: bool,
    /// Runs under the ownership lock and may answer `BUSY`.
    pub changes_ownership: bool,
    /// Number of argument registers, from x1.
    pub args: usize,
    /// Number of result registers, from x1.
    pub results: usize,
}

/// Size of a frame in bytes: the 4 KiB translation granule (Arm ARM DDI 0487, D8.2).
pub const FRAME_SIZE: u64 = 4096;
/// Size of a block in bytes: what one level 2 descriptor maps with the 4 KiB granule.
pub const BLOCK_SIZE: u64 = 2 << 20;
/// Number of VM slots.
pub const VM_SLOTS: usize = 64;
/// Most vCPUs of one VM.
pub const VCPUS_MAX: usize = 8;
/// Most RAM ranges of one VM.
pub const RAM_RANGES: usize = 4;
/// Bits of a VM's intermediate physical address.
pub const IPA_BITS: u32 = 39;
/// `map`: the page is handed over zeroed.
pub const MAP_ZEROED: u64 = 0;
/// `map`: the page keeps its content, which is measured (BUILDING only).
pub const MAP_MEASURED: u64 = 1;
/// `vcpu_run` control word: PPI 27, the virtual timer, is enabled in the VM's redistributor.
pub const CONTROL_TIMER: u64 = 1 << 0;
/// `vcpu_run` control word: exit when at most one list register is in use (`ICH_HCR_EL2.UIE`).
pub const CONTROL_UNDERFLOW: u64 = 1 << 1;
/// `vcpu_run` control word: exit when no list register is pending (`ICH_HCR_EL2.NPIE`).
pub const CONTROL_NO_PENDING: u64 = 1 << 2;
/// `vcpu_run` control word: bits 15:8 are the priority of PPI 27.
pub const CONTROL_PRIORITY_SHIFT: u32 = 8;
/// The deadline of a vCPU whose virtual timer is off or masked.
pub const NO_DEADLINE: u64 = u64::MAX;

/// First word of [`BootInfo`].
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"BULKHEAD");
/// Most CPUs that [`BootInfo`] lists.
pub const CPUS_MAX: usize = 8;
/// Most host RAM ranges that [`BootInfo`] lists.
pub const HOST_RANGES: usize = 16;

/// A range of physical addresses, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// First physical address.
    pub base: u64,
    /// Length in bytes; 0 means that the entry is unused.
    pub size: u64,
}

/// What the engine tells the host program at boot; x0 holds its physical address on entry.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub abi_version: u64,
    /// Number of CPUs.
    pub cpus: u64,
    /// `MPIDR_EL1` affinity of each CPU, in the order of the redistributor frames.
    pub mpidr: [u64; CPUS_MAX],
    /// RAM that the host owns, in whole blocks.
    pub host_ram: [Range; HOST_RANGES],
    /// The block that boot has split already, so that its frames can be donated; the first is its own table.
    pub split_block: Range,
    /// The host program as loaded, with its zero-initialised data.
    pub host_image: Range,
    /// The initial RAM disk that the boot loader placed (the image store); size 0: none.
    pub initrd: Range,
    /// The flattened device tree of the machine, in host RAM.
    pub device_tree: Range,
    /// Physical address of the management UART (PL011) and its interrupt id.
    pub uart: u64,
    /// Interrupt id of the management UART.
    pub uart_intid: u64,
    /// Physical address of the GIC distributor.
    pub gicd: u64,
    /// Physical address of the first redistributor; one per CPU, 0x2_0000 apart; only its SGI_base frame
    /// (0x1_0000 into it) is mapped for the host.
    pub gicr: u64,
    /// Frequency of the system counter, Hz.
    pub counter_frequency: u64,
}
