//! The machine as [`bulkhead_core`] sees it. Trust label: TRUSTED.
//!
//! Each method is one access into a fixed window of the EL2 address space, or one primitive of this crate. Records
//! and tables are accessed volatile, 64 bits wide; exchanges are single LSE instructions (required at boot), so that
//! no exclusive-access loop stands in any path.

use bulkhead_core::addr::{Block, FRAME_SHIFT, Frame, Ipa, VmId};
use bulkhead_core::hardware::{Hardware, Platform};
use bulkhead_core::owner::{Record, RunState};
use bulkhead_core::vcpu::processor::{El1Exception, Processor, Syndrome};
use bulkhead_core::vm::{Field, State};
use core::ptr::with_exposed_provenance_mut;

use crate::percpu::{COUNTED_CALLS, COUNTED_EXITS, context, current};
use crate::statics::{CONFIG, LOCK, VMS};
use crate::sysreg::dsb_ishst;
use crate::{cache, gic, hooks, layout, mem, random, registers, resident, smmu, tlb};

/// This machine. Zero-sized: handing it on costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

/// Word `index` of the array at virtual address `base`.
#[inline(always)]
fn word(base: u64, index: u64) -> *mut u64 {
    with_exposed_provenance_mut(base.wrapping_add(index << 3) as usize)
}

/// Physical address of a frame.
#[inline(always)]
fn address(frame: Frame) -> u64 {
    CONFIG.ram_base().wrapping_add(frame.0 << FRAME_SHIFT)
}

/// Word `index` of the frame.
#[inline(always)]
fn frame_word(frame: Frame, index: u64) -> *mut u64 {
    word(layout::RAM.wrapping_add(address(frame)), index)
}

/// Word of a VM record.
#[inline(always)]
fn vm_pointer(vm: VmId, field: Field) -> *mut u64 {
    word(VMS.as_ptr() as u64, (vm.0 << 6).wrapping_add(field.0))
}

#[inline(always)]
fn read(pointer: *mut u64) -> u64 {
    // SAFETY: callers pass words of mapped windows; core keeps indices below the counts that boot mapped.
    unsafe { pointer.read_volatile() }
}

#[inline(always)]
fn write(pointer: *mut u64, value: u64) {
    // SAFETY: as in `read`; the windows hold no object that Rust holds a reference to.
    unsafe { pointer.write_volatile(value) }
}

/// Compare-and-swap with acquire and release; true if the word was `old`.
#[inline(always)]
fn exchange(pointer: *mut u64, old: u64, new: u64) -> bool {
    let mut seen = old;
    // SAFETY: as in `write`; CASAL is one single-copy atomic access (Arm ARM DDI 0487, C6.2.50).
    unsafe {
        core::arch::asm!(
            ".arch_extension lse",
            "casal {seen}, {new}, [{pointer}]",
            seen = inout(reg) seen,
            new = in(reg) new,
            pointer = in(reg) pointer,
            options(nostack, preserves_flags),
        );
    }
    seen == old
}

impl Hardware for Machine {
    #[inline(always)]
    fn ram_base(self) -> u64 {
        CONFIG.ram_base()
    }

    #[inline(always)]
    fn frames(self) -> u64 {
        CONFIG.frames()
    }

    #[inline(always)]
    fn cpus(self) -> u64 {
        CONFIG.cpus()
    }

    #[inline(always)]
    fn cpu(self) -> u64 {
        current().cpu.get()
    }

    #[inline(always)]
    fn block_record(self, block: Block) -> Record {
        Record(read(word(layout::BLOCKS, block.0)))
    }

    #[inline(always)]
    fn set_block_record(self, block: Block, record: Record) {
        write(word(layout::BLOCKS, block.0), record.0);
    }

    #[inline(always)]
    fn frame_record(self, frame: Frame) -> Record {
        Record(read(word(layout::FRAMES, frame.0)))
    }

    #[inline(always)]
    fn set_frame_record(self, frame: Frame, record: Record) {
        write(word(layout::FRAMES, frame.0), record.0);
    }

    #[inline(always)]
    fn exchange_frame_record(self, frame: Frame, old: Record, new: Record) -> bool {
        exchange(word(layout::FRAMES, frame.0), old.0, new.0)
    }

    #[inline(always)]
    fn fill_frame_records(self, block: Block) {
        // SAFETY: core calls this for an existing block that is not split, with the lock held.
        unsafe { mem::bulkhead_fill_frame_records(block.0) }
    }

