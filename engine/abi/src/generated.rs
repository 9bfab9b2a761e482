// Generated from engine/abi/abi.toml by `python -m bulkhead.abi`; do not edit.

use crate::Call;

/// Version of package, image and interface: major in bits 63:32, minor in 31:16, patch in 15:0.
pub const VERSION: u64 = 0x20000;
/// Vendor-hypervisor UID (SMCCC 1.2 section 6.2), as x0..x3 answer it.
pub const UID: [u32; 4] = [0x0a7f8c1c, 0x9e4fd352, 0x5d0e0b9d, 0x416a2f7c];
/// The same as a VM is told: KVM's.
pub const VM_UID: [u32; 4] = [0xb66fb428, 0xe911c52e, 0x564bcaa9, 0x743a004d];
/// What TRNG_GET_UUID answers.
pub const TRNG_UID: [u32; 4] = [0x0b1f6e5c, 0x274d349a, 0xb427518a, 0x63e80dc9];

/// Statuses: x0 of every answer.
pub mod status {
    /// Done; results in x1 and up as the call declares.
    pub const SUCCESS: u64 = 0i64 as u64;
    /// Unknown or reserved function id; no other register changed.
    pub const NOT_SUPPORTED: u64 = -1i64 as u64;
    /// An argument is outside its domain; x1 = number of the argument register at fault.
    pub const INVALID_ARGUMENT: u64 = -2i64 as u64;
    /// The frame is not in the state of ownership that the call needs; x1 = number of the argument register at fault.
    pub const NOT_OWNED: u64 = -3i64 as u64;
    /// The frame lies in a 2 MiB block that has not been split; call host_split first; x1 = number of the argument register at fault.
    pub const NEEDS_SPLIT: u64 = -4i64 as u64;
    /// Another CPU is changing ownership, or the vCPU is loaded on a CPU; try again.
    pub const BUSY: u64 = -5i64 as u64;
    /// The VM or vCPU is not in a state that allows this call.
    pub const BAD_STATE: u64 = -6i64 as u64;
    /// Donate the table of that level with table_donate first; x1 = level of the missing translation table (2 or 3).
    pub const TABLE_MISSING: u64 = -7i64 as u64;
    /// The slot is in use (a page, a table, a vCPU or a VM slot).
    pub const ALREADY_MAPPED: u64 = -8i64 as u64;
    /// The table still has entries, or the VM still has vCPU frames.
    pub const NOT_EMPTY: u64 = -9i64 as u64;
    /// A list register or control word handed to vcpu_run is malformed; x1 = number of the argument register at fault.
    pub const BAD_REPLY: u64 = -10i64 as u64;
    /// The block has not been touched since boot; any access of the host zeroes it first; x1 = number of the argument register at fault.
    pub const NOT_CLEARED: u64 = -11i64 as u64;
}

/// Exit classes: x1 of a successful `vcpu_run`.
pub mod exit {
    /// A physical interrupt is pending for the host, which takes it itself.
    pub const IRQ: u64 = 0;
    /// The vCPU waits: event 0 for an interrupt (WFI; x9 is its timer deadline), event 1 for another CPU (WFE: give others a turn) (event).
    pub const WFI: u64 = 1;
    /// Load outside RAM; the reply of the next vcpu_run is the value (ipa, size).
    pub const MMIO_READ: u64 = 2;
    /// Store outside RAM (ipa, size, value).
    pub const MMIO_WRITE: u64 = 3;
    /// Access to a declared RAM page that is not mapped; the remedy is map (ipa).
    pub const MEM_FAULT: u64 = 4;
    /// The vCPU wrote ICC_SGI1R_EL1 (sgi1r).
    pub const SGI: u64 = 5;
    /// Virtual GIC maintenance; x8 holds ICH_MISR_EL2.
    pub const VGIC: u64 = 6;
    /// The engine has executed a PSCI function that the host must schedule around (function, vcpu).
    pub const PSCI: u64 = 7;
    /// The VM shared, unshared or relinquished a page: the id of its call, and where (function, ipa).
    pub const SHARE: u64 = 8;
    /// The VM called host_call; the reply of the next vcpu_run becomes its x1 (arg1, arg2, arg3).
    pub const HOST_CALL: u64 = 9;
    /// The VM did what no VM may do and is DYING (reason).
    pub const DIED: u64 = 10;
    /// The VM shares, unshares or relinquishes a page of a 2 MiB mapping; the remedy is vm_split, and the call is repeated (ipa).
    pub const NEEDS_SPLIT: u64 = 11;
    /// Number of exit classes.
    pub const COUNT: usize = 12;
}

