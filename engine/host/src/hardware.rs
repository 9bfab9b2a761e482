//! The fake machine as the engine's decisions see it. Trust label: TOOL.
//!
//! Checks the caller's side of the contract of [`Hardware`]; a violation panics.

use std::iter::repeat;

use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE, VM_SLOTS, feature};
use bulkhead_core::Hardware;
use bulkhead_core::addr::{Block, Frame, Ipa, VmId};
use bulkhead_core::owner::Record;
use bulkhead_core::stage2;
use bulkhead_core::vm::{Field, RECORD_WORDS, State};
use sha2::{Digest, Sha256};

use crate::machine::Machine;
use crate::memory::{Word, Words};
use crate::trace::{Event, Kind as Did};

/// The machine as one of its CPUs sees it.
#[derive(Clone, Copy)]
pub struct Cpu<'m> {
    pub(crate) machine: &'m Machine,
    pub(crate) index: u64,
}

impl<'m> Cpu<'m> {
    pub(crate) fn note<const N: usize>(self, kind: Did, operands: [u64; N]) {
        self.machine.events.borrow_mut().push(Event::new(kind, operands));
    }

    fn change<const N: usize>(self, kind: Did, operands: [u64; N]) {
        assert!(self.machine.locked.get(), "{kind:?} {operands:x?} without the ownership lock");
        self.note(kind, operands);
    }

    fn block(self, array: u64, block: Block) -> Word<'m> {
        assert!(block.0 < self.machine.layout.blocks(), "no {block:?}");
        self.machine.word(array + 8 * block.0)
    }

    fn record(self, frame: Frame) -> Word<'m> {
        assert!(frame.0 < self.frames(), "no {frame:?}");
        assert!(self.block_record(frame.block()) == Record::SPLIT, "{frame:?} is in a block that is not split");
        self.machine.word(self.machine.layout.frame_records + 8 * frame.0)
    }

    /// The records of the 512 frames of a block.
    fn records_of(self, block: Block) -> Words<'m> {
        assert!(block.0 < self.machine.layout.blocks(), "no {block:?}");
        let records = self.machine.layout.frame_records - self.ram_base() + 8 * block.first().0;
        self.machine.memory.words(records, 512)
    }

    pub(crate) fn content(self, frame: Frame) -> Words<'m> {
        assert!(frame.0 < self.frames(), "no {frame:?}");
        self.machine.memory.words(frame.0 * FRAME_SIZE, FRAME_SIZE / 8)
    }

    fn field(self, vm: VmId, field: Field) -> Word<'m> {
        assert!(vm.0 < VM_SLOTS as u64 && field.0 < RECORD_WORDS as u64, "no {field:?} of {vm:?}");
        self.machine.word(self.machine.layout.vm_records + 8 * (vm.0 * RECORD_WORDS as u64 + field.0))
    }

    /// Digest words `field..field + 4` of `vm` = SHA-256(those words ‖ data), all little-endian (FIPS 180-4).
    fn digest(self, vm: VmId, field: Field, data: impl Iterator<Item = u64>) {
        let words = (0..4).map(|word| self.field(vm, Field(field.0 + word)));
        let mut hash = Sha256::new();
        words.clone().map(Word::get).chain(data).for_each(|word| hash.update(word.to_le_bytes()));
        for (word, bytes) in words.zip(hash.finalize().chunks_exact(8)) {
            word.set(u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
        }
    }
}

