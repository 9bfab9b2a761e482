//! A machine that threads share; each of them is one of its CPUs. Trust label: TOOL.
//!
//! Accesses are those of `engine/arch`, with one difference: VM records are read with acquire and written with release.
//! At EL2 that order follows from the exchanges of lock and claim, which are full barriers in Arm's memory model
//! (DDI 0487, B2.3: an atomic with acquire and release), and ThreadSanitizer does not know.

use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bulkhead_abi::FRAME_SIZE;
use bulkhead_core::Hardware;
use bulkhead_core::addr::{Block, Frame, Ipa, VmId};
use bulkhead_core::hardware::Platform;
use bulkhead_core::owner::{Record, RunState};
use bulkhead_core::stage2;
use bulkhead_core::vcpu::processor::{El1Exception, Processor, Syndrome};
use bulkhead_core::vcpu::run::release;
use bulkhead_core::vm::{Field, RECORD_WORDS, State};

use crate::layout::{Layout, RamRange};
use crate::machine::Machine;

/// Memory and lock.
pub(super) struct Shared {
    pub(super) layout: Layout,
    words: Box<[UnsafeCell<u64>]>,
    lock: AtomicBool,
    counter: AtomicU64,
}

// SAFETY: the words are accessed as the engine's protocol says; that this suffices is what is tested.
unsafe impl Sync for Shared {}

impl Shared {
    /// A machine as boot leaves it.
    pub(super) fn new(ranges: &[RamRange], cpus: u64) -> Self {
        let booted = Machine::new(ranges, cpus, 0).expect("a machine");
        let layout = *booted.layout();
        let count = layout.frames * FRAME_SIZE / 8;
        let words = booted.memory.words(0, count).values().map(UnsafeCell::new).collect();
        Self { layout, words, lock: AtomicBool::new(false), counter: AtomicU64::new(1) }
    }

    fn word(&self, address: u64) -> *mut u64 {
        self.words[usize::try_from((address - self.layout.ram_base) / 8).expect("an index")].get()
    }

    /// A word that several CPUs access at the same time.
    fn atomic(&self, address: u64) -> &AtomicU64 {
        // SAFETY: the word is aligned and lives as long as `self`; records are never accessed otherwise.
        unsafe { AtomicU64::from_ptr(self.word(address)) }
    }
}

/// One CPU: its thread alone has it.
pub(super) struct Cpu<'m> {
    pub(super) machine: &'m Shared,
    pub(super) index: u64,
    pub(super) loaded: Cell<Option<Frame>>,
    pub(super) syndrome: Cell<Syndrome>,
}

impl Cpu<'_> {
    fn block(&self, array: u64, block: Block) -> u64 {
        array + 8 * block.0
    }

    fn frame_word(&self, frame: Frame, index: u64) -> *mut u64 {
        self.machine.word(self.machine.layout.ram_base + frame.0 * FRAME_SIZE + 8 * index)
    }

    fn record(&self, frame: Frame) -> &AtomicU64 {
        self.machine.atomic(self.machine.layout.frame_records + 8 * frame.0)
    }

    fn field(&self, vm: VmId, field: Field) -> &AtomicU64 {
        self.machine.atomic(self.machine.layout.vm_records + 8 * (vm.0 * RECORD_WORDS as u64 + field.0))
    }

    /// The first word of a vCPU's context, which this CPU has claimed.
    pub(super) fn context(&self, frame: Frame) -> *mut u64 {
        self.frame_word(frame, 0)
    }

    /// Gives back the vCPU that is loaded here, if any.
    pub(super) fn unload(&self, run: RunState) {
        if let Some(frame) = self.loaded.take() {
            release(self, frame, run);
        }
    }
}

