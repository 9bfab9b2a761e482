//! The tables that exist before there is memory to allocate from. Trust label: TRUSTED.
//!
//! [`map_early`] is the only Rust code that runs with the MMU off. It touches nothing but its arguments and the
//! statics here, whose addresses the compiler forms relative to the program counter, so they are physical then.

use bulkhead_arch::layout;

use crate::tables::{Access, PAGE, Tables, View};

/// Bytes of the stack that the boot CPU uses until it has its own.
pub const BOOT_STACK_SIZE: usize = 0x4000;
/// Pages for tables needed before the reservation exists: the image, its first page at its physical address, the
/// engine's devices, the device tree, and the reservation itself (each at most three tables, the last two five).
const EARLY_TABLES: usize = 20;

/// A page-aligned area of the image that Rust code never refers to as a whole.
#[repr(C, align(4096))]
pub struct Area<const BYTES: usize>(core::cell::UnsafeCell<[u8; BYTES]>);

// SAFETY: the areas are handed out as addresses only: one stack, and tables that one CPU writes during boot.
unsafe impl<const BYTES: usize> Sync for Area<BYTES> {}

impl<const BYTES: usize> Area<BYTES> {
    /// All zero.
    pub const fn new() -> Self {
        Self(core::cell::UnsafeCell::new([0; BYTES]))
    }

    /// Address of the first byte, as this code sees it.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        BYTES as u64
    }
}

/// Level 0 table of EL2's own translation.
pub static ROOT: Area<4096> = Area::new();
/// The boot CPU's first stack.
pub static BOOT_STACK: Area<BOOT_STACK_SIZE> = Area::new();
/// See [`EARLY_TABLES`].
pub static POOL: Area<{ EARLY_TABLES * 4096 }> = Area::new();
/// How much of [`POOL`] is in use, in bytes; left here by [`map_early`].
pub static POOL_USED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

/// Maps the image at its virtual address with its final permissions, and its first page where it is.
///
/// `load` is the physical address of the image, a multiple of 2 MiB.
///
/// # Safety
/// Called once, by the boot CPU, with the MMU off.
pub unsafe extern "C" fn map_early(load: u64) {
    let pool = POOL.address();
    let mut tables = Tables::new(ROOT.address(), View::Physical, pool, pool + (EARLY_TABLES as u64) * PAGE);
    // One call each and no array: constants that hold addresses would hold virtual ones.
    let start = &raw const __image_start as u64;
    let text_end = &raw const __text_end as u64;
    let rodata_end = &raw const __rodata_end as u64;
    let image_end = &raw const __image_end as u64;
    let image = |address: u64| layout::IMAGE + (address - load);
    tables.map(image(start), start, text_end - start, Access::Code);
    tables.map(image(text_end), text_end, rodata_end - text_end, Access::ReadOnly);
    tables.map(image(rodata_end), rodata_end, image_end - rodata_end, Access::Data);
    tables.map(load, load, PAGE, Access::Code);
    POOL_USED.store(tables.next_free() - pool, core::sync::atomic::Ordering::Relaxed);
    // The tables were written with the MMU off, past the caches: drop what an earlier stage left of these lines.
    drop_cached(ROOT.address(), PAGE);
    drop_cached(pool, (EARLY_TABLES as u64) * PAGE);
}

fn drop_cached(start: u64, size: u64) {
    let smallest_line = 16;
    let mut offset = 0;
    while offset < size {
        // SAFETY: invalidates lines of this image that hold nothing newer than memory.
        unsafe { core::arch::asm!("dc ivac, {}", in(reg) start + offset, options(nostack, preserves_flags)) };
        offset += smallest_line;
    }
}
