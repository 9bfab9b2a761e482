//! Where a fake machine keeps what. Trust label: TOOL.
//!
//! The same decisions as the image's boot takes: frames are counted from the lowest RAM address rounded down to
//! 1 GiB; the *engine reservation* with all arrays and the host's upper tables is cut from the top of the largest RAM
//! range, in whole blocks; blocks that RAM fills only in part are the engine's; one host block is split at boot, with
//! its first frame as its level 3 table.

use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE, VM_SLOTS};
use bulkhead_core::vm::RECORD_WORDS;

const GIB: u64 = 1 << 30;
/// Bytes that one level 1 table of the host maps (Arm ARM DDI 0487, D8.2.4).
const LEVEL1_SPAN: u64 = 512 * GIB;
/// RAM must end below this physical address, the size of the engine's RAM window.
const PA_LIMIT: u64 = 1 << 46;
/// Most bytes from the RAM base to the end of RAM: 2^28 frames.
const SPAN_LIMIT: u64 = 1 << 40;

/// A range of fake RAM in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRange {
    /// First physical address.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
}

impl RamRange {
    const fn end(self) -> u64 {
        self.base.saturating_add(self.size)
    }
}

/// Physical addresses of everything that a reader of raw memory needs.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Physical address of frame 0.
    pub ram_base: u64,
    /// Number of frame indices; 512 for each block.
    pub frames: u64,
    /// Number of CPUs.
    pub cpus: u64,
    /// Block records, `u64[frames / 512]`.
    pub block_records: u64,
    /// Frame records, `u64[frames]`.
    pub frame_records: u64,
    /// Level 2 descriptors of the host's stage 2, `u64[frames / 512]`.
    pub host_level2: u64,
    /// Level 2 descriptors of the stage 2 of the host's devices, `u64[frames / 512]`.
    pub dma_level2: u64,
    /// Level 1 tables of the host's stage 2, one page for each 512 GiB that the window touches.
    pub host_level1: u64,
    /// Level 0 table of the host's stage 2.
    pub host_root: u64,
    /// VM records, `u64[64][64]`.
    pub vm_records: u64,
    /// What the machine has, as `features` answers it.
    pub features: u64,
    /// The engine reservation.
    pub reservation: RamRange,
    /// First address of the block that is split at boot.
    pub split_block: u64,
}

const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(FRAME_SIZE) * FRAME_SIZE
}

fn check(ranges: &[RamRange], cpus: u64) -> Result<(), String> {
    if !(1..=8).contains(&cpus) {
        return Err(format!("{cpus} CPUs; a machine has 1 to 8"));
    }
    let mut floor = 0;
    for range in ranges {
        if range.base < floor || range.size == 0 || range.end() > PA_LIMIT {
            return Err(format!("RAM {range:x?} is empty, out of order or beyond 2^46"));
        }
        floor = range.end();
    }
    Ok(())
}

impl Layout {
    /// Lays out a machine with these RAM ranges (ascending, disjoint), number of CPUs and features.
    ///
    /// # Errors
    /// A sentence that says why the machine cannot be.
    pub fn new(ranges: &[RamRange], cpus: u64, features: u64) -> Result<Self, String> {
        check(ranges, cpus)?;
        let first = ranges.first().ok_or("a machine needs RAM")?;
        let end = ranges[ranges.len() - 1].end();
        let ram_base = first.base / GIB * GIB;
        if end - ram_base > SPAN_LIMIT {
            return Err(format!("RAM spans {:#x} bytes, more than 1 TiB", end - ram_base));
        }
        let blocks = (end - ram_base).div_ceil(BLOCK_SIZE);
        let largest = ranges.iter().rev().max_by_key(|range| range.size).expect("not empty");
        let mut layout = Self {
            ram_base,
            frames: blocks * 512,
            cpus,
            block_records: 0,
            frame_records: 0,
            host_level2: 0,
            dma_level2: 0,
            features,
            host_level1: 0,
            host_root: 0,
            vm_records: 0,
            reservation: RamRange { base: 0, size: 0 },
            split_block: 0,
        };
        layout.place(*largest)?;
        layout.split_block = layout.last_host_block(ranges).ok_or("no whole block of RAM is left for the host")?;
        Ok(layout)
    }

    /// Number of blocks.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.frames / 512
    }

    /// Number of level 1 tables of the host.
    #[must_use]
    pub const fn level1_tables(&self) -> u64 {
        let last = self.ram_base + self.frames * FRAME_SIZE - 1;
        last / LEVEL1_SPAN - self.ram_base / LEVEL1_SPAN + 1
    }

    /// Whether the block lies wholly in host RAM at boot.
    #[must_use]
    pub fn is_host(&self, ranges: &[RamRange], block: u64) -> bool {
        let base = self.ram_base + block * BLOCK_SIZE;
        let end = base + BLOCK_SIZE;
        let reserved = base < self.reservation.end() && self.reservation.base < end;
        !reserved && ranges.iter().any(|range| range.base <= base && end <= range.end())
    }

    fn place(&mut self, range: RamRange) -> Result<(), String> {
        let sizes = [
            pages(self.blocks() * 8),
            pages(self.frames * 8),
            (self.frames * FRAME_SIZE).div_ceil(GIB) * FRAME_SIZE,
            (self.frames * FRAME_SIZE).div_ceil(GIB) * FRAME_SIZE,
            self.level1_tables() * FRAME_SIZE,
            FRAME_SIZE,
            (VM_SLOTS * RECORD_WORDS * 8) as u64,
        ];
        let size = sizes.iter().sum::<u64>().div_ceil(BLOCK_SIZE) * BLOCK_SIZE;
        let top = range.end() / BLOCK_SIZE * BLOCK_SIZE;
        if top < range.base + size {
            return Err(format!("{range:x?} has no room for the engine's {size:#x} bytes"));
        }
        self.reservation = RamRange { base: top - size, size };
        let mut next = top - size;
        let mut take = |bytes: u64| {
            next += bytes;
            next - bytes
        };
        self.block_records = take(sizes[0]);
        self.frame_records = take(sizes[1]);
        self.host_level2 = take(sizes[2]);
        self.dma_level2 = take(sizes[3]);
        self.host_level1 = take(sizes[4]);
        self.host_root = take(sizes[5]);
        self.vm_records = take(sizes[6]);
        Ok(())
    }

    fn last_host_block(&self, ranges: &[RamRange]) -> Option<u64> {
        let block = (0..self.blocks()).rev().find(|&block| self.is_host(ranges, block))?;
        Some(self.ram_base + block * BLOCK_SIZE)
    }
}