/// Bits of the answer of `features`.
pub mod feature {
    /// There is an SMMU: dma_allow and dma_revoke work.
    pub const DMA_WINDOWS: u64 = 1 << 0;
    /// There is a source of random numbers: TRNG_RND32 and TRNG_RND64 answer.
    pub const RANDOM: u64 = 1 << 1;
}

/// Reasons carried by the exit class `DIED`.
pub mod death {
    /// An SError interrupt was attributed to the VM.
    pub const SERROR: u64 = 1;
}

/// Function ids: x0 of a call.
pub mod id {
    /// `version()`, by the host: version (major 63:32, minor 31:16, patch 15:0), number of VM slots, number of CPUs.
    pub const VERSION: u64 = 0xC6000000;
    /// `features()`, by the host: bit mask of optional calls that are implemented.
    pub const FEATURES: u64 = 0xC6000001;
    /// `host_split(block, table)`, by the host: give the 2 MiB block at physical address `block` a level-3 host table in the donated frame `table`, so that its 4 KiB frames can change hands one by one.
    pub const HOST_SPLIT: u64 = 0xC6000002;
    /// `vm_create(vm, root, vcpus, flags, ram0_base, ram0_size, ram1_base, ram1_size, ram2_base, ram2_size, ram3_base, ram3_size)`, by the host: make VM slot `vm` a VM in BUILDING with donated level-1 table `root`, 1 to 8 vCPUs and up to four ascending RAM ranges; every parameter is measured.
    pub const VM_CREATE: u64 = 0xC6000003;
    /// `vm_kill(vm)`, by the host: mark the VM DYING; its vCPUs run no more once they exit.
    pub const VM_KILL: u64 = 0xC6000004;
    /// `vm_destroy(vm)`, by the host: return the root table, zeroed, of a DYING VM that has nothing else left, and free the slot.
    pub const VM_DESTROY: u64 = 0xC6000005;
    /// `table_donate(vm, ipa, level, table)`, by the host: make a host frame the VM's translation table of `level` (2 or 3) for `ipa`.
    pub const TABLE_DONATE: u64 = 0xC6000006;
    /// `table_reclaim(table)`, by the host: take back an empty level 2 or 3 table, zeroed.
    pub const TABLE_RECLAIM: u64 = 0xC6000007;
    /// `map(vm, ipa, frame, mode)`, by the host: move a host frame into the VM at `ipa`: mode 0 zeroed, mode 1 content kept and measured (BUILDING only).
    pub const MAP: u64 = 0xC6000008;
    /// `reclaim(frame)`, by the host: take back a page or vCPU frame of a DYING VM, zeroed.
    pub const RECLAIM: u64 = 0xC6000009;
    /// `vcpu_create(vm, index, frame)`, by the host: make a host frame the context of vCPU `index`, off.
    pub const VCPU_CREATE: u64 = 0xC600000A;
    /// `vcpu_set_entry(vcpu, entry, context)`, by the host: BUILDING only: vCPU 0 starts at IPA `entry` at EL1h, MMU off, with x0 = `context`; measured; others start by PSCI CPU_ON.
    pub const VCPU_SET_ENTRY: u64 = 0xC600000B;
    /// `activate(vm)`, by the host: seal the measurement of a VM with all its vCPUs created and let it run.
    pub const ACTIVATE: u64 = 0xC600000C;
    /// `vcpu_run(vcpu, reply, lr0, lr1, lr2, control)`, by the host: run the vCPU on this CPU until an exit; a list register that comes back with state 0 is free, and is zeroed before it is handed in again.
    pub const VCPU_RUN: u64 = 0xC600000D;
    /// `vcpu_put()`, by the host: unload the vCPU that is loaded on this CPU, if any.
    pub const VCPU_PUT: u64 = 0xC600000E;
    /// `log_read(offset)`, by the host: up to 64 bytes of the engine's log from byte `offset` (or the oldest kept); `next` is the offset to ask for next.
    pub const LOG_READ: u64 = 0xC600000F;
    /// `stats(kind, index)`, by the host: kind 0: host calls, also refused ones, by id - 0xC6000000 (0 to 63); kind 1: exits by class; both summed over CPUs. Kind 2: the tick at which a boot stage was reached.
    pub const STATS: u64 = 0xC6000010;
    /// `map_block(vm, ipa, block)`, by the host: move a whole host block, zeroed, into the VM at `ipa`, both multiples of 2 MiB.
    pub const MAP_BLOCK: u64 = 0xC6000011;
    /// `vm_split(block, table, host_table)`, by the host: cut a block of a VM into 512 pages: `table` becomes the VM's level 3 table in its place, `host_table` the host's, both host frames.
    pub const VM_SPLIT: u64 = 0xC6000012;
    /// `reclaim_block(block)`, by the host: take back a whole block of a DYING VM, zeroed.
    pub const RECLAIM_BLOCK: u64 = 0xC6000013;
    /// `dma_allow(block)`, by the host: let the host's devices reach a host block through the SMMU; no frame of it can change hands meanwhile. NOT_SUPPORTED without an SMMU.
    pub const DMA_ALLOW: u64 = 0xC6000020;
    /// `dma_revoke(block)`, by the host: end a DMA window; no translation of it is left when the call returns, and functions that keep addresses (NVMe) have been reset. NOT_SUPPORTED without an SMMU.
    pub const DMA_REVOKE: u64 = 0xC6000021;
    /// `device_assign()`, by the host: reserved: device assignment.
    pub const DEVICE_ASSIGN: u64 = 0xC6000022;
    /// `device_release()`, by the host: reserved: device assignment.
    pub const DEVICE_RELEASE: u64 = 0xC6000023;
    /// `share_accept(vm, ipa)`, by the host: map a page that the VM shares into the host's stage 2, at its physical address.
    pub const SHARE_ACCEPT: u64 = 0xC6000024;
    /// `share_release(vm, ipa)`, by the host: unmap an accepted page from the host's stage 2; the VM still shares it.
    pub const SHARE_RELEASE: u64 = 0xC6000025;
    /// `measurement()`, by the vm: the VM's sealed launch measurement.
    pub const MEASUREMENT: u64 = 0xC6000040;
    /// `extend(data0, data1, data2, data3)`, by the vm: runtime measurement = SHA-256(runtime measurement || data).
    pub const EXTEND: u64 = 0xC6000041;
    /// `host_call(arg1, arg2, arg3)`, by the vm: ask the host something; exit class HOST_CALL.
    pub const HOST_CALL: u64 = 0xC6000042;
    /// `meminfo()`, by the vm: x0 is the granule of `share` in bytes, 4096 (KVM's HYP_MEMINFO).
    pub const MEMINFO: u64 = 0xC6000002;
    /// `share(ipa)`, by the vm: offer the page to the host (KVM's MEM_SHARE); x2 and x3 are zero.
    pub const SHARE: u64 = 0xC6000003;
    /// `unshare(ipa)`, by the vm: the page is the VM's alone again when the call returns (KVM's MEM_UNSHARE); x2 and x3 are zero.
    pub const UNSHARE: u64 = 0xC6000004;
    /// `relinquish(ipa)`, by the vm: give the page back: it is zeroed and the host's, the next access is a MEM_FAULT.
    pub const RELINQUISH: u64 = 0xC6000045;
}