impl Hardware for Cpu<'_> {
    fn ram_base(self) -> u64 {
        self.machine.layout.ram_base
    }
    fn frames(self) -> u64 {
        self.machine.layout.frames
    }
    fn cpus(self) -> u64 {
        self.machine.layout.cpus
    }
    fn cpu(self) -> u64 {
        self.index
    }

    fn block_record(self, block: Block) -> Record {
        Record(self.block(self.machine.layout.block_records, block).get())
    }
    fn set_block_record(self, block: Block, record: Record) {
        self.change(Did::SetBlockRecord, [block.0, record.0]);
        self.block(self.machine.layout.block_records, block).set(record.0);
    }
    fn frame_record(self, frame: Frame) -> Record {
        Record(self.record(frame).get())
    }
    fn set_frame_record(self, frame: Frame, record: Record) {
        self.change(Did::SetFrameRecord, [frame.0, record.0]);
        self.record(frame).set(record.0);
    }
    fn exchange_frame_record(self, frame: Frame, old: Record, new: Record) -> bool {
        if let Some((address, value)) = self.machine.meanwhile.take() {
            self.machine.word(address).set(value);
        }
        let cell = self.record(frame);
        let equal = cell.get() == old.0;
        if equal {
            self.note(Did::ExchangeFrameRecord, [frame.0, old.0, new.0]);
            cell.set(new.0);
        }
        equal
    }
    fn fill_frame_records(self, block: Block) {
        self.change(Did::FillFrameRecords, [block.0]);
        assert!(self.block_record(block) != Record::SPLIT, "{block:?} is split already");
        self.records_of(block).fill(repeat(Record::HOST.0));
    }
    fn fill_vm_records(self, block: Block, first: Record) {
        self.change(Did::FillVmRecords, [block.0, first.0]);
        assert!(self.block_record(block) != Record::SPLIT, "{block:?} is split already");
        self.records_of(block).fill((0..512).map(|slot| first.with_slot(slot).0));
    }

    fn host_entry(self, block: Block) -> u64 {
        self.block(self.machine.layout.host_level2, block).get()
    }
    fn set_host_entry(self, block: Block, descriptor: u64) {
        self.change(Did::SetHostEntry, [block.0, descriptor]);
        self.block(self.machine.layout.host_level2, block).set(descriptor);
    }
    fn fill_table(self, table: Frame, block: Block) {
        self.change(Did::FillTable, [table.0, block.0]);
        let leaves = (block.first().0..).map(|frame| stage2::page(self, Frame(frame)));
        self.content(table).fill(leaves);
    }

    fn has_dma(self) -> bool {
        self.machine.layout.features & feature::DMA_WINDOWS != 0
    }
    fn set_dma_entry(self, block: Block, descriptor: u64) {
        assert!(self.has_dma(), "there is no SMMU");
        self.change(Did::SetDmaEntry, [block.0, descriptor]);
        self.block(self.machine.layout.dma_level2, block).set(descriptor);
    }
    fn invalidate_dma(self, block: Block) {
        self.change(Did::InvalidateDma, [block.0]);
    }

    fn table_entry(self, table: Frame, index: u64) -> u64 {
        self.content(table).at(index).get()
    }
    fn set_table_entry(self, table: Frame, index: u64, descriptor: u64) {
        self.change(Did::SetTableEntry, [table.0, index, descriptor]);
        self.content(table).at(index).set(descriptor);
    }
    fn table_is_empty(self, table: Frame) -> bool {
        self.content(table).values().all(|entry| entry & stage2::VALID == 0)
    }

    fn zero_frame(self, frame: Frame) {
        self.note(Did::ZeroFrame, [frame.0]);
        self.content(frame).fill(repeat(0));
    }
    fn zero_block(self, block: Block) {
        self.change(Did::ZeroBlock, [block.0]);
        assert!(block.0 < self.machine.layout.blocks(), "no {block:?}");
        self.machine.memory.words(block.0 * BLOCK_SIZE, BLOCK_SIZE / 8).fill(repeat(0));
    }
    fn clean_frame(self, frame: Frame) {
        self.note(Did::CleanFrame, [frame.0]);
    }
    fn invalidate_instructions(self) {
        self.note(Did::InvalidateInstructions, []);
    }

    fn publish(self) {
        self.note(Did::Publish, []);
    }
    fn invalidate_vm_page(self, vm: VmId, ipa: Ipa) {
        self.note(Did::InvalidateVmPage, [vm.0, ipa.0]);
    }
    fn invalidate_vm(self, vm: VmId) {
        self.note(Did::InvalidateVm, [vm.0]);
    }
    fn invalidate_host_page(self, frame: Frame) {
        assert!(!self.in_vm_exit(), "the VMID of a VM is current");
        self.note(Did::InvalidateHostPage, [frame.0]);
    }

    fn invalidate_host_page_from_vm(self, frame: Frame) {
        assert!(self.in_vm_exit(), "the host's VMID is current");
        self.note(Did::InvalidateHostPageFromVm, [frame.0]);
    }

    fn vm_word(self, vm: VmId, field: Field) -> u64 {
        self.field(vm, field).get()
    }
    fn set_vm_word(self, vm: VmId, field: Field, value: u64) {
        self.change(Did::SetVmWord, [vm.0, field.0, value]);
        self.field(vm, field).set(value);
    }
    fn clear_vm(self, vm: VmId) {
        self.change(Did::ClearVm, [vm.0]);
        (0..RECORD_WORDS as u64).for_each(|word| self.field(vm, Field(word)).set(0));
    }
    fn exchange_vm_state(self, vm: VmId, old: State, new: State) -> bool {
        let cell = self.field(vm, Field::STATE);
        let equal = cell.get() == old.0;
        if equal {
            self.note(Did::ExchangeVmState, [vm.0, old.0, new.0]);
            cell.set(new.0);
        }
        equal
    }

    fn set_context_word(self, frame: Frame, word: u64, value: u64) {
        self.note(Did::SetContextWord, [frame.0, word, value]);
        self.content(frame).at(word).set(value);
    }
    fn counter(self) -> u64 {
        self.machine.counter.replace(self.machine.counter.get() + 1)
    }

    fn has_random(self) -> bool {
        self.machine.layout.features & feature::RANDOM != 0
    }
    fn random(self) -> Option<[u64; 3]> {
        if !self.has_random() || !self.machine.entropy.get() {
            return None;
        }
        self.note(Did::Random, []);
        let number = self.machine.randoms.replace(self.machine.randoms.get() + 1);
        let bytes = Sha256::digest(number.to_le_bytes());
        let word = |index: usize| u64::from_le_bytes(bytes[8 * index..][..8].try_into().expect("eight bytes"));
        Some([word(0), word(1), word(2)])
    }

    fn measure_frame(self, vm: VmId, header: [u64; 4], frame: Frame) {
        let [a, b, c, d] = header;
        self.change(Did::MeasureFrame, [vm.0, a, b, c, d, frame.0]);
        let content = self.content(frame).values();
        self.digest(vm, Field::measurement(0), header.into_iter().chain(content));
    }
    fn measure_words(self, vm: VmId, field: Field, data: [u64; 4]) {
        let [a, b, c, d] = data;
        self.note(Did::MeasureWords, [vm.0, field.0, a, b, c, d]);
        self.digest(vm, field, data.into_iter());
    }

    fn try_lock(self) -> bool {
        let taken = self.machine.locked.replace(true);
        if !taken {
            self.note(Did::Lock, []);
        }
        !taken
    }
    fn unlock(self) {
        self.change(Did::Unlock, []);
        self.machine.locked.set(false);
    }
}
