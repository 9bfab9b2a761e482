//! A fake machine as boot leaves it. Trust label: TOOL.

use std::cell::{Cell, RefCell};

use bulkhead_abi::{BLOCK_SIZE, CPUS_MAX, FRAME_SIZE, id};
use bulkhead_core::Hardware;
use bulkhead_core::addr::{Block, Frame, VmId};
use bulkhead_core::call::dispatch::{self, Registers};
use bulkhead_core::call::first_touch::first_touch;
use bulkhead_core::owner::{Kind, Record};
use bulkhead_core::stage2;
use bulkhead_core::vcpu::exit::Decision;
use bulkhead_core::vcpu::processor::Syndrome;

use crate::hardware::Cpu;
use crate::layout::{Layout, RamRange};
use crate::memory::{Memory, Word};
use crate::trace::Event;
use crate::vcpu::{CpuRegisters, InStep};

/// What the system counter shows at first; every reading adds one.
const FIRST_COUNT: u64 = 0x1000;

/// Ids of host calls that are counted, from that of `version`; as many as in `engine/arch`.
pub(crate) const COUNTED_CALLS: usize = 64;

/// RAM, lock and history of a fake machine. Used by one thread at a time.
pub struct Machine {
    pub(crate) layout: Layout,
    pub(crate) memory: Memory,
    pub(crate) locked: Cell<bool>,
    pub(crate) counter: Cell<u64>,
    /// How many random numbers have been drawn.
    pub(crate) randoms: Cell<u64>,
    pub(crate) calls: RefCell<[u64; COUNTED_CALLS]>,
    pub(crate) events: RefCell<Vec<Event>>,
    /// Whether the random source has something to give.
    pub(crate) entropy: Cell<bool>,
    /// The ID registers op0=3, op1=0, CRn=0, by 8 * CRm + op2.
    pub(crate) identification: Cell<[u64; 64]>,
    pub(crate) cpus: [Cell<CpuRegisters>; CPUS_MAX],
    pub(crate) in_step: [Cell<InStep>; CPUS_MAX],
    /// CPUs that are at EL2 because of a VM.
    pub(crate) in_vm_exit: [Cell<bool>; CPUS_MAX],
    /// Another CPU's store, physical address and value, that comes just before the next exchange of a frame record.
    pub(crate) meanwhile: Cell<Option<(u64, u64)>>,
    ranges: Vec<RamRange>,
}

impl Machine {
    /// A machine with these RAM ranges (ascending, disjoint), 1 to 8 CPUs and `abi::feature`s: the host owns all whole blocks of RAM
    /// except the engine reservation, and one of them is split.
    ///
    /// # Errors
    /// A sentence that says why the machine cannot be.
    pub fn new(ranges: &[RamRange], cpus: u64, features: u64) -> Result<Self, String> {
        let layout = Layout::new(ranges, cpus, features)?;
        let machine = Self {
            layout,
            memory: Memory::zeroed(layout.frames * FRAME_SIZE),
            locked: Cell::new(false),
            counter: Cell::new(FIRST_COUNT),
            randoms: Cell::new(0),
            calls: RefCell::new([0; COUNTED_CALLS]),
            events: RefCell::default(),
            entropy: Cell::new(true),
            identification: Cell::new([u64::MAX; 64]),
            cpus: [const { Cell::new(CpuRegisters::RESET) }; CPUS_MAX],
            in_step: [const { Cell::new(InStep::RESET) }; CPUS_MAX],
            in_vm_exit: [const { Cell::new(false) }; CPUS_MAX],
            meanwhile: Cell::new(None),
            ranges: ranges.to_vec(),
        };
        machine.boot();
        machine.memory.written.take();
        Ok(machine)
    }

