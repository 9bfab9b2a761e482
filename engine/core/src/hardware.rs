//! The machine as the engine's decisions see it. Trust label: PROVED (the trait); its implementations are TRUSTED
//! (`engine/arch`) and TOOL (`engine/host`).
//!
//! Every method is a single access, or a named bulk primitive with a contract of its own. Implementations are
//! `Copy` handles (a zero-sized type at EL2), so that handing one on costs no instruction. Accesses to shared state
//! are volatile or atomic; callers of the `set_` methods hold the ownership lock.

use crate::addr::{Block, Frame, Ipa, VmId};
use crate::owner::Record;
use crate::vm::{Field, State};

/// The machine below the engine.
pub trait Hardware: Copy {
    /// Physical address of frame 0: the lowest RAM address rounded down to 1 GiB. Constant.
    fn ram_base(self) -> u64;
    /// Number of frame indices, a multiple of 512, at most 2^28. Constant.
    fn frames(self) -> u64;
    /// Number of CPUs. Constant.
    fn cpus(self) -> u64;
    /// Index of the CPU that executes this.
    fn cpu(self) -> u64;

    /// Record of a block, which is below `frames() / 512`.
    fn block_record(self, block: Block) -> Record;
    /// Changes the record of a block.
    fn set_block_record(self, block: Block, record: Record);
    /// Record of a frame of a SPLIT block.
    fn frame_record(self, frame: Frame) -> Record;
    /// Changes the record of a frame of a SPLIT block.
    fn set_frame_record(self, frame: Frame, record: Record);
    /// Compare-and-swap (acquire and release) of a frame record; true if it was `old`.
    fn exchange_frame_record(self, frame: Frame, old: Record, new: Record) -> bool;
    /// Writes HOST to the records of all 512 frames of a block that is not split yet.
    fn fill_frame_records(self, block: Block);
    /// Writes the records of all 512 frames of a block that is not split yet: `first`, a VM_PAGE in slot 0, and its
    /// like in slots 1 to 511.
    fn fill_vm_records(self, block: Block, first: Record);

    /// Level 2 descriptor of the host's stage 2 for a block.
    fn host_entry(self, block: Block) -> u64;
    /// Changes the level 2 descriptor of the host's stage 2 for a block.
    fn set_host_entry(self, block: Block, descriptor: u64);
    /// Fills `table` with the 512 level 3 descriptors of the frames of `block` as RAM, in their order.
    fn fill_table(self, table: Frame, block: Block);

    /// Whether there are DMA windows: an SMMU stands between RAM and the host's devices. Constant.
    fn has_dma(self) -> bool;
    /// Changes the level 2 descriptor of the host's devices, which the SMMU uses, for a block.
    fn set_dma_entry(self, block: Block, descriptor: u64);
    /// After a devices' entry was cleared: the SMMU's TLB invalidation, completed by `CMD_SYNC`.
    fn invalidate_dma(self, block: Block);

    /// Word `index` (below 512) of the translation table in `table`.
    fn table_entry(self, table: Frame, index: u64) -> u64;
    /// Changes a word of a translation table (one volatile 64-bit store).
    fn set_table_entry(self, table: Frame, index: u64, descriptor: u64);
    /// Whether all 512 entries of a translation table are invalid. Reads all, stops nowhere early.
    fn table_is_empty(self, table: Frame) -> bool;

    /// Zeroes a frame, cleans and invalidates it to the point of coherency.
    fn zero_frame(self, frame: Frame);
    /// Zeroes the 512 frames of a block, cleans and invalidates them to the point of coherency.
    fn zero_block(self, block: Block);
    /// Cleans and invalidates a frame to the point of coherency without changing it.
    fn clean_frame(self, frame: Frame);
    /// `IC IALLUIS`; `DSB ISH`; `ISB`: no stale instruction of a frame that changes hands survives.
    fn invalidate_instructions(self);

    /// Makes earlier table writes visible to the walkers (`DSB ISHST`).
    fn publish(self);
    /// After a leaf or table entry of `vm` for `ipa` was cleared: `DSB ISHST`, `TLBI IPAS2E1IS`, `DSB ISH`,
    /// `TLBI VMALLE1IS`, `DSB ISH`, `ISB`, with the VMID of `vm` current.
    fn invalidate_vm_page(self, vm: VmId, ipa: Ipa);
    /// Everything cached for the VMID of `vm`, at both stages, on all CPUs.
    fn invalidate_vm(self, vm: VmId);
    /// After a host leaf or block entry for the frame was cleared: as `invalidate_vm_page`, with VMID 0.
    fn invalidate_host_page(self, frame: Frame);
    /// The same while the VMID of a VM is current: at a VM's exit.
    fn invalidate_host_page_from_vm(self, frame: Frame);

    /// A word of the record of `vm`, which is below `abi::VM_SLOTS`.
    fn vm_word(self, vm: VmId, field: Field) -> u64;
    /// Changes a word of the record of `vm`.
    fn set_vm_word(self, vm: VmId, field: Field, value: u64);
    /// Zeroes all 64 words of the record of `vm`, STATE last.
    fn clear_vm(self, vm: VmId);
    /// Compare-and-swap of the STATE word of `vm`; true if it was `old`.
    fn exchange_vm_state(self, vm: VmId, old: State, new: State) -> bool;

    /// Changes word `word` (below 512) of the vCPU context in `frame`, which this CPU has claimed.
    fn set_context_word(self, frame: Frame, word: u64, value: u64);
    /// The system counter, `CNTPCT_EL0`.
    fn counter(self) -> u64;

    /// Whether there is a source of random numbers. Constant.
    fn has_random(self) -> bool;
    /// 192 random bits; None if the source has none right now, or there is none.
    fn random(self) -> Option<[u64; 3]>;

    /// launch measurement of `vm` = SHA-256(launch measurement || header || the frame's 4096 bytes).
    fn measure_frame(self, vm: VmId, header: [u64; 4], frame: Frame);
    /// Digest words `field..field+4` of `vm` = SHA-256(those words || data); words are little-endian bytes.
    fn measure_words(self, vm: VmId, field: Field, data: [u64; 4]);

    /// Tries to take the ownership lock.
    fn try_lock(self) -> bool;
    /// Gives the ownership lock back.
    fn unlock(self);
}

/// What the engine offers beside ownership; the parts of a call's answer that are not decisions.
pub trait Platform: Hardware {
    /// `log_read`: next offset, count of valid bytes, eight words of text.
    fn log_read(self, offset: u64) -> [u64; 10];
    /// `stats`: the counter, or None if there is no such kind or index.
    fn statistic(self, kind: u64, index: u64) -> Option<u64>;
    /// A PSCI call of the host for its own CPUs (Arm DEN 0022): x0 of the answer; None for an unknown function.
    fn host_psci(self, function: u64, arguments: [u64; 3]) -> Option<u64>;
    /// Unloads the vCPU that is loaded on this CPU, if any.
    fn put_vcpu(self);
}
