//! Which RAM is whose: the engine reservation, the host's blocks, the records. Trust label: TRUSTED.
//!
//! The reservation lies at the top of the largest RAM range, in whole blocks: frame records first (512 words for
//! each block of the span), then pages for tables, stacks and the other arrays. Block records are written once for
//! the whole span: HOST for blocks that are RAM, all of it, and neither image nor reservation nor firmware's; ENGINE
//! otherwise. Those of the host that hold nothing it needs become UNCLEARED before it runs.

use bulkhead_abi::{HOST_RANGES, Range};
use bulkhead_arch::{cache, layout};
use bulkhead_core::owner::Record;

use crate::device_tree::{Machine, RAM_RANGES, RESERVED_RANGES};
use crate::smmu::STREAM_PAGES;
use crate::tables::{Access, BLOCK, PAGE, TABLE, Tables};

const GIB: u64 = 1 << 30;
/// Pages for everything in the reservation that grows with nothing: tables above level 2 and of devices.
const FIXED_PAGES: u64 = 64;
/// Pages that each GiB of the span takes: block records, host level 2, devices' level 2, level 2 of the RAM window.
const PAGES_PER_GIB: u64 = 4;
/// Pages that each CPU takes, with a table of the PERCPU window.
const PAGES_PER_CPU: u64 = (layout::EMERGENCY_STACK_SIZE + layout::STACK_SIZE + layout::CONTEXT_SIZE) / PAGE + 1;

/// The division of RAM.
pub struct Plan {
    ram: [Range; RAM_RANGES],
    reserved: [Range; RESERVED_RANGES],
    image: Range,
    /// Physical address of frame 0.
    pub ram_base: u64,
    /// Span of the records, in GiB.
    pub gib: u64,
    /// The engine's memory besides its image.
    pub reservation: Range,
}

/// First address after a range.
pub const fn end(range: Range) -> u64 {
    range.base + range.size
}

/// Whether two ranges share a byte.
pub const fn overlap(a: Range, b: Range) -> bool {
    a.size > 0 && b.size > 0 && a.base < end(b) && b.base < end(a)
}

