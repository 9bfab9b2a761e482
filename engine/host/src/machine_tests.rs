//! The fake machine by itself: layout, boot state, contract checks.

use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE, feature, id, status};
use bulkhead_core::Hardware;
use bulkhead_core::addr::{Block, Frame, VmId};
use bulkhead_core::owner::{Kind, Record};
use bulkhead_core::vm::{Field, State};

use super::Machine;
use crate::layout::RamRange;
use crate::memory::Written;
use crate::trace::{Event, Kind as Did};

const MIB: u64 = 1 << 20;
const BASE: u64 = 0x4000_0000;

fn range(base: u64, size: u64) -> RamRange {
    RamRange { base, size }
}

fn machine() -> Machine {
    Machine::new(&[range(BASE, 32 * MIB), range(BASE + 64 * MIB, 16 * MIB)], 2, 0).expect("a machine")
}

/// Walks the host's stage 2 from level 0, as the CPU does.
fn walk(machine: &Machine, address: u64) -> Option<u64> {
    let mut table = machine.layout().host_root;
    for level in 0..4 {
        let shift = 39 - 9 * level;
        let entry = machine.word(table + 8 * ((address >> shift) & 511)).get();
        let output = entry & 0x0000_ffff_ffff_f000;
        match entry & 3 {
            3 if level < 3 => table = output,
            3 => return Some(output | address & 0xfff),
            1 if level == 2 => return Some(output | address & (BLOCK_SIZE - 1)),
            _ => return None,
        }
    }
    None
}

#[test]
fn the_host_reaches_exactly_its_own_ram() {
    let machine = machine();
    let layout = *machine.layout();
    let split_table = layout.split_block;
    for page in 0..layout.frames {
        let address = layout.ram_base + page * FRAME_SIZE;
        let reserved = address.wrapping_sub(layout.reservation.base) < layout.reservation.size;
        let is_host = machine.is_ram(address, FRAME_SIZE) && !reserved && address != split_table;
        assert_eq!(walk(&machine, address).is_some(), is_host, "{address:#x}");
        assert!(walk(&machine, address).is_none_or(|output| output == address));
    }
}

#[test]
fn records_say_what_the_tables_say() {
    let machine = machine();
    let hw = machine.cpu(0);
    for block in 0..machine.layout().blocks() {
        let kind = hw.block_record(Block(block)).kind();
        let first = Block(block).first();
        let mapped = walk(&machine, machine.layout().ram_base + (first.0 + 1) * FRAME_SIZE).is_some();
        assert_eq!(kind != Kind::ENGINE, mapped, "{kind:?} {block}");
    }
    let split = Frame((machine.layout().split_block - BASE) / FRAME_SIZE);
    assert_eq!(hw.frame_record(split), Record::host_table(split.block()));
    assert_eq!(hw.frame_record(Frame(split.0 + 511)), Record::HOST);
}

#[test]
fn ram_may_start_and_end_anywhere() {
    let odd = range(0x7fe0_1000, 21 * MIB + 0x5000);
    let machine = Machine::new(&[odd], 1, 0).expect("a machine");
    let layout = machine.layout();
    assert_eq!(layout.ram_base, BASE);
    let hw = machine.cpu(0);
    let first_whole = Block((0x8000_0000 - BASE) / BLOCK_SIZE);
    assert_eq!(hw.block_record(Block(first_whole.0 - 1)), Record::ENGINE);
    assert_eq!(hw.block_record(first_whole), Record::HOST);
    assert_eq!(walk(&machine, 0x8000_0000), Some(0x8000_0000));
    assert_eq!(walk(&machine, odd.base), None);
}

#[test]
fn impossible_machines_are_refused() {
    let refused = |ranges: &[RamRange], cpus| Machine::new(ranges, cpus, 0).is_err();
    assert!(refused(&[], 1));
    assert!(refused(&[range(BASE, 32 * MIB)], 0));
    assert!(refused(&[range(BASE, 32 * MIB)], 9));
    assert!(refused(&[range(BASE, 2 * MIB)], 1));
    assert!(refused(&[range(BASE, 32 * MIB), range(BASE + MIB, 32 * MIB)], 1));
    assert!(refused(&[range(BASE, 8 * MIB), range(BASE + (1 << 40), 8 * MIB)], 1));
    assert!(refused(&[range(1 << 46, 32 * MIB)], 1));
}

#[test]
fn a_call_leaves_its_effects_in_order() {
    let machine = machine();
    let root = machine.layout().split_block + FRAME_SIZE;
    let mut registers = [0; 18];
    registers[..5].copy_from_slice(&[id::VM_CREATE, 0, root, 1, 0]);
    registers[5..7].copy_from_slice(&[0, 4096]);
    machine.host_call(0, &mut registers);
    assert_eq!(registers[0], status::SUCCESS);
    let frame = (root - BASE) / FRAME_SIZE;
    let events = machine.events.borrow();
    assert_eq!(events[0], Event::new(Did::Lock, []));
    assert_eq!(events[1], Event::new(Did::SetTableEntry, [frame - 1, 1, 0]));
    assert_eq!(events[2], Event::new(Did::InvalidateHostPage, [frame]));
    assert_eq!(events[3], Event::new(Did::ZeroFrame, [frame]));
    assert_eq!(events.last(), Some(&Event::new(Did::Unlock, [])));
}

#[test]
fn a_call_leaves_the_words_that_it_wrote() {
    let machine = Machine::new(&[range(BASE, 32 * MIB)], 1, feature::DMA_WINDOWS).expect("a machine");
    assert!(machine.memory.written.borrow().is_empty());
    let block = Block((machine.layout().split_block - BASE) / BLOCK_SIZE - 1);
    let mut registers = [0; 18];
    registers[..2].copy_from_slice(&[id::DMA_ALLOW, BASE + block.0 * BLOCK_SIZE]);
    machine.host_call(0, &mut registers);
    let word = |address: u64| Written { first: (address - BASE) / 8 + block.0, count: 1 };
    let expected = [word(machine.layout().block_records), word(machine.layout().dma_level2)];
    assert_eq!(*machine.memory.written.borrow(), expected);
    machine.memory.written.take();
    machine.first_touch(0, block);
    assert!(machine.memory.written.borrow().is_empty());
}

#[test]
#[should_panic(expected = "without the ownership lock")]
fn changing_a_record_without_the_lock_is_a_defect() {
    machine().cpu(0).set_vm_word(VmId(0), Field::STATE, State::ACTIVE.0);
}

#[test]
#[should_panic(expected = "not split")]
fn reading_a_frame_record_of_a_whole_block_is_a_defect() {
    let _ = machine().cpu(0).frame_record(Frame(0));
}