fn exchange(word: &AtomicU64, old: u64, new: u64) -> bool {
    word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// A word that one CPU at a time may access.
fn read(word: *mut u64) -> u64 {
    // SAFETY: `word` comes from `Shared::word`.
    unsafe { ptr::read(word) }
}

fn write(word: *mut u64, value: u64) {
    // SAFETY: as in `read`.
    unsafe { ptr::write(word, value) }
}

impl Hardware for &Cpu<'_> {
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
        let word = self.block(self.machine.layout.block_records, block);
        Record(self.machine.atomic(word).load(Ordering::Acquire))
    }
    fn set_block_record(self, block: Block, record: Record) {
        let word = self.block(self.machine.layout.block_records, block);
        self.machine.atomic(word).store(record.0, Ordering::Release);
    }
    fn frame_record(self, frame: Frame) -> Record {
        Record(self.record(frame).load(Ordering::Relaxed))
    }
    fn set_frame_record(self, frame: Frame, record: Record) {
        self.record(frame).store(record.0, Ordering::Relaxed);
    }
    fn exchange_frame_record(self, frame: Frame, old: Record, new: Record) -> bool {
        exchange(self.record(frame), old.0, new.0)
    }
    fn fill_frame_records(self, block: Block) {
        (0..512).for_each(|slot| self.set_frame_record(Frame(block.first().0 + slot), Record::HOST));
    }
    fn fill_vm_records(self, block: Block, first: Record) {
        (0..512).for_each(|slot| self.set_frame_record(Frame(block.first().0 + slot), first.with_slot(slot)));
    }

    fn host_entry(self, block: Block) -> u64 {
        read(self.machine.word(self.block(self.machine.layout.host_level2, block)))
    }
    fn set_host_entry(self, block: Block, descriptor: u64) {
        write(self.machine.word(self.block(self.machine.layout.host_level2, block)), descriptor);
    }
    fn fill_table(self, table: Frame, block: Block) {
        (0..512).for_each(|slot| {
            self.set_table_entry(table, slot, stage2::page(self, Frame(block.first().0 + slot)));
        });
    }

    fn has_dma(self) -> bool {
        false
    }
    fn set_dma_entry(self, _block: Block, _descriptor: u64) {
        unreachable!("there is no SMMU");
    }
    fn invalidate_dma(self, _block: Block) {
        unreachable!("there is no SMMU");
    }

    fn table_entry(self, table: Frame, index: u64) -> u64 {
        read(self.frame_word(table, index))
    }
    fn set_table_entry(self, table: Frame, index: u64, descriptor: u64) {
        write(self.frame_word(table, index), descriptor);
    }
    fn table_is_empty(self, table: Frame) -> bool {
        (0..512).all(|index| self.table_entry(table, index) & stage2::VALID == 0)
    }

    fn zero_frame(self, frame: Frame) {
        (0..512).for_each(|index| write(self.frame_word(frame, index), 0));
    }
    fn zero_block(self, block: Block) {
        (0..512).for_each(|slot| self.zero_frame(Frame(block.first().0 + slot)));
    }
    fn clean_frame(self, _frame: Frame) {}
    fn invalidate_instructions(self) {}
    fn publish(self) {}
    fn invalidate_vm_page(self, _vm: VmId, _ipa: Ipa) {}
    fn invalidate_vm(self, _vm: VmId) {}
    fn invalidate_host_page(self, _frame: Frame) {}
    fn invalidate_host_page_from_vm(self, _frame: Frame) {}

    fn vm_word(self, vm: VmId, field: Field) -> u64 {
        self.field(vm, field).load(Ordering::Acquire)
    }
    fn set_vm_word(self, vm: VmId, field: Field, value: u64) {
        self.field(vm, field).store(value, Ordering::Release);
    }
    fn clear_vm(self, vm: VmId) {
        (0..RECORD_WORDS as u64).rev().for_each(|word| self.set_vm_word(vm, Field(word), 0));
    }
    fn exchange_vm_state(self, vm: VmId, old: State, new: State) -> bool {
        exchange(self.field(vm, Field::STATE), old.0, new.0)
    }

    fn set_context_word(self, frame: Frame, word: u64, value: u64) {
        write(self.frame_word(frame, word), value);
    }
    fn counter(self) -> u64 {
        self.machine.counter.fetch_add(1, Ordering::Relaxed)
    }

    fn has_random(self) -> bool {
        false
    }
    fn random(self) -> Option<[u64; 3]> {
        None
    }

    fn measure_frame(self, vm: VmId, header: [u64; 4], frame: Frame) {
        let content = (0..512).fold(0, |sum: u64, index| sum.wrapping_add(read(self.frame_word(frame, index))));
        self.measure_words(vm, Field::measurement(0), header.map(|word| word ^ content));
    }
    /// No hash: which words are read and written is all that matters here.
    fn measure_words(self, vm: VmId, field: Field, data: [u64; 4]) {
        for (word, value) in (0..).zip(data) {
            let digest = Field(field.0 + word);
            self.set_vm_word(vm, digest, self.vm_word(vm, digest).rotate_left(1) ^ value);
        }
    }

    fn try_lock(self) -> bool {
        !self.machine.lock.swap(true, Ordering::AcqRel)
    }
    fn unlock(self) {
        self.machine.lock.store(false, Ordering::Release);
    }
}

impl Processor for &Cpu<'_> {
    fn syndrome(self) -> Syndrome {
        self.syndrome.get()
    }
    fn vector_base(self) -> u64 {
        0
    }
    fn system_control(self) -> u64 {
        0
    }
    fn set_exception(self, _exception: El1Exception) {}
    fn id_register(self, _crm: u64, _op2: u64) -> u64 {
        0
    }
    fn set_debug_register(self, _crm: u64, _op2: u64, _value: u64) {}
    fn virtual_timer(self) -> (u64, u64) {
        (0, 0)
    }
    fn pending_interrupt(self) -> u64 {
        1023
    }
    fn acknowledge_interrupt(self) {}
    fn set_timer_list_register(self, _value: u64) {}
    fn timer_list_register(self) -> u64 {
        0
    }
}

impl Platform for &Cpu<'_> {
    fn log_read(self, _offset: u64) -> [u64; 10] {
        [0; 10]
    }
    fn statistic(self, _kind: u64, _index: u64) -> Option<u64> {
        None
    }
    fn host_psci(self, _function: u64, _arguments: [u64; 3]) -> Option<u64> {
        None
    }
    fn put_vcpu(self) {
        self.unload(RunState::RUNNABLE);
    }
}