impl Plan {
    /// Divides the RAM of `machine`, on which the engine's image lies at `image`; the reservation avoids `keep`.
    pub fn new(machine: &Machine, image: Range, keep: &[Range]) -> Result<Self, &'static str> {
        let (ram, reserved, cpus) = (machine.ram, machine.reserved, machine.cpus as u64);
        let used = || ram.iter().filter(|range| range.size > 0);
        let lowest = used().map(|range| range.base).min().unwrap_or(0);
        let highest = used().map(|range| end(*range)).max().unwrap_or(0);
        let lies_in_ram = |part: &Range| used().any(|ram| ram.base <= part.base && end(*part) <= end(*ram));
        if !lies_in_ram(&image) {
            return Err("the engine does not lie in RAM");
        }
        let ram_base = lowest / GIB * GIB;
        let gib = (highest - ram_base).div_ceil(GIB);
        if highest > 1 << layout::PHYSICAL_BITS || gib * GIB / PAGE > layout::FRAMES_MAX {
            return Err("RAM is out of reach: it must lie below 64 TiB and span at most 1 TiB");
        }
        let pages = FIXED_PAGES + gib * PAGES_PER_GIB + cpus * PAGES_PER_CPU;
        let size = gib * BLOCK + (pages * PAGE).next_multiple_of(BLOCK);
        let largest = used().max_by_key(|range| range.size).copied().unwrap_or_default();
        let avoid = || keep.iter().chain(&reserved).chain([&image]);
        let reservation = highest_fit(largest, size, avoid).ok_or("there is too little RAM for the engine")?;
        Ok(Self { ram, reserved, image, ram_base, gib, reservation })
    }

    /// First address after all that has a record.
    pub fn top(&self) -> u64 {
        self.ram_base + (self.gib << 30)
    }

    /// Number of blocks that have a record.
    pub fn blocks(&self) -> u64 {
        self.gib * (GIB / BLOCK)
    }

    /// Physical range of a block.
    pub fn block(&self, block: u64) -> Range {
        Range { base: self.ram_base + block * BLOCK, size: BLOCK }
    }

    /// Whether a block is the host's.
    pub fn is_host(&self, block: u64) -> bool {
        let block = self.block(block);
        let inside = |range: &Range| range.base <= block.base && end(block) <= end(*range);
        let mut taken = self.reserved.iter().chain([&self.image, &self.reservation]);
        self.ram.iter().any(inside) && !taken.any(|range| overlap(block, *range))
    }

    /// Whether all of a range lies in blocks that are the host's.
    pub fn host_has(&self, range: Range) -> bool {
        let Some(start) = range.base.checked_sub(self.ram_base) else { return false };
        let blocks = start / BLOCK..(start + range.size).div_ceil(BLOCK);
        blocks.end <= self.blocks() && { blocks }.all(|block| self.is_host(block))
    }

    /// Blocks that are the host's.
    pub fn host_blocks(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.blocks()).filter(|block| self.is_host(*block))
    }

    /// The host's RAM as ranges; Err if there are more than fit.
    pub fn host_ranges(&self) -> Result<[Range; HOST_RANGES], &'static str> {
        let mut ranges = [Range::default(); HOST_RANGES];
        let mut used = 0;
        for block in self.host_blocks().map(|block| self.block(block)) {
            if used > 0 && end(ranges[used - 1]) == block.base {
                ranges[used - 1].size += block.size;
            } else {
                *ranges.get_mut(used).ok_or("the host's RAM is in too many pieces")? = block;
                used += 1;
            }
        }
        Ok(ranges)
    }

    /// The lowest `size` bytes in whole host blocks that touch none of the ranges in `keep`.
    pub fn find(&self, size: u64, keep: &[Range]) -> Option<Range> {
        let fits = |first: &u64| {
            let candidate = Range { base: self.block(*first).base, size: size.next_multiple_of(BLOCK) };
            let last = first + candidate.size / BLOCK;
            (*first..last).all(|block| self.is_host(block)) && !keep.iter().any(|range| overlap(*range, candidate))
        };
        let first = (0..self.blocks()).find(fits)?;
        Some(Range { base: self.block(first).base, size })
    }
}

/// The highest `size` bytes of `range` at a multiple of 2 MiB that touch nothing of `avoid`.
fn highest_fit<'a, I: Iterator<Item = &'a Range>>(range: Range, size: u64, avoid: impl Fn() -> I) -> Option<Range> {
    let mut top = end(range) / BLOCK * BLOCK;
    loop {
        let base = top.checked_sub(size)?;
        let candidate = Range { base, size };
        if base < range.base {
            return None;
        }
        match avoid().find(|other| overlap(candidate, **other)) {
            None => return Some(candidate),
            Some(other) => top = other.base / BLOCK * BLOCK,
        }
    }
}

/// Physical addresses of what the reservation holds besides records.
pub struct Reserved {
    /// Level 2 array of the host's stage 2.
    pub host_level2: u64,
    /// Level 0 table of the devices' stage 2, with everything down to its level 2 array.
    pub dma_root: u64,
    /// The SMMU's stream table.
    pub streams: u64,
}

