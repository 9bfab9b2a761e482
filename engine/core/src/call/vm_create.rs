//! `vm_create(vm, root, vcpus, flags, ranges)`: a free slot becomes a VM in BUILDING. Trust label: PROVED.

use bulkhead_abi::{FRAME_SIZE, IPA_BITS, RAM_RANGES, VCPUS_MAX};

use super::{host_frame, vm_slot, withdraw_from_host};
use crate::owner::Record;
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome, measure};

/// Words of the RAM range arguments: base and size of each.
pub const RANGE_WORDS: usize = 2 * RAM_RANGES;

/// First argument register of the RAM ranges.
const RANGES_REGISTER: u64 = 5;

/// Makes slot `vm` a VM with level 1 table `root` and the RAM `ranges` (base, size, base, size ...).
#[inline(never)]
pub fn vm_create<H: Hardware>(
    hw: H,
    vm: u64,
    root: u64,
    vcpus: u64,
    flags: u64,
    ranges: &[u64; RANGE_WORDS],
) -> Outcome {
    match checked_vm_create(hw, vm, root, vcpus, flags, *ranges) {
        Ok(()) => Outcome::SUCCESS,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn checked_vm_create<H: Hardware>(
    hw: H,
    vm: u64,
    root: u64,
    vcpus: u64,
    flags: u64,
    ranges: [u64; RANGE_WORDS],
) -> Result<(), Outcome> {
    let vm = vm_slot(1, vm)?;
    if vm::state(hw, vm) != State::FREE {
        return Err(Outcome::ALREADY_MAPPED);
    }
    if vcpus == 0 || vcpus > VCPUS_MAX as u64 {
        return Err(Outcome::invalid(3));
    }
    if flags != 0 {
        return Err(Outcome::invalid(4));
    }
    check_ranges(&ranges)?;
    let frame = host_frame(hw, 2, root)?;

    withdraw_from_host(hw, frame);
    hw.zero_frame(frame);
    hw.set_frame_record(frame, Record::vm_root(vm));
    hw.set_vm_word(vm, Field::ROOT, frame.0);
    hw.set_vm_word(vm, Field::VCPU_COUNT, vcpus);
    hw.set_vm_word(vm, Field::FLAGS, flags);
    measure::create(hw, vm, vcpus, flags);
    let [base0, size0, base1, size1, base2, size2, base3, size3] = ranges;
    set_range(hw, vm, 0, base0, size0);
    set_range(hw, vm, 1, base1, size1);
    set_range(hw, vm, 2, base2, size2);
    set_range(hw, vm, 3, base3, size3);
    hw.set_vm_word(vm, Field::STATE, State::BUILDING.0);
    Ok(())
}

/// Ranges are page-aligned, end below 2^39, ascend without overlap; the first is not empty, unused ones are all zero.
#[inline(always)]
fn check_ranges(ranges: &[u64; RANGE_WORDS]) -> Result<(), Outcome> {
    let [base0, size0, base1, size1, base2, size2, base3, size3] = *ranges;
    if size0 == 0 {
        return Err(Outcome::invalid(RANGES_REGISTER + 1));
    }
    let end0 = range_end(0, base0, size0, 0)?;
    let end1 = range_end(1, base1, size1, end0)?;
    let end2 = range_end(2, base2, size2, end1)?;
    range_end(3, base3, size3, end2)?;
    Ok(())
}

/// End of a range that must not start below `floor`; an unused range leaves the floor where it is.
#[inline(always)]
fn range_end(number: u64, base: u64, size: u64, floor: u64) -> Result<u64, Outcome> {
    const LIMIT: u64 = 1 << IPA_BITS;
    if size == 0 {
        return if base == 0 { Ok(floor) } else { Err(Outcome::invalid(RANGES_REGISTER + 2 * number)) };
    }
    if base & (FRAME_SIZE - 1) != 0 || base < floor || base >= LIMIT {
        return Err(Outcome::invalid(RANGES_REGISTER + 2 * number));
    }
    if size & (FRAME_SIZE - 1) != 0 || size > LIMIT - base {
        return Err(Outcome::invalid(RANGES_REGISTER + 2 * number + 1));
    }
    Ok(base + size)
}

#[inline(always)]
fn set_range<H: Hardware>(hw: H, vm: crate::addr::VmId, number: u64, base: u64, size: u64) {
    hw.set_vm_word(vm, Field::ram_base(number), base);
    hw.set_vm_word(vm, Field::ram_size(number), size);
    measure::ram_range(hw, vm, number, base, size);
}