    #[inline(always)]
    fn fill_vm_records(self, block: Block, first: Record) {
        // SAFETY: as for `fill_frame_records`.
        unsafe { mem::bulkhead_fill_vm_records(block.0, first.0) }
    }

    #[inline(always)]
    fn host_entry(self, block: Block) -> u64 {
        read(word(layout::HOST_L2, block.0))
    }

    #[inline(always)]
    fn set_host_entry(self, block: Block, descriptor: u64) {
        write(word(layout::HOST_L2, block.0), descriptor);
    }

    #[inline(always)]
    fn fill_table(self, table: Frame, block: Block) {
        // SAFETY: core calls this for a frame that the host has just lost.
        unsafe { mem::bulkhead_fill_table(address(table), address(block.first())) }
    }

    #[inline(always)]
    fn has_dma(self) -> bool {
        smmu::is_present()
    }

    #[inline(always)]
    fn set_dma_entry(self, block: Block, descriptor: u64) {
        smmu::set_entry(block, descriptor);
    }

    #[inline(always)]
    fn invalidate_dma(self, block: Block) {
        smmu::invalidate(block);
    }

    #[inline(always)]
    fn table_entry(self, table: Frame, index: u64) -> u64 {
        read(frame_word(table, index))
    }

    #[inline(always)]
    fn set_table_entry(self, table: Frame, index: u64, descriptor: u64) {
        write(frame_word(table, index), descriptor);
    }

    #[inline(always)]
    fn table_is_empty(self, table: Frame) -> bool {
        // SAFETY: core calls this for a translation table, which is the engine's.
        unsafe { mem::bulkhead_table_is_empty(address(table)) != 0 }
    }

    #[inline(always)]
    fn zero_frame(self, frame: Frame) {
        // SAFETY: core calls these for a frame that no domain can reach.
        unsafe {
            mem::bulkhead_zero_frame(address(frame));
            mem::bulkhead_clean_frame(address(frame));
        }
    }

    #[inline(always)]
    fn zero_block(self, block: Block) {
        // SAFETY: core calls this for a block that no domain can reach.
        unsafe { mem::bulkhead_zero_block(address(block.first())) }
    }

    #[inline(always)]
    fn clean_frame(self, frame: Frame) {
        // SAFETY: the frame exists (core).
        unsafe { mem::bulkhead_clean_frame(address(frame)) }
    }

    #[inline(always)]
    fn invalidate_instructions(self) {
        cache::invalidate_instructions();
    }

    #[inline(always)]
    fn publish(self) {
        dsb_ishst();
    }

    #[inline(always)]
    fn invalidate_vm_page(self, vm: VmId, ipa: Ipa) {
        tlb::invalidate_vm_page(vm_vttbr(vm), ipa.0);
    }

    #[inline(always)]
    fn invalidate_vm(self, vm: VmId) {
        tlb::invalidate_vm(vm_vttbr(vm));
    }

    #[inline(always)]
    fn invalidate_host_page(self, frame: Frame) {
        tlb::invalidate_host_page(address(frame));
    }

    #[inline(always)]
    fn invalidate_host_page_from_vm(self, frame: Frame) {
        tlb::invalidate_host_page_from_vm(address(frame));
    }

    #[inline(always)]
    fn vm_word(self, vm: VmId, field: Field) -> u64 {
        read(vm_pointer(vm, field))
    }

    #[inline(always)]
    fn set_vm_word(self, vm: VmId, field: Field, value: u64) {
        write(vm_pointer(vm, field), value);
    }

    #[inline(always)]
    fn clear_vm(self, vm: VmId) {
        // SAFETY: `vm` is below VM_SLOTS and the lock is held (core).
        unsafe { mem::bulkhead_clear_vm(vm_pointer(vm, Field(0))) }
    }

    #[inline(always)]
    fn exchange_vm_state(self, vm: VmId, old: State, new: State) -> bool {
        exchange(vm_pointer(vm, Field::STATE), old.0, new.0)
    }

    #[inline(always)]
    fn set_context_word(self, frame: Frame, word: u64, value: u64) {
        write(frame_word(frame, word), value);
    }

    #[inline(always)]
    fn counter(self) -> u64 {
        crate::sysreg::isb();
        mrs!("CNTPCT_EL0")
    }

    #[inline(always)]
    fn has_random(self) -> bool {
        random::is_present()
    }

    #[inline(always)]
    fn random(self) -> Option<[u64; 3]> {
        random::next()
    }

    #[inline(always)]
    fn measure_frame(self, vm: VmId, header: [u64; 4], frame: Frame) {
        let digest = vm_pointer(vm, Field::measurement(0));
        // SAFETY: the digest's four words lie in the VM's record; no domain can write the frame (core).
        unsafe { mem::bulkhead_measure_frame(digest, header.as_ptr(), address(frame)) }
    }