/// Maps and zeroes the reservation, gives its pages to `tables`, and maps the arrays.
pub fn reserve(plan: &Plan, tables: &mut Tables) -> Reserved {
    let Range { base, size } = plan.reservation;
    tables.map(layout::RAM + base, base, size, Access::Data);
    // SAFETY: the reservation is RAM that nobody uses, mapped by the line above.
    unsafe { core::ptr::write_bytes((layout::RAM + base) as *mut u8, 0, size as usize) };
    let frames = plan.gib * BLOCK;
    tables.refill(base + frames, base + size);
    // First, because what follows the frame records is aligned to a block.
    let streams = tables.take(STREAM_PAGES);
    tables.map(layout::FRAMES, base, frames, Access::Data);
    let blocks = tables.take(plan.gib);
    tables.map(layout::BLOCKS, blocks, plan.gib * PAGE, Access::Data);
    let host_level2 = tables.take(plan.gib);
    tables.map(layout::HOST_L2, host_level2, plan.gib * PAGE, Access::Data);
    let dma_level2 = tables.take(plan.gib);
    tables.map(layout::DMA_L2, dma_level2, plan.gib * PAGE, Access::Data);
    let dma_root = tables.take(1);
    hang(plan, dma_root, dma_level2, tables);
    Reserved { host_level2, dma_root, streams }
}

/// Puts the level 2 array at `level2` below the level 0 table `root`, for all of the span.
pub fn hang(plan: &Plan, root: u64, level2: u64, tables: &mut Tables) {
    for gib in 0..plan.gib {
        tables.set(root, plan.ram_base + (gib << 30), 1, (level2 + gib * PAGE) | TABLE);
    }
}

/// Maps the stacks and the context page of a CPU; what lies between stays unmapped.
pub fn map_cpu(cpu: u64, tables: &mut Tables) {
    let area = layout::PERCPU + cpu * layout::PERCPU_STRIDE;
    for (offset, size) in [
        (layout::PERCPU_EMERGENCY_STACK, layout::EMERGENCY_STACK_SIZE),
        (layout::PERCPU_STACK, layout::STACK_SIZE),
        (layout::PERCPU_CONTEXT, layout::CONTEXT_SIZE),
    ] {
        let pages = tables.take(size / PAGE);
        tables.map(area + offset, pages, size, Access::Data);
    }
}

/// Writes the block records, and makes the RAM window show the host's blocks.
pub fn record_blocks(plan: &Plan, tables: &mut Tables) {
    for block in plan.host_blocks() {
        let base = plan.block(block).base;
        tables.map(layout::RAM + base, base, BLOCK, Access::Data);
        set_block_record(block, Record::HOST);
    }
}

/// Makes the RAM window show all blocks that a range touches.
pub fn show(range: Range, tables: &mut Tables) {
    let base = range.base / BLOCK * BLOCK;
    tables.map(layout::RAM + base, base, (end(range) - base).next_multiple_of(BLOCK), Access::Data);
}

/// Removes the blocks that a range touches from the RAM window, unless they are the host's.
pub fn hide(range: Range, plan: &Plan, tables: &mut Tables) {
    let mut base = range.base / BLOCK * BLOCK;
    while base < end(range) {
        if !plan.host_has(Range { base, size: BLOCK }) {
            tables.unmap_block(layout::RAM + base);
        }
        base += BLOCK;
    }
}

/// Changes the record of a block; boot only.
pub fn set_block_record(block: u64, record: Record) {
    // SAFETY: the BLOCKS window holds a word for each block of the plan; only the boot CPU runs.
    unsafe { ((layout::BLOCKS + block * 8) as *mut u64).write_volatile(record.0) };
}

/// Zeroes what a block of the host holds besides the ranges in `kept`.
pub fn zero_gaps(block: Range, kept: &[Range]) {
    let mut at = block.base;
    while at < end(block) {
        let inside = kept.iter().find(|range| range.base <= at && at < end(**range));
        at = inside.map_or_else(
            || {
                let next = kept.iter().map(|range| range.base).filter(|base| *base > at).min();
                let gap = next.unwrap_or(end(block)).min(end(block)) - at;
                // SAFETY: the RAM window shows the block, which is the host's; the host does not run yet.
                unsafe { core::ptr::write_bytes((layout::RAM + at) as *mut u8, 0, gap as usize) };
                at + gap
            },
            |range| end(*range),
        );
    }
    // SAFETY: as above.
    unsafe { cache::clean_invalidate(layout::RAM + block.base, block.size) };
}
