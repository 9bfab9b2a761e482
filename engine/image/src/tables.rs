//! EL2's own stage 1 tables: 4 KiB granule, 48 bits, four levels. Trust label: TRUSTED.
//!
//! The tree of the host's stage 2 has the same shape and grows from the same pages ([`Tables::set`]).
//!
//! Invariants: no page is both writable and executable; guard pages are pages that nobody maps; an entry that is in
//! use is never replaced by a different one. Source: Arm ARM DDI 0487, D8.3 (descriptors), D8.4 (permissions).

use bulkhead_arch::layout;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes that a level 2 entry maps.
pub const BLOCK: u64 = 2 << 20;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Bits 1:0 of a table descriptor.
pub const TABLE: u64 = 3;

/// What may be done with a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and execute.
    Code,
    /// Read.
    ReadOnly,
    /// Read and write.
    Data,
    /// Read and write, Device-nGnRE.
    Device,
}

impl Access {
    /// Attributes of a leaf: AF, SH, AP\[2:1\], AttrIndx, XN (AP\[1\] is RES1 in this regime).
    const fn attributes(self) -> u64 {
        const COMMON: u64 = 1 << 10 | 3 << 8 | 1 << 6;
        const READ_ONLY: u64 = 1 << 7;
        const NEVER_EXECUTE: u64 = 1 << 54;
        match self {
            Self::Code => COMMON | READ_ONLY,
            Self::ReadOnly => COMMON | READ_ONLY | NEVER_EXECUTE,
            Self::Data => COMMON | NEVER_EXECUTE,
            Self::Device => COMMON | NEVER_EXECUTE | 1 << 2,
        }
    }
}

/// How table pages are reached.
#[derive(Clone, Copy)]
pub enum View {
    /// The MMU is off.
    Physical,
    /// The MMU is on: pages of the image (loaded at this address) in its window, others in the RAM window.
    Virtual(u64),
}

impl View {
    /// The address at which to access the byte at physical address `pa`.
    pub fn address(self, pa: u64) -> u64 {
        match self {
            Self::Physical => pa,
            Self::Virtual(load) if pa.wrapping_sub(load) < layout::IMAGE_SIZE => layout::IMAGE + (pa - load),
            Self::Virtual(_) => layout::RAM + pa,
        }
    }
}

/// EL2's tables and the zeroed pages left for more of them.
pub struct Tables {
    root: u64,
    view: View,
    next: u64,
    end: u64,
}

impl Tables {
    /// Tables below `root`; further ones are taken from `next..end`. All are physical addresses of zeroed pages.
    pub fn new(root: u64, view: View, next: u64, end: u64) -> Self {
        Self { root, view, next, end }
    }

    /// Physical address of the first page that is not in use.
    pub fn next_free(&self) -> u64 {
        self.next
    }

    /// Continues with the zeroed pages `next..end`, a range of physical addresses that is mapped already.
    pub fn refill(&mut self, next: u64, end: u64) {
        self.next = next;
        self.end = end;
    }

    /// Takes `count` zeroed pages; answers the physical address of the first.
    pub fn take(&mut self, count: u64) -> u64 {
        let first = self.next;
        assert!(self.end - first >= count * PAGE, "out of boot memory");
        self.next = first + count * PAGE;
        first
    }

    /// Maps whole pages; uses 2 MiB blocks wherever both addresses allow.
    pub fn map(&mut self, va: u64, pa: u64, size: u64, access: Access) {
        let mut done = 0;
        while done < size {
            let (va, pa) = (va + done, pa + done);
            let large = (va | pa) % BLOCK == 0 && size - done >= BLOCK;
            let (level, descriptor) = if large { (2, 1) } else { (3, 3) };
            self.set(self.root, va, level, pa | access.attributes() | descriptor);
            done += if large { BLOCK } else { PAGE };
        }
    }

    /// Removes the 2 MiB block at `va` from the tables and from every CPU's TLB.
    pub fn unmap_block(&mut self, va: u64) {
        let table = self.table(self.root, va, 2);
        self.write(table, index(va, 2), 0);
        // SAFETY: the translation is gone from the tables; nobody uses the address any more.
        unsafe {
            core::arch::asm!("dsb ishst", "tlbi vae2is, {}", "dsb ish", "isb", in(reg) va >> 12, options(nostack));
        }
    }

    /// Writes the entry of `level` for `address` in the tree below `root`, with the tables above it.
    pub fn set(&mut self, root: u64, address: u64, level: u32, descriptor: u64) {
        let table = self.table(root, address, level);
        let old = self.read(table, index(address, level));
        assert!(old == 0 || old == descriptor, "a mapping would change");
        self.write(table, index(address, level), descriptor);
        // SAFETY: a barrier: the walker sees the entry before the address is used.
        unsafe { core::arch::asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
    }

    fn table(&mut self, root: u64, address: u64, level: u32) -> u64 {
        let mut table = root;
        for above in 0..level {
            let entry = self.read(table, index(address, above));
            table = if entry == 0 {
                let new = self.take(1);
                self.write(table, index(address, above), new | TABLE);
                new
            } else {
                assert!(entry & TABLE == TABLE, "a block is in the way");
                entry & ADDRESS
            };
        }
        table
    }

    fn read(&self, table: u64, index: u64) -> u64 {
        // SAFETY: `table` is a table page of this boot, which the view maps; the index is below 512.
        unsafe { ((self.view.address(table) + index * 8) as *const u64).read_volatile() }
    }

    fn write(&mut self, table: u64, index: u64, entry: u64) {
        // SAFETY: as in `read`; only the boot CPU changes tables.
        unsafe { ((self.view.address(table) + index * 8) as *mut u64).write_volatile(entry) }
    }
}

/// Index of an address in a table of `level`.
const fn index(address: u64, level: u32) -> u64 {
    address >> (39 - 9 * level) & 511
}
