//! From registers to a handler and back. Trust label: CHECKED, to be proved.

use bulkhead_abi::{UID, VERSION, VM_SLOTS, changes_ownership, feature, id, standard, status};

use super::activate::activate;
use super::dma_allow::dma_allow;
use super::dma_revoke::dma_revoke;
use super::host_split::host_split;
use super::map::map;
use super::map_block::map_block;
use super::reclaim::reclaim;
use super::reclaim_block::reclaim_block;
use super::share_accept::share_accept;
use super::share_release::share_release;
use super::table_donate::table_donate;
use super::table_reclaim::table_reclaim;
use super::vcpu_create::vcpu_create;
use super::vcpu_set_entry::vcpu_set_entry;
use super::vm_create::{RANGE_WORDS, vm_create};
use super::vm_destroy::vm_destroy;
use super::vm_kill::vm_kill;
use super::vm_split::vm_split;
use crate::addr::VmId;
use crate::hardware::Platform;
use crate::vm::Field;
use crate::{Hardware, Outcome, trng};

/// x0 to x17 of a call, changed into those of its answer.
pub type Registers = [u64; 18];

/// Executes a call of the host, other than `vcpu_run`, which the world switch takes before it comes here.
pub fn host_call<P: Platform>(hw: P, regs: &mut Registers) {
    let function = regs[0];
    if changes_ownership(function) { change_ownership(hw, function, regs) } else { answer(hw, function, regs) }
}

fn change_ownership<H: Hardware>(hw: H, function: u64, regs: &mut Registers) {
    if !hw.try_lock() {
        return put(regs, Outcome::BUSY);
    }
    let vm = regs[1];
    let outcome = ownership_call(hw, function, regs);
    put(regs, outcome);
    if outcome.status == status::SUCCESS {
        match function {
            id::ACTIVATE => put_digest(hw, regs, VmId(vm), Field::measurement(0)),
            id::SHARE_ACCEPT => put_results(regs, &[outcome.detail]),
            _ => {}
        }
    }
    hw.unlock();
}

fn ownership_call<H: Hardware>(hw: H, function: u64, regs: &Registers) -> Outcome {
    let [_, a1, a2, a3, a4, ..] = *regs;
    match function {
        id::HOST_SPLIT => host_split(hw, a1, a2),
        id::VM_CREATE => {
            let mut ranges = [0; RANGE_WORDS];
            ranges.copy_from_slice(&regs[5..5 + RANGE_WORDS]);
            vm_create(hw, a1, a2, a3, a4, &ranges)
        }
        id::VM_KILL => vm_kill(hw, a1),
        id::VM_DESTROY => vm_destroy(hw, a1),
        id::TABLE_DONATE => table_donate(hw, a1, a2, a3, a4),
        id::TABLE_RECLAIM => table_reclaim(hw, a1),
        id::MAP => map(hw, a1, a2, a3, a4),
        id::RECLAIM => reclaim(hw, a1),
        id::MAP_BLOCK => map_block(hw, a1, a2, a3),
        id::VM_SPLIT => vm_split(hw, a1, a2, a3),
        id::RECLAIM_BLOCK => reclaim_block(hw, a1),
        id::SHARE_ACCEPT => share_accept(hw, a1, a2),
        id::SHARE_RELEASE => share_release(hw, a1, a2),
        id::DMA_ALLOW => dma_allow(hw, a1),
        id::DMA_REVOKE => dma_revoke(hw, a1),
        id::VCPU_CREATE => vcpu_create(hw, a1, a2, a3),
        id::VCPU_SET_ENTRY => vcpu_set_entry(hw, a1, a2, a3),
        id::ACTIVATE => activate(hw, a1),
        _ => Outcome::NOT_SUPPORTED,
    }
}

fn answer<P: Platform>(hw: P, function: u64, regs: &mut Registers) {
    match function {
        id::VERSION => put_results(regs, &[VERSION, VM_SLOTS as u64, hw.cpus()]),
        id::FEATURES => put_results(regs, &[features(hw)]),
        id::LOG_READ => put_results(regs, &hw.log_read(regs[1])),
        id::STATS => statistic(hw, regs),
        id::VCPU_PUT => {
            hw.put_vcpu();
            regs[0] = status::SUCCESS;
        }
        _ => standard_call(hw, function, regs),
    }
}

/// Which optional calls work on this machine.
fn features<H: Hardware>(hw: H) -> u64 {
    let dma = if hw.has_dma() { feature::DMA_WINDOWS } else { 0 };
    let random = if hw.has_random() { feature::RANDOM } else { 0 };
    dma | random
}

fn statistic<P: Platform>(hw: P, regs: &mut Registers) {
    // The kind is checked first: an index means nothing without it.
    if regs[1] > 2 {
        return put(regs, Outcome::invalid(1));
    }
    match hw.statistic(regs[1], regs[2]) {
        Some(value) => put_results(regs, &[value]),
        None => put(regs, Outcome::invalid(2)),
    }
}

/// SMCCC discovery (Arm DEN 0028, 7.2 to 7.4 and 6.2), random numbers and PSCI.
fn standard_call<P: Platform>(hw: P, function: u64, regs: &mut Registers) {
    match function {
        standard::SMCCC_VERSION => regs[0] = SMCCC_VERSION_1_2,
        standard::SMCCC_ARCH_FEATURES => regs[0] = arch_features(regs[1]),
        standard::VENDOR_HYP_UID => {
            let [word0, word1, word2, word3] = UID;
            regs[..4].copy_from_slice(&[word0.into(), word1.into(), word2.into(), word3.into()]);
        }
        standard::VENDOR_HYP_REVISION => {
            regs[0] = VERSION;
            regs[1] = 0;
        }
        _ => {
            if !trng::call(hw, regs) {
                let arguments = [regs[1], regs[2], regs[3]];
                regs[0] = hw.host_psci(function, arguments).unwrap_or(status::NOT_SUPPORTED);
            }
        }
    }
}

/// The answer of `SMCCC_ARCH_FEATURES`: there are these two functions.
pub(crate) const fn arch_features(argument: u64) -> u64 {
    match low(argument) {
        standard::SMCCC_VERSION | standard::SMCCC_ARCH_FEATURES => status::SUCCESS,
        _ => status::NOT_SUPPORTED,
    }
}

/// An argument of a 32-bit call: in w1 and up, whatever the upper halves hold (Arm DEN 0028, use of registers).
#[must_use]
pub const fn low(argument: u64) -> u64 {
    argument & 0xffff_ffff
}

/// SMCCC 1.2, as `SMCCC_VERSION` answers it.
pub const SMCCC_VERSION_1_2: u64 = 0x1_0002;

/// Status and detail of a call without results. Unsupported calls change x0 only.
fn put(regs: &mut Registers, outcome: Outcome) {
    regs[0] = outcome.status;
    if outcome.status != status::SUCCESS && outcome.status != status::NOT_SUPPORTED {
        regs[1] = outcome.detail;
    }
}

fn put_results(regs: &mut Registers, results: &[u64]) {
    regs[0] = status::SUCCESS;
    regs[1..=results.len()].copy_from_slice(results);
}

/// Four words of a digest of `vm` to x1..x4.
pub(crate) fn put_digest<H: Hardware>(hw: H, regs: &mut Registers, vm: VmId, first: Field) {
    let Field(word) = first;
    let mut digest = [0; 4];
    let mut index = 0;
    while index < 4 {
        digest[index] = hw.vm_word(vm, Field(word + index as u64));
        index += 1;
    }
    put_results(regs, &digest);
}
