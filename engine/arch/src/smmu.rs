//! The SMMU while calls run: DMA windows of the host's devices. Trust label: TRUSTED.
//!
//! Boot (`engine/image`, `smmu.rs`) gives every listed PCIe function a stage 2 translation whose level 2 entries are
//! one flat array, DMA_L2, in the form of the host's own: an entry is a 2 MiB identity mapping or invalid. Entries
//! are changed with the ownership lock held, so the command queue has one producer. Between calls the queue is empty.
//!
//! Source: Arm SMMUv3, IHI 0070, 3.5 (queues), 4.4 (TLB maintenance), 4.7 (`CMD_SYNC`), 6.3 (registers).

use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_abi::VM_SLOTS;
use bulkhead_core::addr::Block;

use crate::layout;
use crate::statics::CONFIG;
use crate::sysreg::dsb_sy;

/// VMID of the DMA tables in the SMMU's TLBs: neither the host's nor any VM's.
pub const DMA_VMID: u64 = VM_SLOTS as u64 + 1;
/// log2 of the number of commands that the queue holds.
pub const QUEUE_SHIFT: u32 = 8;

const CMDQ_PROD: u64 = 0x98;
const CMDQ_CONS: u64 = 0x9c;
/// Index and wrap bit of a queue pointer.
const POINTER: u32 = (2 << QUEUE_SHIFT) - 1;
/// Opcodes (4.1.2), in bits 7:0 of a command's first word.
const CMD_CFGI_ALL: u64 = 0x04;
const CMD_TLBI_S12_VMALL: u64 = 0x28;
const CMD_TLBI_NSNH_ALL: u64 = 0x30;
const CMD_SYNC: u64 = 0x46;
/// `CMD_CFGI_ALL` is `CMD_CFGI_STE_RANGE` with the widest range.
const RANGE_ALL: u64 = 31;
const VMID_SHIFT: u32 = 32;
/// Initiate Function Level Reset (PCI Express Base Specification, 7.5.3.4).
const FUNCTION_RESET: u32 = 1 << 15;
/// Most functions that need it.
const RESETS_MAX: usize = 8;
/// Polls of the consumer index before the SMMU counts as broken.
const TRIES: u32 = 1_000_000;

/// The command queue; its base must be aligned to its size (6.3.26).
#[repr(C, align(4096))]
struct Queue([[AtomicU64; 2]; 1 << QUEUE_SHIFT]);

static QUEUE: Queue = Queue([const { [const { AtomicU64::new(0) }; 2] }; 1 << QUEUE_SHIFT]);

/// Device Control registers of functions to reset; 0: none.
static RESETS: [AtomicU64; RESETS_MAX] = [const { AtomicU64::new(0) }; RESETS_MAX];

/// Address of the command queue in the image window.
#[must_use]
pub fn queue() -> u64 {
    QUEUE.0.as_ptr() as u64
}

/// Whether DMA windows exist: there is an SMMU and boot has turned its translation on.
#[inline(always)]
#[must_use]
pub fn is_present() -> bool {
    CONFIG.has_dma()
}

#[inline(always)]
fn entry_pointer(block: Block) -> *mut u64 {
    with_exposed_provenance_mut(layout::DMA_L2.wrapping_add(block.0 << 3) as usize)
}

/// Level 2 descriptor of the devices' stage 2 for a block.
#[inline(always)]
#[must_use]
pub fn entry(block: Block) -> u64 {
    // SAFETY: the window has a word for each block; core keeps the index below their number.
    unsafe { entry_pointer(block).read_volatile() }
}

/// Changes the level 2 descriptor of the devices' stage 2 for a block.
#[inline(always)]
pub fn set_entry(block: Block, descriptor: u64) {
    // SAFETY: as in `entry`; Rust holds no reference into the window.
    unsafe { entry_pointer(block).write_volatile(descriptor) }
}

/// After the entry of a block was cleared: no translation of it is left in the SMMU or in a device, and what devices had
/// under way with it has reached memory. Invalidates all of the devices' VMID: windows close rarely.
#[inline(always)]
pub fn invalidate(block: Block) {
    let _ = block;
    bulkhead_smmu_invalidate();
}

/// `CMD_TLBI_S12_VMALL` of the devices' VMID, then `CMD_SYNC`, then the reset of functions whose transfers may outlast
/// that. Does not return before the SMMU has answered.
///
/// An SMMU completes `CMD_SYNC` when the transactions that used the old translation are done; an emulated one does not
/// wait for transfers that an emulated controller has prepared and not finished. Its reset drops or finishes them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn bulkhead_smmu_invalidate() {
    run(&[[CMD_TLBI_S12_VMALL | DMA_VMID << VMID_SHIFT, 0]]);
    for register in &RESETS {
        let register = register.load(Ordering::Relaxed);
        if register != 0 {
            // Device Control and, in the upper half, Device Status, where zeros change nothing. The host sets the
            // function up anew.
            write(register, FUNCTION_RESET);
            let _ = read(register);
        }
    }
    dsb_sy();
}

/// From now on closing a window resets the function whose Device Control register the engine sees at `register`. False
/// if there is no room. Boot only.
#[must_use]
pub fn reset_on_close(register: u64) -> bool {
    let free = RESETS.iter().find(|place| place.load(Ordering::Relaxed) == 0);
    free.inspect(|place| place.store(register, Ordering::Relaxed)).is_some()
}

/// Forgets everything cached of configurations and translations, whatever was in use before. Boot only.
pub fn forget_everything() {
    run(&[[CMD_CFGI_ALL, RANGE_ALL], [CMD_TLBI_NSNH_ALL, 0]]);
}

/// Puts commands and a `CMD_SYNC` into the queue, which is empty, and waits until it is empty again.
///
/// Panics, which stops the engine, if the SMMU does not answer or reports an error: nobody may be told that a
/// window is closed when it is not known to be.
fn run(commands: &[[u64; 2]]) {
    let mut place = read(layout::SMMU + CMDQ_PROD) & POINTER;
    for command in commands.iter().chain([&[CMD_SYNC, 0]]) {
        let slot = &QUEUE.0[(place & (POINTER >> 1)) as usize];
        slot[0].store(command[0], Ordering::Relaxed);
        slot[1].store(command[1], Ordering::Relaxed);
        place = (place + 1) & POINTER;
    }
    // Table entries and commands are in memory before the SMMU is told.
    dsb_sy();
    write(layout::SMMU + CMDQ_PROD, place);
    for _ in 0..TRIES {
        // An error (CONS.ERR, bits 30:24) stops the queue: the indices never meet.
        if read(layout::SMMU + CMDQ_CONS) & POINTER == place {
            dsb_sy();
            return;
        }
    }
    panic!("the SMMU does not complete its commands");
}

#[inline(always)]
fn read(address: u64) -> u32 {
    let value: u32;
    // SAFETY: a register in a page that boot maps before it calls anything here. In assembly: one plain load.
    unsafe { core::arch::asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack)) };
    value
}

#[inline(always)]
fn write(address: u64, value: u32) {
    // SAFETY: as in `read`.
    unsafe { core::arch::asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack)) };
}