    #[inline(always)]
    fn measure_words(self, vm: VmId, field: Field, data: [u64; 4]) {
        // SAFETY: core names a digest field, which has four words.
        unsafe { mem::bulkhead_measure_words(vm_pointer(vm, field), data.as_ptr()) }
    }

    #[inline(always)]
    fn try_lock(self) -> bool {
        let taken = exchange(LOCK.as_ptr(), 0, 1);
        if !taken {
            // Who stops the machine keeps the lock, and a VM whose fault needs it would come here for ever.
            hooks::park_if_stopped();
        }
        taken
    }

    #[inline(always)]
    fn unlock(self) {
        LOCK.store(0, core::sync::atomic::Ordering::Release);
    }
}

/// `VTTBR_EL2` of a VM, from its record.
#[inline(always)]
fn vm_vttbr(vm: VmId) -> u64 {
    tlb::vm_vttbr(vm, address(Frame(Machine.vm_word(vm, Field::ROOT))))
}

impl Processor for Machine {
    #[inline(always)]
    fn syndrome(self) -> Syndrome {
        Syndrome { esr: mrs!("ESR_EL2"), far: mrs!("FAR_EL2"), hpfar: mrs!("HPFAR_EL2") }
    }

    #[inline(always)]
    fn vector_base(self) -> u64 {
        mrs!("VBAR_EL1")
    }

    #[inline(always)]
    fn system_control(self) -> u64 {
        mrs!("SCTLR_EL1")
    }

    #[inline(always)]
    fn set_exception(self, exception: El1Exception) {
        // A VM whose vectors are out of reach, too, faults for ever without an exit.
        hooks::park_if_stopped();
        // SAFETY: EL1 registers do not affect EL2; the loaded domain is the one that takes the exception.
        unsafe {
            msr!("ELR_EL1", exception.elr);
            msr!("SPSR_EL1", exception.spsr);
            msr!("ESR_EL1", exception.esr);
            msr!("FAR_EL1", exception.far);
        }
    }

    #[inline(always)]
    fn id_register(self, crm: u64, op2: u64) -> u64 {
        registers::id_register(crm, op2)
    }
    #[inline(always)]
    fn set_debug_register(self, crm: u64, op2: u64, value: u64) {
        // SAFETY: core writes registers that this CPU has, with values that do not act on EL2.
        unsafe { registers::write_debug(crm, op2, value) }
    }

    #[inline(always)]
    fn virtual_timer(self) -> (u64, u64) {
        (mrs!("CNTV_CTL_EL0"), mrs!("CNTV_CVAL_EL0"))
    }

    #[inline(always)]
    fn pending_interrupt(self) -> u64 {
        gic::pending()
    }

    #[inline(always)]
    fn acknowledge_interrupt(self) {
        gic::acknowledge_timer();
    }

    #[inline(always)]
    fn set_timer_list_register(self, value: u64) {
        gic::set_timer_list_register(value);
    }

    #[inline(always)]
    fn timer_list_register(self) -> u64 {
        gic::timer_list_register()
    }
}

impl Platform for Machine {
    fn log_read(self, offset: u64) -> [u64; 10] {
        hooks::log_read(offset)
    }

    fn statistic(self, kind: u64, index: u64) -> Option<u64> {
        const CALLS: u64 = 0;
        const EXITS: u64 = 1;
        const STAGES: u64 = 2;
        let index_in = |size: usize| usize::try_from(index).ok().filter(|&slot| slot < size);
        let mut sum: u64 = 0;
        match kind {
            CALLS => {
                let slot = index_in(COUNTED_CALLS)?;
                (0..CONFIG.cpus()).for_each(|cpu| sum = sum.wrapping_add(context(cpu).calls[slot].get()));
            }
            EXITS => {
                let slot = index_in(COUNTED_EXITS)?;
                (0..CONFIG.cpus()).for_each(|cpu| sum = sum.wrapping_add(context(cpu).exits[slot].get()));
            }
            STAGES => return hooks::stage_ticks(index),
            _ => return None,
        }
        Some(sum)
    }

    fn host_psci(self, function: u64, arguments: [u64; 3]) -> Option<u64> {
        hooks::host_psci(function, arguments)
    }

    fn put_vcpu(self) {
        // SAFETY: calls come from the host, which runs on this CPU.
        unsafe { resident::unload(current(), RunState::RUNNABLE) }
    }
}
