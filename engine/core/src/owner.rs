//! Ownership records: one word per block, one word per frame of a split block. Trust label: PROVED.
//!
//! Layout of a frame record, low bit first: kind 4 | level 2 | zero 2 | vm 16 | slot or vCPU index 9 | zero 3 |
//! parent frame, host block or run state 28. Records point back to the table entry that maps the frame, so each
//! invariant is about one record and its neighbour. A record of kind ENGINE is all zero: what nobody described is
//! the engine's.

use crate::addr::{Block, Frame, VmId};

const KIND_MASK: u64 = 0xf;
const LEVEL_SHIFT: u32 = 4;
const VM_SHIFT: u32 = 8;
const SLOT_SHIFT: u32 = 24;
const PARENT_SHIFT: u32 = 36;
const PARENT_BITS: u32 = 28;

/// Kind of a record; values 0, 1 and [`Kind::SPLIT`] also describe whole blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u64);

impl Kind {
    /// The engine's own, or no RAM at all.
    pub const ENGINE: Self = Self(0);
    /// The host's, mapped in its stage 2.
    pub const HOST: Self = Self(1);
    /// A page of a VM: vm, parent level 3 table, slot in it.
    pub const VM_PAGE: Self = Self(2);
    /// A translation table of a VM: vm, level; for levels 2 and 3 the parent table and slot.
    pub const VM_TABLE: Self = Self(3);
    /// The context of a vCPU: vm, index, run state.
    pub const VCPU: Self = Self(4);
    /// The host's level 3 table of a block.
    pub const HOST_TABLE: Self = Self(5);
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

/// The ownership record of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRecord(pub u64);

impl FrameRecord {
    /// The frame is the host's.
    pub const HOST: Self = Self(Kind::HOST.0);

    #[inline(always)]
    const fn child(kind: Kind, level: u64, vm: VmId, parent: Frame, slot: u64) -> Self {
        Self(kind.0 | level << LEVEL_SHIFT | vm.0 << VM_SHIFT | slot << SLOT_SHIFT | parent.0 << PARENT_SHIFT)
    }

    /// A page of `vm`, mapped by entry `slot` of the level 3 table `parent`.
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
