//! VM records: 64 words for each VM slot. Trust label: PROVED.
//!
//! The VMID of a VM is its slot + 1; VMID 0 is the host's.

use bulkhead_abi::{BLOCK_SIZE, RAM_RANGES, VCPUS_MAX};

use crate::Hardware;
use crate::addr::{Ipa, VmId};

/// Words of a VM record.
pub const RECORD_WORDS: usize = 64;

/// A word of a VM record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field(pub u64);

impl Field {
    /// [`State`].
    pub const STATE: Self = Self(0);
    /// Frame index of the level 1 table.
    pub const ROOT: Self = Self(1);
    /// Declared number of vCPUs, 1 to 8.
    pub const VCPU_COUNT: Self = Self(2);
    /// Creation flags.
    pub const FLAGS: Self = Self(3);
    /// CNTVOFF_EL2 of every vCPU, fixed by `activate`.
    pub const COUNTER_OFFSET: Self = Self(32);

    /// Base of RAM range `range`.
    #[inline(always)]
    #[must_use]
    pub const fn ram_base(range: u64) -> Self {
        Self(4 + 2 * range)
    }

    /// Size of RAM range `range` in bytes; 0: unused.
    #[inline(always)]
    #[must_use]
    pub const fn ram_size(range: u64) -> Self {
        Self(5 + 2 * range)
    }

    /// Word `word` (0 to 3) of the launch measurement.
    #[inline(always)]
    #[must_use]
    pub const fn measurement(word: u64) -> Self {
        Self(12 + word)
    }

    /// Frame index + 1 of vCPU `index`, 0 if there is none.
    #[inline(always)]
    #[must_use]
    pub const fn vcpu(index: u64) -> Self {
        Self(16 + index)
    }

    /// Word `word` (0 to 3) of the runtime measurement.
    #[inline(always)]
    #[must_use]
    pub const fn runtime(word: u64) -> Self {
        Self(33 + word)
    }
}

/// Life of a VM slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State(pub u64);

impl State {
    /// No VM.
    pub const FREE: Self = Self(0);
    /// Being built: pages with content may be added, nothing runs.
    pub const BUILDING: Self = Self(1);
    /// Measured and running.
    pub const ACTIVE: Self = Self(2);
    /// Runs no more; its frames can be reclaimed.
    pub const DYING: Self = Self(3);
}

/// The VM with this slot number and its state.
#[inline(always)]
pub fn state<H: Hardware>(hw: H, vm: VmId) -> State {
    State(hw.vm_word(vm, Field::STATE))
}

/// Whether the page at `ipa` lies in one of the VM's declared RAM ranges.
#[inline(always)]
pub fn in_ram<H: Hardware>(hw: H, vm: VmId, ipa: Ipa) -> bool {
    spans_ram(hw, vm, ipa.0, ipa.0)
}

/// Whether the 2 MiB at `ipa` lie in one of the VM's declared RAM ranges.
#[inline(always)]
pub fn block_in_ram<H: Hardware>(hw: H, vm: VmId, ipa: Ipa) -> bool {
    spans_ram(hw, vm, ipa.0, ipa.0.wrapping_add(BLOCK_SIZE - 1))
}

/// Whether one RAM range holds both addresses.
#[inline(always)]
fn spans_ram<H: Hardware>(hw: H, vm: VmId, first: u64, last: u64) -> bool {
    let is_in = |range| in_range(hw, vm, first, last, range);
    is_in(0) || is_in(1) || is_in(2) || is_in(3)
}

#[inline(always)]
fn in_range<H: Hardware>(hw: H, vm: VmId, first: u64, last: u64, range: u64) -> bool {
    let base = hw.vm_word(vm, Field::ram_base(range));
    let size = hw.vm_word(vm, Field::ram_size(range));
    // An address below `base` wraps to more than any size.
    first.wrapping_sub(base) < size && last.wrapping_sub(base) < size
}

/// Whether no vCPU frame is recorded.
#[inline(always)]
pub fn has_no_vcpu<H: Hardware>(hw: H, vm: VmId) -> bool {
    let mut any = 0;
    let mut index = 0;
    while index < VCPUS_MAX as u64 {
        any |= hw.vm_word(vm, Field::vcpu(index));
        index += 1;
    }
    any == 0
}

const _: () = assert!(RAM_RANGES == 4 && VCPUS_MAX == 8, "the record layout above is for these");
