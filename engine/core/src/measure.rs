//! What is measured, in which order. Trust label: PROVED.
//!
//! A VM's launch measurement M starts as 32 zero bytes. Each step replaces it:
//! - creation, `vm_create`: M = SHA-256(M ‖ CREATE ‖ vcpus ‖ flags ‖ 0), then for each of the four RAM ranges
//!   M = SHA-256(M ‖ RANGE ‖ base ‖ size ‖ number);
//! - `map` with content: M = SHA-256(M ‖ PAGE ‖ ipa ‖ 0 ‖ 0 ‖ the 4096 bytes); zeroed pages add nothing, the RAM
//!   ranges say already where they may be;
//! - `vcpu_create`: M = SHA-256(M ‖ VCPU ‖ index ‖ 0 ‖ 0);
//! - `vcpu_set_entry`: M = SHA-256(M ‖ ENTRY ‖ entry ‖ context ‖ 0).
//!
//! Numbers are 64-bit little-endian. SHA-256: FIPS 180-4.

use crate::Hardware;
use crate::addr::{Frame, Ipa, VmId};
use crate::vm::Field;

const CREATE: u64 = 1;
const RANGE: u64 = 2;
const PAGE: u64 = 3;
const VCPU: u64 = 4;
const ENTRY: u64 = 5;

#[inline(always)]
fn step<H: Hardware>(hw: H, vm: VmId, data: [u64; 4]) {
    hw.measure_words(vm, Field::measurement(0), data);
}

/// The parameters of `vm_create`.
#[inline(always)]
pub fn create<H: Hardware>(hw: H, vm: VmId, vcpus: u64, flags: u64) {
    step(hw, vm, [CREATE, vcpus, flags, 0]);
}

/// One declared RAM range.
#[inline(always)]
pub fn ram_range<H: Hardware>(hw: H, vm: VmId, number: u64, base: u64, size: u64) {
    step(hw, vm, [RANGE, base, size, number]);
}

/// A page with its content.
#[inline(always)]
pub fn page<H: Hardware>(hw: H, vm: VmId, ipa: Ipa, frame: Frame) {
    hw.measure_frame(vm, [PAGE, ipa.0, 0, 0], frame);
}

/// A vCPU.
#[inline(always)]
pub fn vcpu<H: Hardware>(hw: H, vm: VmId, index: u64) {
    step(hw, vm, [VCPU, index, 0, 0]);
}

/// Where vCPU 0 starts.
#[inline(always)]
pub fn entry<H: Hardware>(hw: H, vm: VmId, entry: u64, context: u64) {
    step(hw, vm, [ENTRY, entry, context, 0]);
}

/// SHA-256(runtime measurement ‖ data) becomes the runtime measurement; the ownership lock is held.
#[inline(always)]
pub fn extend<H: Hardware>(hw: H, vm: VmId, data: [u64; 4]) {
    hw.measure_words(vm, Field::runtime(0), data);
}
