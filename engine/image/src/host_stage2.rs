//! The host's stage 2: identity, RAM in 2 MiB blocks, device pages of the allow-list, the configuration pages of listed
//! PCIe functions and the window of their BARs. Trust label: TRUSTED.
//!
//! Four levels from level 0. The level 2 entries of RAM are one flat array (HOST_L2), which the engine's decisions
//! read and write; levels 0 and 1 and the tables of devices never change after boot. Source: Arm ARM DDI 0487,
//! D8.3.1 and D8.5.5 (stage 2 attributes).

use bulkhead_abi::Range;
use bulkhead_arch::layout;
use bulkhead_core::addr::{Block, TABLE_ENTRIES};
use bulkhead_core::owner::Record;
use bulkhead_core::stage2;

use crate::early::Area;
use crate::memory::{self, Plan, overlap, set_block_record};
use crate::pcie::Listed;
use crate::platform::{self, Device};
use crate::tables::{BLOCK, PAGE, TABLE, Tables};

/// Level 0 table of the host's stage 2.
pub static HOST_ROOT: Area<4096> = Area::new();

/// Stage 2 leaf for a device page: Device-nGnRE, read-write, accessed, never executable.
const DEVICE_PAGE: u64 = DEVICE_BLOCK | 3;
/// The same for a block of device addresses.
const DEVICE_BLOCK: u64 = 1 << 54 | 1 << 10 | 3 << 6 | 1 << 2 | 1;

/// Builds the tables below `root`, the physical address of [`HOST_ROOT`].
pub fn build(plan: &Plan, root: u64, host_level2: u64, cpus: u64, tables: &mut Tables) {
    memory::hang(plan, root, host_level2, tables);
    for block in plan.host_blocks() {
        set_level2(block, plan.block(block).base | stage2::BLOCK);
    }
    for device in &platform::HOST_DEVICES {
        map_device(device, root, cpus, tables);
    }
}

/// Gives the host the configuration pages of its PCIe functions, if it has any, and the addresses of their BARs.
pub fn map_functions(listed: &Listed, root: u64, tables: &mut Tables) {
    for page in listed.pages() {
        tables.set(root, page, 3, page | DEVICE_PAGE);
    }
    if listed.functions().next().is_some() {
        let Device { base, size, .. } = platform::PCIE_MMIO;
        for block in 0..size / BLOCK {
            let address = base + block * BLOCK;
            tables.set(root, address, 2, address | DEVICE_BLOCK);
        }
    }
}

fn map_device(device: &Device, root: u64, cpus: u64, tables: &mut Tables) {
    let instances = if device.stride == 0 { 1 } else { cpus };
    for instance in 0..instances {
        for page in 0..device.size / PAGE {
            let address = device.base + instance * device.stride + page * PAGE;
            tables.set(root, address, 3, address | DEVICE_PAGE);
        }
    }
}

/// Withholds every block of the host that holds nothing of `kept` until its first touch zeroes it, and zeroes what the
/// other blocks hold beside: whatever was in RAM before the boot, the host never sees it.
pub fn withhold(plan: &Plan, kept: &[Range]) {
    for block in plan.host_blocks() {
        if kept.iter().any(|range| overlap(*range, plan.block(block))) {
            memory::zero_gaps(plan.block(block), kept);
        } else {
            set_level2(block, 0);
            set_block_record(block, Record::UNCLEARED);
        }
    }
}

/// Splits the host block at `range`, so that the host can give away frames at all: the block's own first frame
/// becomes its level 3 table, as if it had been donated; the others are zero.
pub fn split(plan: &Plan, range: Range) {
    let block = (range.base - plan.ram_base) / BLOCK;
    let first_record = layout::FRAMES + block * TABLE_ENTRIES * 8;
    let table = layout::RAM + range.base;
    memory::zero_gaps(range, &[]);
    for slot in 0..TABLE_ENTRIES {
        let (record, leaf) = if slot == 0 {
            (Record::host_table(Block(block)), 0)
        } else {
            (Record::HOST, (range.base + slot * PAGE) | stage2::PAGE)
        };
        // SAFETY: the record array and the RAM window cover the block, which nobody uses yet.
        unsafe {
            ((first_record + slot * 8) as *mut u64).write_volatile(record.0);
            ((table + slot * 8) as *mut u64).write_volatile(leaf);
        }
    }
    set_block_record(block, Record::SPLIT);
    set_level2(block, range.base | TABLE);
}

fn set_level2(block: u64, descriptor: u64) {
    // SAFETY: the HOST_L2 window holds a word for each block of the plan; only the boot CPU runs.
    unsafe { ((layout::HOST_L2 + block * 8) as *mut u64).write_volatile(descriptor) };
}
