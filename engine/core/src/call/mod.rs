//! The host's calls: one file each, all checks before the first change. Trust label: PROVED.
//!
//! Each handler runs with the ownership lock held and answers an [`Outcome`]; on any error nothing has changed.
//! The order of its checks is the order of its errors. Frames change hands in this order: withdrawn from the old
//! owner (leaf cleared, TLBs), content zeroed or kept and cleaned, instruction caches, record, entry of the new owner.

pub mod activate;
pub mod dispatch;
pub mod dma_allow;
pub mod dma_revoke;
pub mod first_touch;
pub mod host_split;
pub mod map;
pub mod map_block;
pub mod reclaim;
pub mod reclaim_block;
pub mod share_accept;
pub mod share_release;
pub mod table_donate;
pub mod table_reclaim;
pub mod vcpu_create;
pub mod vcpu_set_entry;
pub mod vm_create;
pub mod vm_destroy;
pub mod vm_kill;
pub mod vm_split;

use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE, VM_SLOTS};

use crate::addr::{Block, FRAME_SHIFT, Frame, Ipa, VmId};
use crate::owner::{Kind, Record};
use crate::vm::{self, Field, State};
use crate::{Hardware, Outcome, stage2};

/// A VM slot number, whatever its state.
#[inline(always)]
fn vm_slot(register: u64, vm: u64) -> Result<VmId, Outcome> {
    if vm >= VM_SLOTS as u64 {
        return Err(Outcome::invalid(register));
    }
    Ok(VmId(vm))
}

/// A page-aligned intermediate physical address.
#[inline(always)]
fn ipa(register: u64, value: u64) -> Result<Ipa, Outcome> {
    match Ipa::checked(value) {
        Some(ipa) => Ok(ipa),
        None => Err(Outcome::invalid(register)),
    }
}

/// A page-aligned physical address inside the machine's frames.
#[inline(always)]
fn frame<H: Hardware>(hw: H, register: u64, address: u64) -> Result<Frame, Outcome> {
    let index = address.wrapping_sub(hw.ram_base()) >> FRAME_SHIFT;
    if address & (FRAME_SIZE - 1) != 0 || index >= hw.frames() {
        return Err(Outcome::invalid(register));
    }
    Ok(Frame(index))
}

/// A 2 MiB-aligned physical address inside the machine's frames.
#[inline(always)]
fn block<H: Hardware>(hw: H, register: u64, address: u64) -> Result<Block, Outcome> {
    if address & (BLOCK_SIZE - 1) != 0 {
        return Err(Outcome::invalid(register));
    }
    Ok(frame(hw, register, address)?.block())
}

/// A block that the host has as a whole, and its devices have not.
#[inline(always)]
fn check_host_block<H: Hardware>(hw: H, register: u64, block: Block) -> Result<(), Outcome> {
    let kind = hw.block_record(block).kind();
    if kind == Kind::UNCLEARED {
        return Err(Outcome::not_cleared(register));
    }
    if kind != Kind::HOST {
        return Err(Outcome::not_owned(register));
    }
    Ok(())
}

/// A block that a VM has as a whole, and its record.
#[inline(always)]
fn vm_block<H: Hardware>(hw: H, register: u64, address: u64) -> Result<(Block, Record), Outcome> {
    let block = block(hw, register, address)?;
    let record = hw.block_record(block);
    if record.kind() != Kind::VM_PAGE {
        return Err(Outcome::not_owned(register));
    }
    Ok((block, record))
}

/// A frame of a split block, and its record.
#[inline(always)]
fn split_frame<H: Hardware>(hw: H, register: u64, address: u64) -> Result<(Frame, Record), Outcome> {
    let frame = frame(hw, register, address)?;
    let kind = hw.block_record(frame.block()).kind();
    if kind == Kind::HOST {
        return Err(Outcome::needs_split(register));
    }
    if kind == Kind::UNCLEARED {
        return Err(Outcome::not_cleared(register));
    }
    if kind != Kind::SPLIT {
        return Err(Outcome::not_owned(register));
    }
    Ok((frame, hw.frame_record(frame)))
}