    /// The machine as CPU `index` sees it.
    ///
    /// # Panics
    /// If there is no such CPU.
    #[must_use]
    pub fn cpu(&self, index: u64) -> Cpu<'_> {
        assert!(index < self.layout.cpus, "the machine has no CPU {index}");
        Cpu { machine: self, index }
    }

    /// Where everything is.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The word at a physical address.
    pub(crate) fn word(&self, address: u64) -> Word<'_> {
        self.memory.word(address - self.layout.ram_base)
    }

    /// Whether all of `[address, address + length)` is RAM.
    #[must_use]
    pub fn is_ram(&self, address: u64, length: u64) -> bool {
        let inside = |range: &RamRange| {
            address >= range.base && length <= range.size && address - range.base <= range.size - length
        };
        self.ranges.iter().any(inside)
    }

    /// A call of the host: registers x0 to x17, changed into those of the answer.
    ///
    /// # Panics
    /// If there is no such CPU, or the engine broke the contract of [`bulkhead_core::Hardware`].
    pub fn host_call(&self, cpu: u64, registers: &mut Registers) {
        let hw = self.cpu(cpu);
        if let Some(counter) = self.calls.borrow_mut().get_mut(registers[0].wrapping_sub(id::VERSION) as usize) {
            *counter += 1;
        }
        if registers[0] == id::VCPU_RUN {
            hw.vcpu_run(registers);
        } else {
            dispatch::host_call(hw, registers);
        }
    }

    /// A call of vCPU 0 of `vm` on a CPU: its registers x0 to x17, changed into those of the answer.
    ///
    /// # Panics
    /// As [`Machine::host_call`], and if the VM has no vCPU 0.
    pub fn vm_call(&self, cpu: u64, vm: VmId, registers: &mut Registers) -> Decision {
        self.cpu(cpu).vm_call(vm, registers)
    }

    /// A synchronous exception, with the syndrome that the CPU gives, from the vCPU with context `frame`.
    ///
    /// # Panics
    /// As [`Machine::host_call`].
    pub fn exception(&self, cpu: u64, frame: Frame, syndrome: Syndrome) -> Decision {
        self.cpu(cpu).exception(frame, syndrome)
    }

    /// A physical interrupt while the vCPU with context `frame` ran.
    ///
    /// # Panics
    /// As [`Machine::host_call`].
    pub fn interrupt(&self, cpu: u64, frame: Frame, intid: u64) -> Decision {
        self.cpu(cpu).interrupt(frame, intid)
    }

    /// An SError interrupt while the vCPU with context `frame` ran.
    ///
    /// # Panics
    /// As [`Machine::host_call`].
    pub fn system_error(&self, cpu: u64, frame: Frame) -> Decision {
        self.cpu(cpu).system_error(frame)
    }

    /// The host's access to a block that nobody has touched since boot; nothing if the ownership lock is taken.
    ///
    /// # Panics
    /// As [`Machine::host_call`].
    pub fn first_touch(&self, cpu: u64, block: Block) {
        let hw = self.cpu(cpu);
        if hw.try_lock() {
            // Whatever the answer: the record decides what the host finds when it tries again.
            let _ = first_touch(hw, block);
            hw.unlock();
        }
    }

    /// Lets another CPU store `value` at a physical address just before the next exchange of a frame record.
    pub fn meanwhile(&self, address: u64, value: u64) {
        self.meanwhile.set(Some((address, value)));
    }

    fn boot(&self) {
        let layout = &self.layout;
        let hw = self.cpu(0);
        for block in (0..layout.blocks()).filter(|&block| layout.is_host(&self.ranges, block)) {
            let descriptor = stage2::address(hw, Block(block).first()) | stage2::BLOCK;
            self.word(layout.block_records + 8 * block).set(Kind::HOST.0);
            self.word(layout.host_level2 + 8 * block).set(descriptor);
        }
        self.link_upper_tables();
        self.split(Block((layout.split_block - layout.ram_base) / BLOCK_SIZE));
    }

    /// Levels 0 and 1 of the host's stage 2: one level 2 page for each GiB of the window.
    fn link_upper_tables(&self) {
        let layout = &self.layout;
        let gibs = (layout.frames * FRAME_SIZE).div_ceil(1 << 30);
        let first = layout.ram_base >> 30;
        for gib in first..first + gibs {
            let level1 = layout.host_level1 + ((gib >> 9) - (first >> 9)) * FRAME_SIZE;
            self.word(layout.host_root + 8 * (gib >> 9)).set(level1 | stage2::TABLE);
            let level2 = layout.host_level2 + (gib - first) * FRAME_SIZE;
            self.word(level1 + 8 * (gib & 511)).set(level2 | stage2::TABLE);
        }
    }

    fn split(&self, block: Block) {
        let layout = &self.layout;
        let hw = self.cpu(0);
        let table = block.first();
        for slot in 0..512 {
            let frame = Frame(table.0 + slot);
            let (record, leaf) = match slot {
                0 => (Record::host_table(block), 0),
                _ => (Record::HOST, stage2::page(hw, frame)),
            };
            self.word(layout.frame_records + 8 * frame.0).set(record.0);
            self.word(stage2::address(hw, table) + 8 * slot).set(leaf);
        }
        self.word(layout.block_records + 8 * block.0).set(Kind::SPLIT.0);
        self.word(layout.host_level2 + 8 * block.0).set(stage2::table(hw, table));
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
