//! Ownership records: one word per block, one word per frame of a split block. Trust label: PROVED.
//!
//! Layout of a record, low bit first: kind 4 | level 2 | sharing 2 | vm 16 | slot or vCPU index 9 | zero 3 |
//! parent frame, host block or run state 28. The record of a block is that of its 512 frames if they are alike, else
//! SPLIT. Records point back to the table entry that maps the frame or block, so each invariant is about one record
//! and its neighbour. A record of kind ENGINE is all zero: what nobody described is the engine's.

use crate::addr::{Block, Frame, VmId};

const KIND_MASK: u64 = 0xf;
const LEVEL_SHIFT: u32 = 4;
const SHARING_SHIFT: u32 = 6;
const VM_SHIFT: u32 = 8;
const SLOT_SHIFT: u32 = 24;
const PARENT_SHIFT: u32 = 36;
const PARENT_BITS: u32 = 28;

/// Kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u64);

impl Kind {
    /// The engine's own, or no RAM at all.
    pub const ENGINE: Self = Self(0);
    /// The host's, mapped one to one in its stage 2.
    pub const HOST: Self = Self(1);
    /// A page of a VM: vm, parent level 3 table, slot in it; or a whole block of a VM with a level 2 table.
    pub const VM_PAGE: Self = Self(2);
    /// A translation table of a VM: vm, level; for levels 2 and 3 the parent table and slot.
    pub const VM_TABLE: Self = Self(3);
    /// The context of a vCPU: vm, index, run state.
    pub const VCPU: Self = Self(4);
    /// The host's level 3 table of a block.
    pub const HOST_TABLE: Self = Self(5);
    /// Block only: the host's, mapped nowhere, content unknown since boot.
    pub const UNCLEARED: Self = Self(6);
    /// Block only: the host's, mapped in its stage 2 and in that of its devices.
    pub const DMA: Self = Self(7);
    /// Block only: ask the frame records.
    pub const SPLIT: Self = Self(15);
}

/// Run state of a vCPU, in the parent field of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunState(pub u64);

impl RunState {
    /// Not started, or turned off by PSCI.
    pub const OFF: Self = Self(0);
    /// May be run.
    pub const RUNNABLE: Self = Self(1);
    /// Somebody is changing its context.
    pub const TRANSIT: Self = Self(2);

    /// Loaded on the CPU with this index (running there, or resident until another vCPU loads).
    #[inline(always)]
    #[must_use]
    pub const fn loaded(cpu: u64) -> Self {
        Self(0x100 | cpu)
    }
}

/// Whether a page of a VM is the VM's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing(pub u64);

impl Sharing {
    /// The VM's alone.
    pub const PRIVATE: Self = Self(0);
    /// The VM lets the host map it.
    pub const OFFERED: Self = Self(1);
    /// The host has mapped it, at its physical address.
    pub const ACCEPTED: Self = Self(2);
}

/// The ownership record of a frame or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record(pub u64);

impl Record {
    /// The engine's, or no RAM.
    pub const ENGINE: Self = Self(Kind::ENGINE.0);
    /// The host's.
    pub const HOST: Self = Self(Kind::HOST.0);
    /// A block of the host that nobody has touched since boot.
    pub const UNCLEARED: Self = Self(Kind::UNCLEARED.0);
    /// A block of the host that its devices may access.
    pub const DMA: Self = Self(Kind::DMA.0);
    /// A block whose frames have records of their own.
    pub const SPLIT: Self = Self(Kind::SPLIT.0);

    #[inline(always)]
    const fn child(kind: Kind, level: u64, vm: VmId, parent: Frame, slot: u64) -> Self {
        Self(kind.0 | level << LEVEL_SHIFT | vm.0 << VM_SHIFT | slot << SLOT_SHIFT | parent.0 << PARENT_SHIFT)
    }

    /// A page of `vm`, mapped by entry `slot` of the level 3 table `parent`, private; or a block, with its level 2 table.
    #[inline(always)]
    #[must_use]
    pub const fn vm_page(vm: VmId, parent: Frame, slot: u64) -> Self {
        Self::child(Kind::VM_PAGE, 0, vm, parent, slot)
    }

    /// The translation table of `level` of `vm`, named by entry `slot` of the table `parent`.
    #[inline(always)]
    #[must_use]
    pub const fn vm_table(vm: VmId, level: u64, parent: Frame, slot: u64) -> Self {
        Self::child(Kind::VM_TABLE, level, vm, parent, slot)
    }

    /// The level 1 table of `vm`.
    #[inline(always)]
    #[must_use]
    pub const fn vm_root(vm: VmId) -> Self {
        Self::child(Kind::VM_TABLE, 1, vm, Frame(0), 0)
    }

    /// The context of vCPU `index` of `vm`.
    #[inline(always)]
    #[must_use]
    pub const fn vcpu(vm: VmId, index: u64, run: RunState) -> Self {
        Self::child(Kind::VCPU, 0, vm, Frame(run.0), index)
    }

    /// The host's level 3 table of `block`.
    #[inline(always)]
    #[must_use]
    pub const fn host_table(block: Block) -> Self {
        Self(Kind::HOST_TABLE.0 | block.0 << PARENT_SHIFT)
    }

    /// What the frame is.
    #[inline(always)]
    #[must_use]
    pub const fn kind(self) -> Kind {
        Kind(self.0 & KIND_MASK)
    }

    /// Level of a translation table.
    #[inline(always)]
    #[must_use]
    pub const fn level(self) -> u64 {
        self.0 >> LEVEL_SHIFT & 3
    }

    /// How far a page is shared.
    #[inline(always)]
    #[must_use]
    pub const fn sharing(self) -> Sharing {
        Sharing(self.0 >> SHARING_SHIFT & 3)
    }

    /// The same page, shared otherwise.
    #[inline(always)]
    #[must_use]
    pub const fn with_sharing(self, sharing: Sharing) -> Self {
        Self(self.0 & !(3 << SHARING_SHIFT) | sharing.0 << SHARING_SHIFT)
    }

    /// The VM that a page, table or vCPU belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn vm(self) -> VmId {
        VmId(self.0 >> VM_SHIFT & 0xffff)
    }

    /// Slot in the parent table, or index of the vCPU.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u64 {
        self.0 >> SLOT_SHIFT & 0x1ff
    }

    /// The same page in another slot.
    #[inline(always)]
    #[must_use]
    pub const fn with_slot(self, slot: u64) -> Self {
        Self(self.0 & !(0x1ff << SLOT_SHIFT) | slot << SLOT_SHIFT)
    }

    /// The table that maps this frame.
    #[inline(always)]
    #[must_use]
    pub const fn parent(self) -> Frame {
        Frame(self.0 >> PARENT_SHIFT & ((1 << PARENT_BITS) - 1))
    }

    /// Run state of a vCPU.
    #[inline(always)]
    #[must_use]
    pub const fn run_state(self) -> RunState {
        RunState(self.parent().0)
    }

    /// The same vCPU in another run state.
    #[inline(always)]
    #[must_use]
    pub const fn with_run_state(self, run: RunState) -> Self {
        Self(self.0 & ((1 << PARENT_SHIFT) - 1) | run.0 << PARENT_SHIFT)
    }
}