/// Function ids of the standards (SMCCC 1.2, PSCI 1.1, TRNG 1.0) that are answered.
pub mod standard {
    /// `SMCCC_VERSION`.
    pub const SMCCC_VERSION: u64 = 0x80000000;
    /// `SMCCC_ARCH_FEATURES`.
    pub const SMCCC_ARCH_FEATURES: u64 = 0x80000001;
    /// `VENDOR_HYP_UID`.
    pub const VENDOR_HYP_UID: u64 = 0x8600FF01;
    /// `VENDOR_HYP_REVISION`.
    pub const VENDOR_HYP_REVISION: u64 = 0x8600FF03;
    /// `VENDOR_HYP_FEATURES`.
    pub const VENDOR_HYP_FEATURES: u64 = 0x86000000;
    /// `TRNG_VERSION`.
    pub const TRNG_VERSION: u64 = 0x84000050;
    /// `TRNG_FEATURES`.
    pub const TRNG_FEATURES: u64 = 0x84000051;
    /// `TRNG_GET_UUID`.
    pub const TRNG_GET_UUID: u64 = 0x84000052;
    /// `TRNG_RND32`.
    pub const TRNG_RND32: u64 = 0x84000053;
    /// `TRNG_RND64`.
    pub const TRNG_RND64: u64 = 0xC4000053;
    /// `PSCI_VERSION`.
    pub const PSCI_VERSION: u64 = 0x84000000;
    /// `PSCI_CPU_SUSPEND`.
    pub const PSCI_CPU_SUSPEND: u64 = 0xC4000001;
    /// `PSCI_CPU_OFF`.
    pub const PSCI_CPU_OFF: u64 = 0x84000002;
    /// `PSCI_CPU_ON`.
    pub const PSCI_CPU_ON: u64 = 0xC4000003;
    /// `PSCI_AFFINITY_INFO`.
    pub const PSCI_AFFINITY_INFO: u64 = 0xC4000004;
    /// `PSCI_MIGRATE_INFO_TYPE`.
    pub const PSCI_MIGRATE_INFO_TYPE: u64 = 0x84000006;
    /// `PSCI_SYSTEM_OFF`.
    pub const PSCI_SYSTEM_OFF: u64 = 0x84000008;
    /// `PSCI_SYSTEM_RESET`.
    pub const PSCI_SYSTEM_RESET: u64 = 0x84000009;
    /// `PSCI_FEATURES`.
    pub const PSCI_FEATURES: u64 = 0x8400000A;
}