/// A frame that the host owns and may give away.
#[inline(always)]
fn host_frame<H: Hardware>(hw: H, register: u64, address: u64) -> Result<Frame, Outcome> {
    let (frame, record) = split_frame(hw, register, address)?;
    if record != Record::HOST {
        return Err(Outcome::not_owned(register));
    }
    Ok(frame)
}

/// The host's level 3 table of the split block that `frame` lies in.
#[inline(always)]
pub(crate) fn host_table<H: Hardware>(hw: H, frame: Frame) -> Frame {
    stage2::target(hw, hw.host_entry(frame.block()))
}

/// Takes a host frame out of the host's stage 2, on all CPUs, before its content or record changes.
#[inline(always)]
fn withdraw_from_host<H: Hardware>(hw: H, frame: Frame) {
    hw.set_table_entry(host_table(hw, frame), frame.slot(), 0);
    hw.invalidate_host_page(frame);
}

/// Takes a block out of the host's stage 2, on all CPUs. One that is UNCLEARED is in nobody's.
#[inline(always)]
fn withdraw_block_from_host<H: Hardware>(hw: H, block: Block) {
    hw.set_host_entry(block, 0);
    hw.invalidate_host_page(block.first());
}

/// Scrubs a block that nobody can reach any more and gives it back to the host.
#[inline(always)]
fn return_block_to_host<H: Hardware>(hw: H, block: Block) {
    hw.zero_block(block);
    hw.invalidate_instructions();
    hw.set_block_record(block, Record::HOST);
    hw.set_host_entry(block, stage2::block(hw, block));
    hw.publish();
}

/// Scrubs a frame that nobody can reach any more and gives it back to the host.
#[inline(always)]
pub(crate) fn return_to_host<H: Hardware>(hw: H, frame: Frame) {
    hw.zero_frame(frame);
    hw.invalidate_instructions();
    hw.set_frame_record(frame, Record::HOST);
    hw.set_table_entry(host_table(hw, frame), frame.slot(), stage2::page(hw, frame));
    hw.publish();
}

/// The VM's table of the next level, named by the entry for `ipa` in its `table` of `level`.
#[inline(always)]
fn next_table<H: Hardware>(hw: H, table: Frame, ipa: Ipa, level: u32) -> Result<Frame, Outcome> {
    let entry = hw.table_entry(table, ipa.index(level));
    if entry & stage2::VALID == 0 {
        return Err(Outcome::table_missing(level as u64 + 1));
    }
    Ok(stage2::target(hw, entry))
}

/// The level 3 table of `vm` for `ipa`. A block that is mapped there is in the way.
#[inline(always)]
fn level3_table<H: Hardware>(hw: H, vm: VmId, ipa: Ipa) -> Result<Frame, Outcome> {
    let level2 = next_table(hw, Frame(hw.vm_word(vm, Field::ROOT)), ipa, 1)?;
    let level3 = next_table(hw, level2, ipa, 2)?;
    if !stage2::is_table(hw.table_entry(level2, ipa.index(2))) {
        return Err(Outcome::ALREADY_MAPPED);
    }
    Ok(level3)
}

/// A living VM: BUILDING or ACTIVE.
#[inline(always)]
fn check_alive<H: Hardware>(hw: H, vm: VmId) -> Result<(), Outcome> {
    let state = vm::state(hw, vm);
    if state != State::BUILDING && state != State::ACTIVE {
        return Err(Outcome::BAD_STATE);
    }
    Ok(())
}

/// A frame of a split block that may be a vCPU's context.
pub(crate) fn vcpu_frame<H: Hardware>(hw: H, register: u64, address: u64) -> Result<Frame, Outcome> {
    let (frame, _) = split_frame(hw, register, address)?;
    Ok(frame)
}