/// Every call, in the order of the table.
pub const CALLS: [Call; 33] = [
    Call {
        name: "version",
        id: id::VERSION,
        by_host: true,
        reserved: false,
        changes_ownership: false,
        args: 0,
        results: 3,
    },
    Call {
        name: "features",
        id: id::FEATURES,
        by_host: true,
        reserved: false,
        changes_ownership: false,
        args: 0,
        results: 1,
    },
    Call {
        name: "host_split",
        id: id::HOST_SPLIT,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 2,
        results: 0,
    },
    Call {
        name: "vm_create",
        id: id::VM_CREATE,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 12,
        results: 0,
    },
    Call {
        name: "vm_kill",
        id: id::VM_KILL,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 0,
    },
    Call {
        name: "vm_destroy",
        id: id::VM_DESTROY,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 0,
    },
    Call {
        name: "table_donate",
        id: id::TABLE_DONATE,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 4,
        results: 0,
    },
    Call {
        name: "table_reclaim",
        id: id::TABLE_RECLAIM,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 0,
    },
    Call {
        name: "map",
        id: id::MAP,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 4,
        results: 0,
    },
    Call {
        name: "reclaim",
        id: id::RECLAIM,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 0,
    },
    Call {
        name: "vcpu_create",
        id: id::VCPU_CREATE,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 3,
        results: 0,
    },
    Call {
        name: "vcpu_set_entry",
        id: id::VCPU_SET_ENTRY,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 3,
        results: 0,
    },
    Call {
        name: "activate",
        id: id::ACTIVATE,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 4,
    },
    Call {
        name: "vcpu_run",
        id: id::VCPU_RUN,
        by_host: true,
        reserved: false,
        changes_ownership: false,
        args: 6,
        results: 9,
    },
    Call {
        name: "vcpu_put",
        id: id::VCPU_PUT,
        by_host: true,
        reserved: false,
        changes_ownership: false,
        args: 0,
        results: 0,
    },
    Call {
        name: "log_read",
        id: id::LOG_READ,
        by_host: true,
        reserved: false,
        changes_ownership: false,
        args: 1,
        results: 10,
    },
    Call {
        name: "stats",
        id: id::STATS,
        by_host: true,
        reserved: false,
        changes_ownership: false,
        args: 2,
        results: 1,
    },
    Call {
        name: "map_block",
        id: id::MAP_BLOCK,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 3,
        results: 0,
    },
    Call {
        name: "vm_split",
        id: id::VM_SPLIT,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 3,
        results: 0,
    },
    Call {
        name: "reclaim_block",
        id: id::RECLAIM_BLOCK,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 0,
    },
    Call {
        name: "dma_allow",
        id: id::DMA_ALLOW,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 0,
    },
    Call {
        name: "dma_revoke",
        id: id::DMA_REVOKE,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 1,
        results: 0,
    },
    Call {
        name: "device_assign",
        id: id::DEVICE_ASSIGN,
        by_host: true,
        reserved: true,
        changes_ownership: false,
        args: 0,
        results: 0,
    },
    Call {
        name: "device_release",
        id: id::DEVICE_RELEASE,
        by_host: true,
        reserved: true,
        changes_ownership: false,
        args: 0,
        results: 0,
    },
    Call {
        name: "share_accept",
        id: id::SHARE_ACCEPT,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 2,
        results: 1,
    },
    Call {
        name: "share_release",
        id: id::SHARE_RELEASE,
        by_host: true,
        reserved: false,
        changes_ownership: true,
        args: 2,
        results: 0,
    },
    Call {
        name: "measurement",
        id: id::MEASUREMENT,
        by_host: false,
        reserved: false,
        changes_ownership: false,
        args: 0,
        results: 4,
    },
    Call {
        name: "extend",
        id: id::EXTEND,
        by_host: false,
        reserved: false,
        changes_ownership: false,
        args: 4,
        results: 4,
    },
    Call {
        name: "host_call",
        id: id::HOST_CALL,
        by_host: false,
        reserved: false,
        changes_ownership: false,
        args: 3,
        results: 1,
    },
    Call {
        name: "meminfo",
        id: id::MEMINFO,
        by_host: false,
        reserved: false,
        changes_ownership: false,
        args: 0,
        results: 0,
    },
    Call {
        name: "share",
        id: id::SHARE,
        by_host: false,
        reserved: false,
        changes_ownership: false,
        args: 1,
        results: 0,
    },
    Call {
        name: "unshare",
        id: id::UNSHARE,
        by_host: false,
        reserved: false,
        changes_ownership: false,
        args: 1,
        results: 0,
    },
    Call {
        name: "relinquish",
        id: id::RELINQUISH,
        by_host: false,
        reserved: false,
        changes_ownership: false,
        args: 1,
        results: 0,
    },
];

/// Whether the host call `function` runs under the ownership lock.
#[must_use]
pub const fn changes_ownership(function: u64) -> bool {
    matches!(function, id::HOST_SPLIT | id::VM_CREATE | id::VM_KILL | id::VM_DESTROY | id::TABLE_DONATE | id::TABLE_RECLAIM | id::MAP | id::RECLAIM | id::VCPU_CREATE | id::VCPU_SET_ENTRY | id::ACTIVATE | id::MAP_BLOCK | id::VM_SPLIT | id::RECLAIM_BLOCK | id::DMA_ALLOW | id::DMA_REVOKE | id::SHARE_ACCEPT | id::SHARE_RELEASE)
}
